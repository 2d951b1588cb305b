#!/usr/bin/env python3
"""Measures model files with ds4-bench and with llama.cpp, in turns, and prints one table.

usage: compare.py --bin DIR --libraries DIR [--threads N] [--rounds N] [--repeat N] [--gen N] [--json OUT] MODEL...

compare_llama_cpp.sh calls it. Every round runs both programs one after the other, so that a machine which grows slower
does so for both. A rate is the median over rounds and repetitions.
"""
import argparse
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile

PREFILL = (128, 2048)
DECODE_CTX = 128


def run_ours(args, model):
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        subprocess.run([f"{args.bin}/ds4-bench", "-m", model, "-t", str(args.threads), "--prefill",
                        ",".join(map(str, PREFILL)), "--sequences", "1", "--decode-ctx", str(DECODE_CTX), "-n",
                        str(args.gen), "--repeat", str(args.repeat), "--json", out.name],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return json.load(open(out.name))


def run_theirs(args, model):
    command = [f"{args.bin}/llama_speed", args.libraries, model, str(args.threads), str(args.repeat), str(DECODE_CTX),
               str(args.gen), *map(str, PREFILL)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def rates_of(ours, theirs):
    """figure -> (our rates, theirs, our part of the limit)"""
    rates = {}
    for result in ours["prefill"]:
        n = result["tokens"]
        rates[f"prefill {n}"] = ([result["tokens_per_s"]["median"]], theirs["prefill"][str(n)],
                                 result["part_of_int8_peak"], "int8 peak")
    result = ours["decode"][0]
    rates["decode"] = ([result["tokens_per_s"]["median"]], theirs["decode"], result["part_of_read_bandwidth"],
                       "read bandwidth")
    return rates


def compare(args, model):
    """One row per figure of a model."""
    rounds = []
    for i in range(args.rounds):
        print(f"{pathlib.Path(model).name}: round {i + 1} of {args.rounds}", file=sys.stderr)
        ours = run_ours(args, model)
        rounds.append((rates_of(ours, run_theirs(args, model)), ours))
    rows = []
    for figure in rounds[0][0]:
        of_round = [rates[figure] for rates, _ in rounds]
        mine = statistics.median(x for r in of_round for x in r[0])
        other = statistics.median(x for r in of_round for x in r[1])
        rows.append({"model": pathlib.Path(model).stem, "figure": figure, "ds4": mine, "llama_cpp": other,
                     "ratio": mine / other, "part_of_limit": statistics.median(r[2] for r in of_round),
                     "limit": of_round[0][3]})
    return {"model": model, "rows": rows, "ds4_bench": [ours for _, ours in rounds]}


def table(comparisons):
    lines = ["| model | figure | ds4, tokens/s | llama.cpp, tokens/s | ratio | ds4, part of limit |",
             "|---|---|---:|---:|---:|---|"]
    lines += [f"| {r['model']} | {r['figure']} | {r['ds4']:.2f} | {r['llama_cpp']:.2f} | {r['ratio']:.2f}x | "
              f"{100 * r['part_of_limit']:.0f} % of {r['limit']} |" for c in comparisons for r in c["rows"]]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--libraries", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--gen", type=int, default=64)
    parser.add_argument("--json")
    parser.add_argument("models", nargs="+")
    args = parser.parse_args()
    comparisons = [compare(args, model) for model in args.models]
    print(table(comparisons))
    if args.json:
        pathlib.Path(args.json).write_text(json.dumps(comparisons, indent=1))


if __name__ == "__main__":
    main()
