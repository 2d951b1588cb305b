#!/usr/bin/env python3
"""Checks the size limits of CONTRIBUTING.md: lines of a file, a header, a function; parameters of a function.

usage: size_check.py [--self-test] [FILE...]     without files: everything under src/ and tests/

A file with `// size-check: data` in its first 10 lines holds a table and has no limit. A header with `// size-check:
templates` holds code that each user compiles for itself: it has the limit of a file. Functions are found by
scanning braces, not by a compiler: good enough for code in the project's own format.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
SUFFIXES = {".h", ".cc", ".cu", ".cuh", ".metal", ".mm"}
KERNEL_SUFFIXES = {".cu", ".cuh", ".metal"}
MAX_FILE, MAX_HEADER, MAX_FUNCTION, MAX_KERNEL, MAX_PARAMETERS = 600, 250, 70, 200, 6
LONG_HEADERS = {"ops.h"}

LITERALS = re.compile(
    r'//[^\n]*|/\*.*?\*/|R"(?P<tag>[^\s()\\]{0,16})\(.*?\)(?P=tag)"|"(?:\\.|[^"\\\n])*"|(?<!\w)\'(?:\\.|[^\'\\\n])+\'', re.S)
PREPROCESSOR = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.M)
SPECIFIERS = r"(?:\s*(?:const|override|final|mutable|try|&&?|noexcept(?:\s*\([^()]*\))?|->[\w\s:<>,&*]+))*"
BODY = re.compile(r"\)" + SPECIFIERS + r"\s*$")
DECLARATION = re.compile(r"\)" + SPECIFIERS + r"\s*(?:=\s*(?:0|default|delete)\s*)?$")
CONSTRUCTOR_BODY = re.compile(r"\)(?:\s*noexcept)?\s*:\s*[A-Za-z_][^=?]*[)}]\s*$", re.S)
MEMBER_INITIALISER = re.compile(r"\)(?:\s*noexcept)?\s*:\s[^=?]*\w\s*$", re.S)
ACCESS = re.compile(r"\s*(?:public|private|protected)\s*:")
NOT_A_NAME = re.compile(r"\b(?:decltype|noexcept|explicit|alignas|requires|__attribute__|__launch_bounds__)\s*\($")


def blank(match):
    """Keeps line numbers while literals and comments vanish."""
    return re.sub(r"[^\n]", " ", match.group())


def parameters(header):
    """Number of parameters in the first parameter list of a declaration, or None."""
    start = 0
    for start in (m.end() for m in re.finditer(r"[\w\])>=!+\-*/%<]\s*\(", header)):
        if not NOT_A_NAME.search(header[:start]):
            break
    else:
        return None
    depth, angle, commas = 1, 0, 0
    for i in range(start, len(header)):
        c = header[i]
        depth += (c in "([{") - (c in ")]}")
        angle = max(0, angle + (c == "<") - (c == ">" and header[i - 1] != "-"))
        if depth == 0:
            return commas + 1 if header[start:i].strip() not in ("", "void") else 0
        commas += c == "," and depth == 1 and angle == 0
    return None


def name_of(header):
    return (header.split("(")[0].split() or ["?"])[-1]


def functions(text):
    """Yields (name, first line, last line or None for a declaration, parameters or None)."""
    text = PREPROCESSOR.sub(blank, LITERALS.sub(blank, text))
    stack, header, header_at, parens, line = [], "", 1, 0, 1
    function_depth = None
    for c in text:
        line += c == "\n"
        if function_depth is None:
            parens += (c == "(") - (c == ")")
        inside = function_depth is not None
        if c == "{":
            is_body = (not inside and parens == 0 and not MEMBER_INITIALISER.search(header)
                       and (BODY.search(header) or CONSTRUCTOR_BODY.search(header)) is not None)
            keep = not inside and not is_body and (parens > 0 or MEMBER_INITIALISER.search(header) is not None)
            stack.append((header, header_at, is_body, keep))
            if is_body:
                function_depth = len(stack)
            header = header + c if keep else "" if not inside else header
        elif c == "}" and stack:
            opened, opened_at, is_body, keep = stack.pop()
            if is_body:
                function_depth = None
                yield name_of(opened), opened_at, line, parameters(opened)
            if not inside or is_body:
                header = header + c if keep else ""
        elif inside:
            continue
        elif c == ";" and parens == 0:
            if DECLARATION.search(header) and "=" not in header.split("(")[0]:
                yield name_of(header), header_at, None, parameters(header)
            header = ""
        else:
            if not header.strip() or ACCESS.fullmatch(header):
                header, header_at = "", line
            header += c


def problems(path, text):
    lines = text.split("\n")
    if any("size-check: data" in line for line in lines[:10]):
        return
    count = len(lines) - 1
    if count > MAX_FILE:
        yield f"{path}: {count} lines, the limit is {MAX_FILE}"
    elif (path.suffix == ".h" and count > MAX_HEADER and path.name not in LONG_HEADERS
          and not any("size-check: templates" in line for line in lines[:10])):
        yield f"{path}: {count} lines, the limit of a header is {MAX_HEADER}"
    limit = MAX_KERNEL if path.suffix in KERNEL_SUFFIXES else MAX_FUNCTION
    for name, first, last, n_parameters in functions(text):
        if last is not None and last - first + 1 > limit:
            yield f"{path}:{first}: {name}: {last - first + 1} lines, the limit of a function is {limit}"
        if n_parameters is not None and n_parameters > MAX_PARAMETERS and path.suffix not in KERNEL_SUFFIXES:
            yield f"{path}:{first}: {name}: {n_parameters} parameters, the limit is {MAX_PARAMETERS}"


def self_test():
    body = "  f();\n" * 80
    bad = {
        "file": ("a.cc", "int x;\n" * 601),
        "header": ("a.h", "int x;\n" * 251),
        "function": ("a.cc", "namespace a {\nint f(int x) {\n" + body + "}\n}\n"),
        "method": ("a.cc", 'struct A {\n  auto f(const char* s = "{") const -> int {\n' + body + "  }\n};\n"),
        "test": ("a.cc", "TEST(A, B) {\n" + body + "}\n"),
        "constructor": ("a.cc", "A::A(int x) : x_(x), y_{x} {\n" + body + "}\n"),
        "parameters": ("a.cc", "void f(int a, int b, int c, std::map<int, int> d, int e, int f, int g) {}\n"),
        "declaration": ("a.h", "class A {\n  virtual void f(int a, int b, int c, int d, int e, int f, int g) = 0;\n};\n"),
    }
    good = [
        ("a.cc", "// size-check: data\n" + "int x;\n" * 700),
        ("a.cc", "constexpr int kTable[] = {\n" + "  1,\n" * 80 + "};\n"),
        ("a.cc", "struct A {\n" + "  int f(int x) { return x; }\n" * 80 + "};\n"),
        ("a.cc", "void f(std::map<int, int> a, std::map<int, int> b, std::map<int, int> c, int d = g(1, 2, 3)) {}\n"),
        ("ops.h", "int x;\n" * 300),
    ]
    failures = [f"self-test: bad {what} was not found" for what, (path, text) in bad.items()
                if len(list(problems(pathlib.Path(path), text))) != 1]
    failures += [f"self-test: {p}" for path, text in good for p in problems(pathlib.Path(path), text)]
    return failures


def main(arguments):
    if "--self-test" in arguments:
        found = self_test()
    else:
        paths = [pathlib.Path(a) for a in arguments] or [p for d in ("src", "tests") for p in sorted((ROOT / d).rglob("*"))]
        paths = [p for p in paths if p.suffix in SUFFIXES and "node_modules" not in p.parts]
        found = [p.removeprefix(f"{ROOT}/") for path in paths for p in problems(path, path.read_text())]
    print("\n".join(found) if found else "size_check: ok")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
