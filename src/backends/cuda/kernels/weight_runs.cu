// Fills a weight with runs of a pool. One warp copies one run, so that the choice of where it begins (a 64-bit
// remainder) is made once for some hundred bytes; a run begins at any byte of the pool, so words are put together from
// two that are aligned. The pool stays in the L2 cache: the bytes written, once each, are what this costs.

#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/weight_runs.h"

namespace ds4::cuda {
namespace {

constexpr int kThreads = 256;

__device__ uint64_t mixed(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

__global__ void __launch_bounds__(kThreads) make_runs_kernel(WeightRuns runs, uint64_t n_runs) {
  constexpr uint64_t kGamma = 0x9E3779B97F4A7C15ull;
  const unsigned lane = threadIdx.x % kWarp;
  const uint64_t run = uint64_t{blockIdx.x} * (kThreads / kWarp) + threadIdx.x / kWarp;
  if (run >= n_runs) return;
  const uint64_t start = mixed(runs.seed + run * kGamma) % runs.n_starts * runs.block_bytes;
  const uint64_t first = run * runs.run_bytes;
  const uint64_t left = runs.out_bytes - first;
  const auto n_bytes = static_cast<uint32_t>(left < runs.run_bytes ? left : runs.run_bytes);
  const auto* words = reinterpret_cast<const uint32_t*>(runs.pool + (start & ~uint64_t{3}));
  const auto shift = static_cast<unsigned>(start & 3) * 8;
  auto* out = reinterpret_cast<uint32_t*>(runs.out + first);
  for (uint32_t word = lane; word < n_bytes / 4; word += kWarp)
    out[word] = __funnelshift_r(words[word], words[word + 1], shift);
  for (uint32_t at = n_bytes / 4 * 4 + lane; at < n_bytes; at += kWarp) runs.out[first + at] = runs.pool[start + at];
}

}  // namespace

cudaError_t make_weight_runs(const WeightRuns& runs, cudaStream_t stream) {
  const uint64_t n_runs = (runs.out_bytes + runs.run_bytes - 1) / runs.run_bytes;
  if (n_runs == 0) return cudaSuccess;
  make_runs_kernel<<<blocks_for(static_cast<int64_t>(n_runs), kThreads / kWarp), kThreads, 0, stream>>>(runs, n_runs);
  return cudaGetLastError();
}

}  // namespace ds4::cuda
