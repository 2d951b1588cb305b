#!/usr/bin/env bash
# fuzz.sh SECONDS PROGRAM: runs a libFuzzer program on a copy of its seed corpus; prints its log only when it finds something.
# A finding is left beside the program as NAME.crash-* (or .timeout-*, .oom-*).
set -euo pipefail
seconds=$1 program=$2
name=$(basename "$program" _fuzz)
seeds=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)/tests/fuzz/corpus/$name
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/found"
[[ -d $seeds ]] || seeds=
if ! "$program" "$work/found" ${seeds:+"$seeds"} -max_total_time="$seconds" -timeout=10 -rss_limit_mb=3000 \
    -artifact_prefix="$program." >"$work/log" 2>&1; then
  cat "$work/log"
  exit 255  # stops xargs
fi
echo "$name: $(grep -oE 'Done [0-9]+ runs' "$work/log" | tail -n 1)"
