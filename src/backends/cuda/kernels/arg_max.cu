// The largest of every row and where it is: blocks take 4096 columns each, then one warp per row takes the blocks. Ties
// go to the lower column at every step, so the order of comparisons does not show. Reads the row once.

#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/fused_steps.h"
#include "backends/cuda/kernels/launch.cuh"

namespace ds4::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kBlockColumns = 4096;

struct Best {
  float value;
  int column;  // -1: none yet
  __device__ void take(float other, int other_column) {
    if (other_column < 0 || other != other) return;
    if (column < 0 || other > value || (other == value && other_column < column)) {
      value = other;
      column = other_column;
    }
  }
  __device__ void take_warp() {
    for (int distance = kWarp / 2; distance > 0; distance /= 2) {
      const float other = __shfl_xor_sync(0xFFFFFFFFu, value, distance);
      const int other_column = __shfl_xor_sync(0xFFFFFFFFu, column, distance);
      take(other, other_column);
    }
  }
};

__global__ void __launch_bounds__(kThreads) part_kernel(ArgMax args) {
  __shared__ float values[kThreads / kWarp];
  __shared__ int columns[kThreads / kWarp];
  wait_for_inputs();
  let_next_start();
  const float* row = args.x + blockIdx.y * args.width;
  const int64_t first = int64_t{blockIdx.x} * kBlockColumns;
  Best best{0.0f, -1};
#pragma unroll
  for (int i = 0; i < kBlockColumns / kThreads; ++i) {
    const int64_t column = first + i * kThreads + threadIdx.x;
    if (column < args.width) best.take(row[column], static_cast<int>(column));
  }
  best.take_warp();
  if (threadIdx.x % kWarp == 0) {
    values[threadIdx.x / kWarp] = best.value;
    columns[threadIdx.x / kWarp] = best.column;
  }
  __syncthreads();
  if (threadIdx.x != 0) return;
  for (int w = 1; w < kThreads / kWarp; ++w) best.take(values[w], columns[w]);
  const int64_t at = int64_t{blockIdx.y} * gridDim.x + blockIdx.x;
  args.block_values[at] = best.value;
  args.block_columns[at] = best.column;
}

__global__ void whole_kernel(ArgMax args, int n_blocks) {
  wait_for_inputs();
  let_next_start();
  Best best{0.0f, -1};
  for (int i = static_cast<int>(threadIdx.x); i < n_blocks; i += kWarp) {
    const int64_t at = int64_t{blockIdx.x} * n_blocks + i;
    best.take(args.block_values[at], args.block_columns[at]);
  }
  best.take_warp();
  if (threadIdx.x != 0) return;
  args.values[blockIdx.x] = best.value;
  args.columns[blockIdx.x] = best.column < 0 ? 0 : best.column;
}

}  // namespace

int64_t arg_max_blocks(int64_t width) { return (width + kBlockColumns - 1) / kBlockColumns; }

cudaError_t arg_max(const ArgMax& args, cudaStream_t stream) {
  const auto n_blocks = static_cast<unsigned>(arg_max_blocks(args.width));
  const auto n_rows = static_cast<unsigned>(args.n_rows);
  const cudaError_t error = launch(part_kernel, Grid{dim3(n_blocks, n_rows), dim3(kThreads)}, stream, args);
  if (error != cudaSuccess) return error;
  return launch(whole_kernel, Grid{dim3(n_rows), dim3(kWarp)}, stream, args, static_cast<int>(n_blocks));
}

}  // namespace ds4::cuda
