#!/usr/bin/env bash
# compare_llama_cpp.sh BIN_DIR [OPTIONS of compare.py] MODEL.gguf...
#
# The speed of ds4-bench and of llama.cpp's CPU library on the same files with the same threads, in turns, as one table.
# The library comes from npm, pinned by tests/oracle/package-lock.json.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bin=$(cd "$1" && pwd)
shift
if [[ $(uname -sm) != "Linux x86_64" ]]; then
  echo "compare_llama_cpp.sh: the library exists for Linux on x86-64 only" >&2
  exit 1
fi
"$root/tests/oracle/install.sh"
libraries=$root/tests/oracle/node_modules/@node-llama-cpp/linux-x64/bins/linux-x64
program=$bin/llama_speed
if [[ ! $program -nt $root/bench/llama_speed.cc ]]; then
  g++ -O2 -std=c++20 -I"$root/src" "$root/bench/llama_speed.cc" -o "$program" -L"$libraries" \
    -l:libllama.v0.5.0.so -l:libggml.v0.5.0.so -l:libggml-base.so -Wl,-rpath,"$libraries"
fi
exec python3 "$root/bench/compare.py" --bin "$bin" --libraries "$libraries" "$@"
