// What follows the query products, for all heads of attention and indexer in one launch: norm and rotation of each
// head, and for the indexer rotation, Hadamard and rounding. A block per head (two per warp scheduler at one row); the
// values are in L2 still. Same arithmetic, in the same order, as rms_norm, rope and index_round.

#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/gemv.h"
#include "backends/cuda/kernels/kv_rows.cuh"
#include "backends/cuda/kernels/launch.cuh"

namespace ds4::cuda {
namespace {

constexpr int kThreads = 256;

// The last 2 * n values of a head in shared memory.
__device__ void rotate(float* head, int width, const QueryHeads& args, int position) {
  for (int i = static_cast<int>(threadIdx.x); i < args.n_frequencies; i += kThreads) {
    float sine = 0.0f, cosine = 0.0f;
    sincosf(static_cast<float>(position) * args.frequencies[i], &sine, &cosine);
    float* at = head + width - 2 * args.n_frequencies + 2 * i;
    const float a = at[0], b = at[1];
    at[0] = a * cosine - b * sine;
    at[1] = a * sine + b * cosine;
  }
  __syncthreads();
}

__global__ void __launch_bounds__(kThreads) query_heads_kernel(const __grid_constant__ QueryHeads args) {
  extern __shared__ float head[];
  const int thread = static_cast<int>(threadIdx.x);
  const int per_row = args.n_heads + args.n_index_heads;
  const int row = static_cast<int>(blockIdx.x) / per_row, h = static_cast<int>(blockIdx.x) % per_row;
  const bool is_index = h >= args.n_heads;
  const int width = is_index ? args.index_width : args.width;
  let_next_start();
  wait_for_inputs();
  float* x = is_index ? args.index_query + (int64_t{row} * args.n_index_heads + (h - args.n_heads)) * width
                      : args.query + (int64_t{row} * args.n_heads + h) * width;
  const int position = args.positions[row];
  double sum = 0;
  for (int i = thread; i < width; i += kThreads) {
    head[i] = x[i];
    const double value = head[i];
    sum += value * value;
  }
  if (!is_index) {
    const auto mean = static_cast<float>(block_sum(sum) / static_cast<double>(width));
    const float r = 1.0f / sqrtf(mean + args.rms_epsilon);
    for (int i = thread; i < width; i += kThreads) head[i] *= r;
  }
  __syncthreads();
  rotate(head, width, args, position);
  if (is_index && args.rounds) {
    const KvFormat format{kRowFp4, width, 0, width / 2 + width / kFp4GroupSize};
    auto* packed = reinterpret_cast<uint8_t*>(head + width);
    hadamard(head, width, args.hadamard_norm);
    pack_kv_row(head, format, packed);
    __syncthreads();
    for (int i = thread; i < width; i += kThreads) x[i] = kv_value(packed, format, i);
    return;
  }
  for (int i = thread; i < width; i += kThreads) x[i] = head[i];
}

}  // namespace

cudaError_t query_heads(const QueryHeads& args, cudaStream_t stream) {
  const int width = args.width > args.index_width ? args.width : args.index_width;
  const auto blocks = static_cast<unsigned>(args.n_rows * (args.n_heads + args.n_index_heads));
  return launch(query_heads_kernel, {dim3(blocks), dim3(kThreads), static_cast<size_t>(width) * 8}, stream, args);
}

}  // namespace ds4::cuda
