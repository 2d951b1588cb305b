#!/usr/bin/env python3
"""Measures a checkpoint under every recipe against its BF16 file and prints the table of docs/quality.md.

usage: quality.py CHECKPOINT [--bin FOLDER] [--work FOLDER] [--update]

--bin     folder of the programs (build/dev/bin)
--work    where the model files go; kept, so that an interrupted run goes on (a temporary folder)
--update  write the table into docs/quality.md

The importance matrix comes from tests/data/quality/calibration*.txt, the scores from tests/data/quality/score.txt.
"""
import argparse
import json
import pathlib
import re
import shlex
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
TEXTS = pathlib.Path("tests/data/quality")
PAGE = ROOT / "docs" / "quality.md"
MARKER = "<!-- table: bench/quality.py -->\n"
# Recipe, and whether importance changes it.
RECIPES = [("bf16", False), ("q8", False), ("mxfp4", True), ("q4", True), ("dense4", True), ("mixed", True), ("q2k", True),
           ("stock", True), ("q2", True)]


def run(arguments):
    print("+", shlex.join(arguments), file=sys.stderr)
    return subprocess.run(arguments, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def amount(listing):
    """Bytes and bits per weight of all tensors but token tables, from `ds4-gguf inspect --tensors`."""
    size = weights = 0
    for kind, shape, n_bytes in re.findall(r"^  \S+ +(\w+) +\[([\d, ]+)\] +(\d+) bytes at", listing, re.M):
        if kind == "I32":
            continue
        count = 1
        for extent in shape.split(","):
            count *= int(extent)
        size, weights = size + int(n_bytes), weights + count
    return size, 8 * size / weights


def row(recipe, importance, size, bits, score):
    low, high = score["candidate_perplexity"]["ppl_95"]
    ratio = score["ppl_ratio_95"]
    top1 = score["top1_95"]
    kl_half = score["kl"]["mean_95"][1] - score["kl"]["mean"]
    return (f"| {recipe} | {importance} | {size / 1e6:.1f} | {bits:.2f} | {score['candidate_perplexity']['ppl']:.2f} "
            f"({low:.2f} to {high:.2f}) | {score['ppl_ratio']:.4f} ({ratio[0]:.4f} to {ratio[1]:.4f}) "
            f"| {score['kl']['mean']:.4f} +- {kl_half:.4f} | {score['kl']['p99']:.3f} "
            f"| {100 * score['top1']:.1f} ({100 * top1[0]:.1f} to {100 * top1[1]:.1f}) |")


def measure(options, work):
    gguf, score = str(options.bin / "ds4-gguf"), str(options.bin / "ds4-score")
    best, importance, reference = work / "bf16.gguf", work / "importance.gguf", work / "reference.gguf"
    if not best.exists():
        run([gguf, "convert", str(options.checkpoint), str(best), "--recipe", "bf16"])
    if not importance.exists():
        run([gguf, "imatrix", str(best), "--text", str(TEXTS / "calibration.txt"), str(TEXTS / "calibration_chat.txt"),
             "--ctx", "1024", "--out", str(importance)])
    if not reference.exists():
        run([score, "save", str(best), "--text", str(TEXTS / "score.txt"), "--ctx", "1024", "--stride", "512", "--out",
             str(reference)])
    lines = ["| recipe | importance | MB | bits per weight | perplexity | ratio to BF16 | KL | KL 99 % | same best token % |",
             "|---|---|---:|---:|---:|---:|---:|---:|---:|"]
    for recipe, uses_importance in RECIPES:
        for with_importance in ([False, True] if uses_importance else [False]):
            name = recipe + ("-importance" if with_importance else "")
            path = work / f"{name}.gguf"
            if not path.exists():
                run([gguf, "quantize", str(best), str(path), "--recipe", recipe] +
                    (["--imatrix", str(importance)] if with_importance else []))
            size, bits = amount(run([gguf, "inspect", "--tensors", str(path)]))
            found = json.loads(run([score, "compare", str(path), "--reference", str(reference), "--json"]))
            lines.append(row(recipe, "yes" if with_importance else "", size, bits, found))
            print(lines[-1], file=sys.stderr)
    return "\n".join(lines) + "\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("checkpoint", type=lambda text: pathlib.Path(text).resolve())
    parser.add_argument("--bin", type=lambda text: pathlib.Path(text).resolve(), default=ROOT / "build" / "dev" / "bin")
    parser.add_argument("--work", type=lambda text: pathlib.Path(text).resolve())
    parser.add_argument("--update", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = options.work or pathlib.Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        table = measure(options, work)
    print(table, end="")
    if options.update:
        before, _, after = PAGE.read_text().split(MARKER)
        PAGE.write_text(before + MARKER + table + MARKER + after)


if __name__ == "__main__":
    main()
