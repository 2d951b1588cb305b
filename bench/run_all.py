#!/usr/bin/env python3
"""Measures every figure that this project claims about its speed and compares it with its target.

usage: run_all.py --bin DIR [--threads N] [--folder DIR] [--checkpoint DIR] [--layers N] [--keep] [--only mini|flash]

run_all.sh calls it. The model files are made in --folder and removed afterwards (--keep leaves them). The result is
bench/results/DATE-CPU.md for people and .json with everything that was measured.
"""
import argparse
import datetime
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import compare

ROOT = pathlib.Path(__file__).resolve().parent.parent
MINI_RECIPES = ("q8", "q4", "q2")
SEQUENCES = (1, 2, 4, 8, 16, 32)
GIB = 2**30


class Run:
    """The programs, the folder of the models, and what was measured so far."""

    def __init__(self, args):
        self.args = args
        self.folder = pathlib.Path(args.folder)
        self.made = []  # files to remove at the end
        self.results = {}
        self.claims = []  # (figure, measured, target, met)

    def file(self, name):
        self.made.append(self.folder / name)
        return self.made[-1]

    def program(self, name, *arguments):
        command = [f"{self.args.bin}/{name}", *map(str, arguments)]
        print("+", *command, file=sys.stderr)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    def load(self, path):
        """Results name models by their file, wherever the folder was."""
        return json.loads(path.read_text().replace(f"{self.folder}/", ""))

    def bench(self, name, *arguments):
        """Runs ds4-bench; its JSON, kept under `name`."""
        out = self.file("bench.json")
        self.program("ds4-bench", "-t", self.args.threads, "--json", out, *arguments)
        self.results[name] = self.load(out)
        return self.results[name]

    def claim(self, figure, measured, unit, target):
        self.claims.append((figure, f"{measured:.2f} {unit}", f">= {target:g} {unit}", measured >= target))

    def drop_from_cache(self, path):
        subprocess.run(["dd", f"if={path}", "iflag=nocache", "count=0"], check=True, stderr=subprocess.DEVNULL)

    def compare(self, name, model, *options):
        out = self.file("compare.json")
        subprocess.run([ROOT / "bench/compare_llama_cpp.sh", self.args.bin, "--threads", str(self.args.threads), "--json",
                        out, *options, model], check=True, stdout=subprocess.DEVNULL)
        self.results[name] = self.load(out)[0]
        return {row["figure"]: row for row in self.results[name]["rows"]}


def measure_mini(run):
    targets = {("q4", "decode"): 2, ("q8", "decode"): 2, ("q8", "prefill 2048"): 4, ("q2", "prefill 2048"): 4}
    for recipe in MINI_RECIPES:
        model = run.file(f"mini-{recipe}.gguf")
        # llama.cpp refuses the draft layer, which only a conversion can leave out; the same shapes do without one.
        if pathlib.Path(run.args.checkpoint).is_dir():
            run.program("ds4-gguf", "quantize", run.args.checkpoint, model, "--recipe", recipe, "--no-mtp", "--restart")
        else:
            run.program("ds4-bench", "--synthetic", "mini", "--recipe", recipe, "--save", model, "--prefill", 1,
                        "--no-limits")
        rows = run.compare(f"compare mini {recipe}", model, "--rounds", "3")
        for figure, row in rows.items():
            if (recipe, figure) in targets:
                run.claim(f"{figure}, ds4-mini {recipe}, against llama.cpp", row["ratio"], "x", targets[recipe, figure])


def measure_flash(run):
    layers = run.args.layers
    name = f"flash:{layers}"
    model = run.file(f"flash-{layers}-q2.gguf")
    run.program("ds4-bench", "--synthetic", name, "--recipe", "q2", "--save", model, "--prefill", 1, "--no-limits")
    os.sync()

    run.drop_from_cache(model)
    start = run.bench("start-up", "-m", model, "--prefill", 1, "--no-limits")
    bytes_read, size = start["start_up"]["storage_read_bytes"], start["model"]["bytes"]
    run.claims.append((f"start-up of a mapped {size / 1e9:.1f} GB file to the first token, not in the page cache",
                       f"{start['start_up']['first_token_ms'] / 1e3:.2f} s, {100 * bytes_read / size:.0f} % of it read",
                       "no full read", bytes_read < size / 2))

    rows = run.compare("compare flash q2", model, "--rounds", "1", "--repeat", "2")
    decode, prefill = rows["decode"], rows["prefill 2048"]
    run.claim(f"decode, {name} q2, part of read bandwidth", 100 * decode["part_of_limit"], "%", 75)
    run.claim(f"decode, {name} q2, against llama.cpp", decode["ratio"], "x", 1.8)
    run.claim(f"prefill 2048, {name} q2, against llama.cpp", prefill["ratio"], "x", 10)

    batched = run.bench("flash sequences", "-m", model, "--sequences", ",".join(map(str, SEQUENCES)), "-n", 32,
                        "--prefill", 2048, "--profile-ops")
    rate = {r["sequences"]: r["tokens_per_s"]["median"] for r in batched["decode"]}
    run.claim(f"decode of 16 sequences, {name}, against one", rate[16] / rate[1], "x", 5)
    measure_products(run, batched)


def measure_products(run, batched):
    """The matrix products of the profiled prefill, as parts of the int8 peak."""
    peak = max(p["gmacs_per_s"] for p in batched["limits"]["peaks"] if p["kind"] == "int8")
    ops = next(p["ops"] for p in batched["profiles"] if p["of"].startswith("prefill"))
    for what, of_kind, target in (("Q8_0", lambda op: "Q8_0" in op, 55), ("IQ2_XXS", lambda op: "IQ2_XXS" in op, 40)):
        chosen = [op for op in ops if of_kind(op["op"]) and op["calls"] > 0 and op["macs"] > 0]
        if chosen:
            rate = sum(op["macs"] for op in chosen) / sum(op["us"] for op in chosen) * 1e-3
            run.claim(f"prefill, ops on {what} weights, part of int8 peak", 100 * rate / peak, "%", target)


def report(run, started):
    some = next(iter(run.results.values()))
    some = some["ds4_bench"][0] if "ds4_bench" in some else some
    machine, limits = some["machine"], some.get("limits") or {}
    lines = [f"# {machine['cpu']}, {run.args.threads} threads, {started:%Y-%m-%d}", "",
             f"ds4-bench {some['version']} ({some['commit']}), {machine['system']}, {' '.join(machine['isa'])}, "
             f"{machine['memory_bytes'] / GIB:.0f} GiB, load {machine['load_average']:.1f} before the run.", ""]
    if limits:
        peaks = ", ".join(f"{p['kind']} {p['isa']} {p['gmacs_per_s']:.0f}" for p in limits["peaks"])
        lines += [f"Limits: {limits['read_gb_per_s']:.1f} GB/s read; {peaks} Gmac/s; the threads had "
                  f"{100 * limits['cpu_share']:.0f} % of their processors.", ""]
    lines += ["| figure | measured | target | met |", "|---|---:|---:|---|"]
    lines += [f"| {figure} | {measured} | {target} | {'yes' if met else 'no'} |"
              for figure, measured, target, met in run.claims]
    comparisons = [r for r in run.results.values() if "rows" in r]
    if comparisons:
        lines += ["", compare.table(comparisons)]
    if "flash sequences" in run.results:
        lines += ["", "| sequences | tokens/s | step, ms | distinct experts | GB/s | of read bandwidth | of int8 peak |",
                  "|---:|---:|---:|---:|---:|---:|---:|"]
        lines += [f"| {r['sequences']} | {r['tokens_per_s']['median']:.2f} | {r['step_ms']['median']:.1f} | "
                  f"{r['distinct_experts']:.1f} | {r['gb_per_s']:.1f} | {100 * r['part_of_read_bandwidth']:.0f} % | "
                  f"{100 * r['part_of_int8_peak']:.0f} % |" for r in run.results["flash sequences"]["decode"]]
    slug = re.sub(r"[^a-z0-9]+", "-", machine["cpu"].lower()).strip("-") or "cpu"
    base = ROOT / "bench/results" / f"{started:%Y-%m-%d}-{slug}"
    base.parent.mkdir(exist_ok=True)
    base.with_suffix(".md").write_text("\n".join(lines) + "\n")
    base.with_suffix(".json").write_text(json.dumps({"claims": run.claims, "results": run.results}, indent=1) + "\n")
    print("\n".join(lines))
    print(f"\nwritten: {base}.md, {base}.json")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--folder", default=str(ROOT / "build/bench-models"))
    parser.add_argument("--checkpoint", default=str(ROOT.parent / "shared/model"), help="of ds4-mini (else synthetic)")
    parser.add_argument("--layers", type=int, default=4, help="layers of the large synthetic model")
    parser.add_argument("--keep", action="store_true", help="leave the model files")
    parser.add_argument("--only", choices=("mini", "flash"), help="one half of the figures")
    args = parser.parse_args()
    run = Run(args)
    run.folder.mkdir(parents=True, exist_ok=True)
    needed = (2 + 2 * args.layers) * GIB
    if args.only != "mini" and shutil.disk_usage(run.folder).free < needed:
        sys.exit(f"{run.folder}: {needed / GIB:.0f} GiB are needed; choose another --folder or fewer --layers")
    started = datetime.datetime.now()
    try:
        if args.only != "flash":
            measure_mini(run)
        if args.only != "mini":
            measure_flash(run)
        report(run, started)
    finally:
        if not args.keep:
            for path in run.made:
                path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
