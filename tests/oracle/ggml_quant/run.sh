#!/usr/bin/env bash
# run.sh BUILD_DIR: compares our quantisers with those of ggml, whose library tests/oracle/run.sh has fetched. Prints the
# ratios of their errors and "N passed, N failed" last.
set -euo pipefail
build=$(cd "$1" && pwd)
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$here/../../..
libraries=$here/../node_modules/@node-llama-cpp/linux-x64/bins/linux-x64
program=$build/ggml_quant_compare
g++ -O2 -std=c++20 -DFMT_SHARED -I"$root/src" "$here/compare.cc" -o "$program" "$build/libds4_gguf.a" "$build/libds4_base.a" \
  -lfmt -pthread -L"$libraries" -l:libggml-base.so -Wl,-rpath,"$libraries"
"$program" "$root/models/ds4-mini.gguf"
