#!/usr/bin/env python3
"""Checks the map: every path that ARCHITECTURE.md names exists, and every folder of src/ is named there.

usage: check_docs.py [--self-test]

A path is a `code span` with a slash or a known ending; `a/b.h/.cc` stands for both files, `*` for any name. Paths are
looked up from the root, then from src/.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PATH = re.compile(r"`([\w.*-]*(?:/[\w.*-]*)+|[\w*-]+\.(?:md|sh|h|cc|py|json|txt|cmake))`")


def expand(path):
    match = re.fullmatch(r"(.*)(\.\w+)/(\.\w+)", path)
    return [match[1] + match[2], match[1] + match[3]] if match else [path]


def problems(text, exists, folders):
    for path in (p for span in PATH.findall(text) for p in expand(span)):
        if not path.startswith("/") and not exists(path) and not exists("src/" + path):
            yield f"ARCHITECTURE.md names `{path}`, which does not exist"
    for folder in folders:
        if f"{folder}/" not in text:
            yield f"ARCHITECTURE.md does not name src/{folder}/"


def self_test():
    files = {"src/base", "src/base/", "src/base/a.h", "src/base/a.cc"}
    cases = {("`src/base/` holds `base/a.h/.cc`", 0), ("`src/base/` holds `base/b.h`", 1), ("nothing", 1)}
    return [f"self-test: {text}: expected {n} problems" for text, n in cases
            if len(list(problems(text, files.__contains__, ["base"]))) != n]


def main(arguments):
    if "--self-test" in arguments:
        found = self_test()
    else:
        folders = sorted(p.name for p in (ROOT / "src").iterdir() if p.is_dir() and any(p.rglob("*.*")))
        found = list(problems((ROOT / "ARCHITECTURE.md").read_text(), lambda path: any(ROOT.glob(path.rstrip("/"))), folders))
    print("\n".join(found) if found else "check_docs: ok")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
