#!/usr/bin/env bash
# build.sh PRESET [TARGET...]: configures build/PRESET and builds the targets (default: all), from any directory.
# Prints one line when it goes well and everything when it does not.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
preset=$1
shift
log=$(mktemp)
trap 'rm -f "$log"' EXIT
show_log() { cat "$log" >&2; exit 1; }
# Two checkouts share the cache: paths below the root are hashed relative to it.
export CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1

start=$SECONDS
cmake -S "$root" --preset "$preset" >"$log" 2>&1 || show_log
if [[ -t 2 ]]; then
  # A terminal sees progress: the first build takes minutes.
  cmake --build "$root/build/$preset" ${1:+--target "$@"} >&2
else
  cmake --build "$root/build/$preset" ${1:+--target "$@"} >"$log" 2>&1 || show_log
fi
echo "build/$preset: built in $((SECONDS - start)) s" >&2
