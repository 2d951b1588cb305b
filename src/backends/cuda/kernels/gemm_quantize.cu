// Rows of activations to the 8-bit codes that the tile kernels read (docs/numerics.md 3.7). A warp takes 256 values of
// a row at a time, eight of them to a lane; the eight warps of a block take neighbouring rows, so that the transposed
// scales leave in whole sectors. Reads 4 bytes a value, writes little more than 1.

#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/gemm.h"
#include "backends/cuda/kernels/launch.cuh"

namespace ds4::cuda {
namespace {

constexpr int kRowsPerBlock = 8;
constexpr int kSpan = 256;
constexpr int kSpansPerBlock = 4;

__device__ inline float finite_or_zero(float reciprocal) { return isfinite(reciprocal) ? reciprocal : 0.0f; }

__device__ inline int code_of(float value) { return static_cast<int>(fminf(fmaxf(rintf(value), -128.0f), 127.0f)); }

__device__ inline uint32_t four_codes(const float* x, float reciprocal) {
  uint32_t word = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) word |= (static_cast<uint32_t>(code_of(x[i] * reciprocal)) & 255u) << (8 * i);
  return word;
}

// The scale of the lane's block of 32, which four lanes share.
__device__ inline float scale_32(const float (&x)[8], float& reciprocal) {
  float amax = 0.0f;
#pragma unroll
  for (int i = 0; i < 8; ++i) amax = fmaxf(amax, fabsf(x[i]));
  amax = fmaxf(amax, __shfl_xor_sync(0xFFFFFFFFu, amax, 1));
  amax = fmaxf(amax, __shfl_xor_sync(0xFFFFFFFFu, amax, 2));
  const float scale = amax / 127.0f;
  reciprocal = finite_or_zero(1.0f / scale);
  return scale;
}

// The scale of the warp's block of 256: from the value of largest magnitude, the first of equals.
__device__ inline float scale_256(const float (&x)[8], float& reciprocal) {
  float extreme = x[0];
#pragma unroll
  for (int i = 1; i < 8; ++i) extreme = fabsf(x[i]) > fabsf(extreme) ? x[i] : extreme;
  int place = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int offset = kWarp / 2; offset > 0; offset /= 2) {
    const float other = __shfl_xor_sync(0xFFFFFFFFu, extreme, offset);
    const int other_place = __shfl_xor_sync(0xFFFFFFFFu, place, offset);
    const bool is_larger = fabsf(other) > fabsf(extreme) || (fabsf(other) == fabsf(extreme) && other_place < place);
    extreme = is_larger ? other : extreme;
    place = is_larger ? other_place : place;
  }
  reciprocal = finite_or_zero(-127.0f / extreme);
  return reciprocal == 0.0f ? 0.0f : 1.0f / reciprocal;
}

template <int kBlock>
__global__ void __launch_bounds__(kRowsPerBlock* kWarp) quantize_kernel(const __grid_constant__ TileQuantize args) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const TileActivations& out = args.out;
  const int64_t row = int64_t{blockIdx.x} * kRowsPerBlock + threadIdx.x / kWarp;
  let_next_start();
  wait_for_inputs();
  if (row >= out.n_rows) return;
#pragma unroll
  for (int s = 0; s < kSpansPerBlock; ++s) {
    const int64_t first = (int64_t{blockIdx.y} * kSpansPerBlock + s) * kSpan;
    if (first >= out.width) return;
    float x[8];
    const auto* source = reinterpret_cast<const float4*>(args.x + row * out.width + first + lane * 8);
    *reinterpret_cast<float4*>(x) = source[0];
    *reinterpret_cast<float4*>(x + 4) = source[1];
    float reciprocal;
    const float scale = kBlock == 32 ? scale_32(x, reciprocal) : scale_256(x, reciprocal);
    const uint2 codes = {four_codes(x, reciprocal), four_codes(x + 4, reciprocal)};
    *reinterpret_cast<uint2*>(out.codes + row * out.width + first + lane * 8) = codes;
    if (lane % (kBlock / 8) == 0) out.scales[(first / kBlock + lane / (kBlock / 8)) * out.n_rows + row] = scale;
    if constexpr (kBlock == 256) {
      int sum = __dp4a(0x01010101, static_cast<int>(codes.x), __dp4a(0x01010101, static_cast<int>(codes.y), 0));
      sum += __shfl_xor_sync(0xFFFFFFFFu, sum, 1);
      if (lane % 2 == 0) out.sums[(row * out.width + first) / 16 + lane / 2] = __int2half_rn(sum);
    }
  }
}

}  // namespace

cudaError_t tile_quantize(const TileQuantize& args, cudaStream_t stream) {
  const dim3 blocks(blocks_for(args.out.n_rows, kRowsPerBlock), blocks_for(args.out.width, kSpan * kSpansPerBlock));
  const Grid grid{blocks, kRowsPerBlock * kWarp};
  return args.block == 32 ? launch(quantize_kernel<32>, grid, stream, args)
                          : launch(quantize_kernel<256>, grid, stream, args);
}

}  // namespace ds4::cuda
