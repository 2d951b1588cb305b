#!/usr/bin/env bash
# run_all.sh [BIN_DIR] [OPTIONS of run_all.py]
#
# Every figure that this project claims about its speed, in one run: makes the model files, measures ds4-bench and
# llama.cpp in turns, and writes bench/results/DATE-CPU.md and .json. Needs 10 GB of disk and 11 GB of memory, takes
# some twenty minutes with two threads, and means something on an idle machine only.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [[ $# -gt 0 && $1 != -* ]]; then
  bin=$(cd "$1" && pwd)
  shift
else
  bin=$root/build/dev/bin
fi
exec python3 "$root/bench/run_all.py" --bin "$bin" "$@"
