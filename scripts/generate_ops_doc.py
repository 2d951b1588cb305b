#!/usr/bin/env python3
"""Writes docs/ops.md from the contracts in src/ops/ops.h and the tolerances in src/ops/cases_*.cc.

usage: generate_ops_doc.py [--check | --self-test]     --check: fails when docs/ops.md is not what would be written

A contract is the comment before a method of Ops; a tolerance is a comment "Tolerance of OP, OP: why" in the op table.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "ops.md"
INTRODUCTION = """# Ops

Generated from `src/ops/ops.h` and the op table (`src/ops/cases_*.cc`) by `scripts/generate_ops_doc.py`. "spec" sections are
those of [numerics.md](numerics.md). Tolerances are against the reference in double, fed the same bytes, in units of 2^-24.
"""
METHOD = re.compile(r"((?:^ *//[^\n]*\n)+) *virtual void (\w+)\(([^;]*?)\)(?: = 0)?;", re.M)
STRUCT = re.compile(r"^struct (\w+) \{\n.*?^\};\n", re.M | re.S)
TOLERANCE = re.compile(r"((?:^ *//[^\n]*\n)*?)((?: *// Tolerance of )[^\n]*\n(?: *//[^\n]*\n)*)", re.M)


def text_of(comment):
    return " ".join(line.strip().removeprefix("//").strip() for line in comment.strip().splitlines())


def contracts(header):
    """(name, arguments, text) of every op in order."""
    for comment, name, arguments in METHOD.findall(header[header.index("class Ops {"):]):
        yield name, " ".join(arguments.split()), text_of(comment)


def tolerances(sources):
    """op -> text"""
    found = {}
    for source in sources:
        for _, comment in TOLERANCE.findall(source):
            names, reason = text_of(comment).removeprefix("Tolerance of ").split(":", 1)
            for name in names.split(","):
                found[name.strip()] = reason.strip()
    return found


def page(header, sources):
    structs = {match[1]: match[0].rstrip() for match in STRUCT.finditer(header)}
    reasons = tolerances(sources)
    conventions = re.search(r"^// Conventions\. (.*?)\n\n", header, re.M | re.S)[1]
    parts = [INTRODUCTION, text_of(conventions) + "\n"]
    shown = set()
    for name, arguments, contract in contracts(header):
        parts.append(f"## {name}\n\n`{name}({arguments})`\n\n{contract}\n\nTolerance: {reasons.get(name, 'none; bitwise.')}\n")
        for struct in re.findall(r"\b(?:const )?(\w+)&", arguments):
            if struct in structs and struct not in shown:
                shown.add(struct)
                parts.append(f"```c++\n{structs[struct]}\n```\n")
    unknown = set(reasons) - {name for name, _, _ in contracts(header)}
    if unknown:
        sys.exit(f"tolerances of unknown ops: {', '.join(sorted(unknown))}")
    return "\n".join(parts)


def self_test():
    header = ("// Conventions. Rows\n// come first.\n\nstruct XArgs {\n  int a;\n};\n\nclass Ops {\n  // Adds.\n  // Twice.\n"
              "  virtual void x(const XArgs& args,\n                 int n) = 0;\n  virtual ~Ops();\n  // Fused.\n"
              "  virtual void y(int n);\n};\n")
    written = page(header, ["f();\n// Tolerance of x, y: one\n// unit.\nint g();\n"])
    wanted = ["Rows come first.", "## x", "`x(const XArgs& args, int n)`", "Adds. Twice.", "Tolerance: one unit.\n", "  int a;",
              "## y", "Fused."]
    return [f"self-test: {text!r} is missing" for text in wanted if text not in written]


def main(arguments):
    if "--self-test" in arguments:
        failures = self_test()
        print("\n".join(failures) if failures else "generate_ops_doc: ok")
        return 1 if failures else 0
    ops = ROOT / "src" / "ops"
    text = page((ops / "ops.h").read_text(), [p.read_text() for p in sorted(ops.glob("cases_*.cc"))])
    if "--check" not in arguments:
        PAGE.write_text(text)
    elif not PAGE.exists() or PAGE.read_text() != text:
        print("docs/ops.md is not current: run scripts/generate_ops_doc.py")
        return 1
    print("generate_ops_doc: ok")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
