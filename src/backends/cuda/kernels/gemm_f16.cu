// Products of F32, F16 and BF16 matrices with many rows of F32, on TF32 tensor cores at nearly F32 accuracy: an
// activation is split into two TF32 numbers, which keeps 22 of its 24 bits; F16 and BF16 weights are TF32 numbers
// already, F32 weights are split likewise and the product of the two low parts is left out. 64 outputs by 128 rows to a
// block of eight warps, each 32 by 32; four stages of 32 elements by cp.async. Short and deep matrices are cut along K
// into parts, as many as their shape says, which a second kernel adds in ascending order.
// Inside 8 elements k runs 0 2 4 6 1 3 5 7 for both operands, so that a lane's two values lie side by side.

#include <algorithm>

#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/gemm.h"
#include "backends/cuda/kernels/launch.cuh"
#include "backends/cuda/kernels/mma.cuh"
#include "backends/cuda/kernels/number_formats.cuh"

namespace ds4::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kOutputs = 64;
constexpr int kRows = 128;
constexpr int kSpan = 32;
constexpr int kStages = 4;
constexpr int kMaxParts = 8;

template <WeightType kType>
struct Stage {
  static constexpr int kElementBytes = kType == WeightType::kF32 ? 4 : 2;
  static constexpr int kPitch = kType == WeightType::kF32 ? 160 : 80;  // lanes of a load hit different banks
  static constexpr int kActivations = kOutputs * kPitch;
  static constexpr int kBytes = kActivations + kRows * kSpan * 4;
};

template <WeightType kType>
__device__ inline void copy_stage(const RealMatmul& args, uint32_t stage, int first_out, int first_row, int k) {
  constexpr int kElementBytes = Stage<kType>::kElementBytes;
  constexpr int kChunks = kSpan * kElementBytes / 16;
  const int thread = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int i = thread; i < kOutputs * kChunks; i += kThreads) {
    const int row = i / kChunks;
    const int64_t o = min(int64_t{first_out + row}, args.n_out - 1);
    copy_async_16(stage + row * Stage<kType>::kPitch + i % kChunks * 16,
                  args.weight + (o * args.n_in + k) * kElementBytes + i % kChunks * 16);
  }
#pragma unroll
  for (int i = thread; i < kRows * 8; i += kThreads) {
    const int row = i / 8;
    const int64_t r = min(int64_t{first_row + row}, args.n_rows - 1);
    copy_async_16(stage + Stage<kType>::kActivations + row * kSpan * 4 + (((i ^ row) & 7) << 4),
                  args.x + r * args.n_in + k + i % 8 * 4);
  }
}

// Two neighbouring weights.
template <WeightType kType>
__device__ inline float2 weight_pair(const uint8_t* p) {
  if constexpr (kType == WeightType::kF32) return *reinterpret_cast<const float2*>(p);
  const uint32_t bits = *reinterpret_cast<const uint32_t*>(p);
  if constexpr (kType == WeightType::kF16) return __half22float2(*reinterpret_cast<const __half2*>(&bits));
  return {__uint_as_float(bits << 16), __uint_as_float(bits & 0xFFFF0000u)};
}

__device__ inline float high_part(float x) { return __uint_as_float(__float_as_uint(x) & 0xFFFFE000u); }

template <WeightType kType>
__device__ inline void multiply_stage(const uint8_t* stage, int first_out, int first_row, float (&acc)[2][4][4]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int g = lane / 4;
  const int t = lane % 4;
#pragma unroll
  for (int s = 0; s < kSpan / 8; ++s) {
    float a[2][4], a_low[2][4];
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const float2 pair = weight_pair<kType>(stage + (first_out + m * 16 + h * 8 + g) * Stage<kType>::kPitch +
                                               (8 * s + 2 * t) * Stage<kType>::kElementBytes);
        a[m][h] = pair.x;
        a[m][h + 2] = pair.y;
      }
      if constexpr (kType == WeightType::kF32) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const float whole = a[m][i];
          a[m][i] = high_part(whole);
          a_low[m][i] = whole - a[m][i];
        }
      }
    }
#pragma unroll
    for (int n = 0; n < 4; ++n) {
      const int row = first_row + n * 8 + g;
      const float2 x = *reinterpret_cast<const float2*>(stage + Stage<kType>::kActivations + row * kSpan * 4 +
                                                        (((2 * s + t / 2) ^ g) << 4) + t % 2 * 8);
      const float2 high = {high_part(x.x), high_part(x.y)};
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        if constexpr (kType == WeightType::kF32) mma_tf32(acc[m][n], a_low[m], high.x, high.y);
        mma_tf32(acc[m][n], a[m], x.x - high.x, x.y - high.y);
        mma_tf32(acc[m][n], a[m], high.x, high.y);
      }
    }
  }
}

template <WeightType kType>
__global__ void __launch_bounds__(kThreads, 2) real_kernel(const __grid_constant__ RealMatmul args, int part_spans) {
  extern __shared__ __align__(128) uint8_t shared[];
  const int first_out = static_cast<int>(blockIdx.y) * kOutputs;
  const int first_row = static_cast<int>(blockIdx.x) * kRows;
  const int first_span = static_cast<int>(blockIdx.z) * part_spans;
  const int n_spans = min(part_spans, static_cast<int>(args.n_in / kSpan) - first_span);
  const uint32_t base = shared_address(shared);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int warp_out = warp % 2 * 32;
  const int warp_row = warp / 2 * 32;
  float acc[2][4][4] = {};
  let_next_start();
  wait_for_inputs();
  for (int s = 0; s < kStages - 1; ++s) {
    if (s < n_spans)
      copy_stage<kType>(args, base + s * Stage<kType>::kBytes, first_out, first_row, (first_span + s) * kSpan);
    commit_copies();
  }
  for (int s = 0; s < n_spans; ++s) {
    wait_copies<kStages - 2>();
    __syncthreads();
    const int ahead = s + kStages - 1;
    if (ahead < n_spans)
      copy_stage<kType>(args, base + ahead % kStages * Stage<kType>::kBytes, first_out, first_row,
                        (first_span + ahead) * kSpan);
    commit_copies();
    multiply_stage<kType>(shared + s % kStages * Stage<kType>::kBytes, warp_out, warp_row, acc);
  }
  float* out = gridDim.z == 1 ? args.out : args.parts + blockIdx.z * args.n_rows * args.n_out;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int n = 0; n < 4; ++n) {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int64_t row = first_row + warp_row + n * 8 + lane % 4 * 2 + i % 2;
#pragma unroll
      for (int m = 0; m < 2; ++m) {
        const int64_t o = first_out + warp_out + m * 16 + i / 2 * 8 + lane / 4;
        if (row < args.n_rows && o < args.n_out) out[row * args.n_out + o] = acc[m][n][i];
      }
    }
  }
}

__global__ void add_parts_kernel(const float* parts, float* out, int64_t n, int n_parts) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  let_next_start();
  wait_for_inputs();
  if (i >= n) return;
  float sum = 0.0f;
  for (int p = 0; p < n_parts; ++p) sum += parts[p * n + i];
  out[i] = sum;
}

template <WeightType kType>
cudaError_t launch_real(const RealMatmul& args, cudaStream_t stream) {
  const int64_t spans = args.n_in / kSpan;
  const int64_t part_spans = blocks_for(spans, real_matmul_parts(args.n_out, args.n_in));
  const unsigned n_parts = blocks_for(spans, part_spans);
  const dim3 blocks(blocks_for(args.n_rows, kRows), blocks_for(args.n_out, kOutputs), n_parts);
  const cudaError_t error = launch(real_kernel<kType>, {blocks, kThreads, kStages * Stage<kType>::kBytes}, stream, args,
                                   static_cast<int>(part_spans));
  if (error != cudaSuccess || n_parts == 1) return error;
  const int64_t n = args.n_rows * args.n_out;
  return launch(add_parts_kernel, {blocks_for(n, 256), 256}, stream, args.parts, args.out, n,
                static_cast<int>(n_parts));
}

}  // namespace

int64_t real_matmul_parts(int64_t n_out, int64_t n_in) {
  return n_out > 256 ? 1 : std::clamp<int64_t>(n_in / 1024, 1, kMaxParts);
}

cudaError_t real_matmul(const RealMatmul& args, cudaStream_t stream) {
  if (args.type == WeightType::kF32) return launch_real<WeightType::kF32>(args, stream);
  if (args.type == WeightType::kF16) return launch_real<WeightType::kF16>(args, stream);
  return launch_real<WeightType::kBF16>(args, stream);
}

}  // namespace ds4::cuda
