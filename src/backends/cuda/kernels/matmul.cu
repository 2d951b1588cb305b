// Products of weight matrices with rows: activations to 8-bit codes, and one warp per output and up to eight rows.

#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/kernels.h"
#include "backends/cuda/kernels/weight_types.cuh"

namespace ds4::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kMaxRows = 8;

// The reciprocal of a scale, or 0 where it overflows.
__device__ float finite_or_zero(float reciprocal) { return isfinite(reciprocal) ? reciprocal : 0.0f; }

__device__ int8_t code_of(float value) { return static_cast<int8_t>(fminf(fmaxf(rintf(value), -128.0f), 127.0f)); }

// A warp per 32 values.
__global__ void quantize_32_kernel(const float* x, int64_t n, int8_t* codes, float* scales) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= n) return;
  const float value = x[i];
  float amax = fabsf(value);
  for (int offset = 16; offset > 0; offset /= 2) amax = fmaxf(amax, __shfl_xor_sync(0xFFFFFFFFu, amax, offset));
  const float scale = amax / 127.0f;
  codes[i] = code_of(value * finite_or_zero(1.0f / scale));
  if (i % 32 == 0) scales[i / 32] = scale;
}

// A block per 256 values.
__global__ void quantize_256_kernel(const float* x, int8_t* codes, float* scales) {
  __shared__ float extremes[8];
  const int64_t i = int64_t{blockIdx.x} * 256 + threadIdx.x;
  const float value = x[i];
  float extreme = value;
  int place = static_cast<int>(threadIdx.x);
  // Of largest magnitude; the first wins a tie.
  for (int offset = 16; offset > 0; offset /= 2) {
    const float other = __shfl_xor_sync(0xFFFFFFFFu, extreme, offset);
    const int other_place = __shfl_xor_sync(0xFFFFFFFFu, place, offset);
    const bool is_larger = fabsf(other) > fabsf(extreme) || (fabsf(other) == fabsf(extreme) && other_place < place);
    extreme = is_larger ? other : extreme;
    place = is_larger ? other_place : place;
  }
  if (threadIdx.x % 32 == 0) extremes[threadIdx.x / 32] = extreme;
  __syncthreads();
  extreme = extremes[0];
  for (int w = 1; w < 8; ++w) {
    if (fabsf(extremes[w]) > fabsf(extreme)) extreme = extremes[w];
  }
  const float inverse = finite_or_zero(-127.0f / extreme);
  codes[i] = inverse == 0.0f ? int8_t{0} : code_of(value * inverse);
  if (threadIdx.x < 8) scales[int64_t{blockIdx.x} * 8 + threadIdx.x] = inverse == 0.0f ? 0.0f : 1.0f / inverse;
}

template <WeightType kType, int kRows>
__global__ void matmul_kernel(Matmul args) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t o = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  if (o >= args.n_out) return;
  const int64_t first_row = int64_t{blockIdx.y} * kRows;
  const int64_t group = o / (args.n_out / args.n_groups);
  int64_t offsets[kRows];
  for (int r = 0; r < kRows; ++r) {
    const int64_t row = first_row + r < args.n_rows ? first_row + r : args.n_rows - 1;
    offsets[r] = (row * args.n_groups + group) * args.n_in;
  }
  float sums[kRows];
  warp_dots<kType, kRows>(weight_row(args.weight, o), args.n_in, args.x, offsets, lane, sums);
  for (int r = 0; r < kRows; ++r) {
    if (lane == r && first_row + r < args.n_rows) args.out[(first_row + r) * args.n_out + o] = sums[r];
  }
}

}  // namespace

cudaError_t quantize(const float* x, int64_t n, int32_t block, int8_t* codes, float* scales, cudaStream_t stream) {
  if (block == 32) {
    quantize_32_kernel<<<blocks_for(n, 256), 256, 0, stream>>>(x, n, codes, scales);
  } else {
    quantize_256_kernel<<<static_cast<unsigned>(n / 256), 256, 0, stream>>>(x, codes, scales);
  }
  return cudaGetLastError();
}

cudaError_t matmul(const Matmul& args, cudaStream_t stream) {
  with_type(args.weight.type, [&]<WeightType kType>() {
    const unsigned outs = blocks_for(args.n_out, kWarps);
    if (args.n_rows == 1) {
      matmul_kernel<kType, 1><<<outs, kWarps * kWarp, 0, stream>>>(args);
    } else {
      matmul_kernel<kType, kMaxRows>
          <<<dim3(outs, blocks_for(args.n_rows, kMaxRows)), kWarps * kWarp, 0, stream>>>(args);
    }
  });
  return cudaGetLastError();
}

}  // namespace ds4::cuda
