#!/usr/bin/env bash
# scripts/cuda_check.sh OUT [BUILD]   on a machine with a CUDA device and nvcc: builds, runs the conformance suite and
#                                     the model's tests on the device, then the benchmarks; everything goes into OUT.
# With BUILD, a build directory that is there, nothing is built. Ends with a table of what passed; under 8 minutes without
# the build. Exit status 0: nothing failed.
# DS4_CUDA_CHECK_LAYERS: layers of the synthetic Flash model that is measured (43, or what fits).
set -uo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=${1:?usage: scripts/cuda_check.sh OUT [BUILD]}
build=${2:-$root/build/dev}
mkdir -p "$out"
out=$(cd "$out" && pwd)

if (($# < 2)); then
  cmake --preset dev -S "$root" >"$out/build.log" 2>&1 && cmake --build "$build" >>"$out/build.log" 2>&1 || {
    tail -n 20 "$out/build.log"
    exit 1
  }
fi

failed=0
# step SECONDS NAME COMMAND...: its output is OUT/NAME.log
step() {
  local limit=$1 name=$2 start=$SECONDS status=0
  shift 2
  timeout "$limit" "$@" >"$out/$name.log" 2>&1 || status=$?
  ((status == 0)) || failed=1
  printf '%-24s %-8s %4d s\n' "$name" "$( ((status == 0)) && echo ok || echo "FAILED $status")" $((SECONDS - start))
}

memory_mib=$(nvidia-smi --query-gpu=memory.total --format=csv,noheader,nounits | head -n 1)
# 2 GiB a layer, and 6 GiB for the rest.
layers=${DS4_CUDA_CHECK_LAYERS:-$(((${memory_mib:-16384} - 6144) / 2048))}
((layers > 43)) && layers=43
((layers < 1)) && layers=1
nvidia-smi >"$out/device.log" 2>&1
bench=("$build/bin/ds4-bench" --cuda --synthetic "flash:$layers" --repeat 1)

step 90 conformance "$build/tests/cuda_test" --gtest_brief=1
step 120 model env DS4_TEST_BACKEND=cuda "$build/tests/model_test" --gtest_brief=1
step 60 bench_decode "${bench[@]}" --sequences 1,2,4,8,16,32 --decode-ctx 2048 --fill-kv -n 32 --json "$out/decode.json"
step 60 bench_decode_long "${bench[@]}" --sequences 1,16 --decode-ctx 32768 --fill-kv -n 16 --no-limits \
  --json "$out/decode_long.json"
step 60 bench_prefill "${bench[@]}" --prefill 512,4096 --no-limits --json "$out/prefill.json"
step 60 bench_profile "${bench[@]}" --sequences 1 --prefill 512 --decode-ctx 2048 --fill-kv -n 8 --profile-ops
# Benchmarks of single kernels, where they were built.
for program in "$build"/bench/cuda/*; do
  [[ -f $program && -x $program ]] && step 60 "kernel_$(basename "$program")" "$program"
done
printf '%d s in all, results in %s\n' "$SECONDS" "$out"
exit "$failed"
