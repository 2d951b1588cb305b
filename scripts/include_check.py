#!/usr/bin/env python3
"""Checks the includes: layer order, where third-party headers may appear, and the order inside a file.

usage: include_check.py [--self-test]

- A folder of src/ may include only itself and the folders before it in LAYERS.
- A third-party header may be included only by the files that LIBRARIES names: one file per library where possible.
- Inside a file: own header (in a test: the one under test), standard headers, third party, ours.
"""
import fnmatch
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LAYERS = ["base", "gguf", "ops", "backends", "model", "quant", "text", "chat", "constrain", "session", "engine", "server", "tools"]

# header pattern -> files that may include it (fnmatch patterns)
LIBRARIES = {
    "fmt/*": ["src/*.h", "src/*.cc", "tests/*"],
    "cuda.h": ["src/backends/cuda/*"],
    "cuda_fp16.h": ["src/backends/cuda/*"],
    "cuda_runtime*.h": ["src/backends/cuda/*", "tests/cuda/*"],
    "boost/*": ["src/server/http_*", "tests/*"],
    "openssl/*": ["src/server/http_*", "src/server/sealed_text.cc", "tests/*"],
    "nlohmann/*": ["src/server/*.cc", "src/chat/python_json.cc", "src/text/tokenizer_json.cc", "src/quant/*.cc",
                   "src/tools/*", "tests/*"],
    "CLI/*": ["src/tools/common/options.cc", "src/tools/*/main.cc"],
    "histedit.h": ["src/tools/cli/line_editor.cc"],
    "xxh*.h": ["src/session/hash.cc"],
    "pcre2.h": ["tests/text/*"],
    "gtest/*": ["tests/*"],
    "gmock/*": ["tests/*"],
}
SYSTEM = re.compile(r"[a-z0-9_]+|(?:sys|linux|arpa|netinet)/\w+\.h|\w*intrin\.h|arm_neon\.h|"
                    r"(?:unistd|dirent|langinfo|locale|fcntl|signal|termios|poll|time|stdio|stdlib|string|errno|math|pthread|sched|netdb)\.h")
INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]', re.M)


def problems(name, text, exists=lambda path: (ROOT / path).exists()):
    """All problems of the file `name` (relative to the root)."""
    folder, layer = name.split("/")[0], name.split("/")[1]
    includes = INCLUDE.findall(text)
    own = re.sub(r"\.cc$", ".h", name).removeprefix("src/")
    if folder == "src" and name.endswith(".cc") and exists("src/" + own) and (not includes or includes[0][1] != own):
        yield f"{name}: the first include must be its own header \"{own}\""
    ours = False
    for i, (quote, header) in enumerate(includes):
        if quote == '"':
            ours = ours or i > 0 or (folder == "src" and header != own)
            target = header.split("/")[0]
            if not exists(f"src/{header}") and not (folder == "tests" and exists(f"tests/{header}")):
                yield f"{name}: \"{header}\" does not exist; paths start at src/"
            elif folder == "src" and layer in LAYERS and target in LAYERS and LAYERS.index(target) > LAYERS.index(layer):
                yield f"{name}: {layer}/ may not include \"{header}\": {target}/ comes later ({' '.join(LAYERS)})"
            continue
        if ours:
            yield f"{name}: <{header}> must stand before our own headers"
        allowed = next((files for pattern, files in LIBRARIES.items() if fnmatch.fnmatch(header, pattern)), None)
        if allowed is None and not SYSTEM.fullmatch(header):
            yield f"{name}: <{header}> belongs to a library that scripts/include_check.py does not know"
        elif allowed is not None and not any(fnmatch.fnmatch(name, pattern) for pattern in allowed):
            yield f"{name}: <{header}> may be included only by {', '.join(allowed)}"


def self_test():
    files = {"src/base/error.h", "src/engine/engine.h", "src/model/forward.h"}
    bad = {
        "layer order": ("src/model/forward.cc", '#include "model/forward.h"\n#include "engine/engine.h"\n'),
        "third party": ("src/model/forward.h", "#include <boost/asio.hpp>\n"),
        "unknown library": ("src/model/forward.h", "#include <eigen/core.h>\n"),
        "own header": ("src/model/forward.cc", '#include "base/error.h"\n'),
        "order": ("src/model/forward.h", '#include "base/error.h"\n#include <vector>\n'),
        "path": ("src/model/forward.h", '#include "error.h"\n'),
    }
    good = ("src/engine/engine.cc", '#include "engine/engine.h"\n\n#include <sys/mman.h>\n\n#include <vector>\n\n'
            '#include <fmt/format.h>\n\n#include "base/error.h"\n#include "model/forward.h"\n')
    def check(case):
        return list(problems(*case, exists=lambda path: path in files))
    failures = [f"self-test: bad {what}: {check(case) or 'not found'}" for what, case in bad.items() if len(check(case)) != 1]
    return failures + [f"self-test: {p}" for p in check(good)]


def main(arguments):
    found = self_test() if "--self-test" in arguments else [
        p for d in ("src", "tests") for path in sorted((ROOT / d).rglob("*"))
        if path.suffix in {".h", ".cc"} and "node_modules" not in path.parts
        for p in problems(path.relative_to(ROOT).as_posix(), path.read_text())]
    print("\n".join(found) if found else "include_check: ok")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
