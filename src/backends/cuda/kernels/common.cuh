#pragma once

// Sums over a warp or block in a fixed order, and launch sizes.

#include <cuda_runtime.h>

#include <cstdint>

namespace ds4::cuda {

inline constexpr int kWarp = 32;

template <class T>
__device__ inline T warp_sum(T value) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2) value += __shfl_xor_sync(0xFFFFFFFFu, value, offset);
  return value;
}

// Every thread gets the sum. All threads of the block call it; blockDim.x is a multiple of 32.
template <class T>
__device__ inline T block_sum(T value) {
  __shared__ T sums[kWarp];
  const T own = warp_sum(value);
  __syncthreads();
  if (threadIdx.x % kWarp == 0) sums[threadIdx.x / kWarp] = own;
  __syncthreads();
  T total = 0;
  for (int i = 0; i < static_cast<int>(blockDim.x) / kWarp; ++i) total += sums[i];
  return total;
}

inline unsigned blocks_for(int64_t n, int64_t per_block) {
  return static_cast<unsigned>((n + per_block - 1) / per_block);
}

__device__ inline float sigmoid(float z) { return 1.0f / (1.0f + expf(-z)); }

__device__ inline float swiglu_value(float gate, float up, float clamp) {
  if (clamp > 0.0f) {
    gate = fminf(gate, clamp);
    up = fminf(fmaxf(up, -clamp), clamp);
  }
  return gate * sigmoid(gate) * up;
}

}  // namespace ds4::cuda
