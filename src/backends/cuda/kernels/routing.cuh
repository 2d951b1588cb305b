#pragma once

// The router's choice of experts. Contract: Ops::router.

#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/kernels.h"

namespace ds4::cuda {

inline constexpr float kSmallestSum = 0x1p-14f;

__device__ inline float sqrt_softplus(float z) {
  if (z > 20.0f) return sqrtf(z);
  if (z < -20.0f) return sqrtf(expf(z));
  return sqrtf(log1pf(expf(z)));
}

// A float's place in the order of floats; 0 for NaN, and no other.
__device__ inline uint32_t order_key(float value) {
  if (value != value) return 0u;
  const uint32_t bits = __float_as_uint(value + 0.0f);  // both zeros are one
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}

inline constexpr int kMaxRoutedExperts = 256;
inline constexpr int kMaxUsed = 16;

// p of (row, expert) pairs to shared memory, [n_rows][n_experts], by all threads.
__device__ inline void route_values(const Router& args, int n_rows, float* p) {
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < n_rows * args.n_experts; i += static_cast<int>(blockDim.x))
    p[i] = sqrt_softplus(args.logits[i]);
}

// The choice of one row by one warp: ids and weights to shared memory. p: the row's values. All lanes see the results
// after a barrier.
__device__ inline void route_row(const Router& args, int64_t row, const float* p, int lane, int32_t* ids,
                                 float* weights) {
  constexpr int kOwn = kMaxRoutedExperts / kWarp;
  uint32_t keys[kOwn];
#pragma unroll
  for (int j = 0; j < kOwn; ++j) {
    const int e = lane + kWarp * j;
    keys[j] = 0;
    if (e < args.n_experts) keys[j] = order_key(args.bias == nullptr ? p[e] : p[e] + args.bias[e]);
  }
  float sum = 0.0f;
#pragma unroll 1
  for (int k = 0; k < args.n_used; ++k) {
    uint32_t best = 0;
    if (args.token_table != nullptr) {
      best = static_cast<uint32_t>(args.token_table[int64_t{args.tokens[row]} * args.n_used + k]);
    } else {
      uint32_t top = keys[0];
#pragma unroll
      for (int j = 1; j < kOwn; ++j) top = max(top, keys[j]);
      top = __reduce_max_sync(0xFFFFFFFFu, top);
      uint32_t own = 0xFFFFu;
#pragma unroll
      for (int j = kOwn - 1; j >= 0; --j) {
        if (keys[j] == top) own = static_cast<uint32_t>(lane + kWarp * j);
      }
      best = top == 0 ? 0 : __reduce_min_sync(0xFFFFFFFFu, own);
#pragma unroll
      for (int j = 0; j < kOwn; ++j) {
        if (static_cast<uint32_t>(lane + kWarp * j) == best) keys[j] = 0;
      }
    }
    sum += p[best];
    if (lane == 0) ids[k] = static_cast<int32_t>(best);
  }
  sum = fmaxf(sum, kSmallestSum);
  __syncwarp();
  if (lane < args.n_used) weights[lane] = p[ids[lane]] / sum * args.weights_scale;
}

}  // namespace ds4::cuda
