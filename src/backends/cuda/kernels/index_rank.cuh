#pragma once

// Ranking of index scores: order-preserving keys, a thread's share of a row, and bins over the scores' range.

#include "backends/cuda/kernels/fused_steps.h"

namespace ds4::cuda {

inline constexpr int kBins = 2048;
inline constexpr int kMostCandidates = 1024;  // of one bin; more are ranked bit by bit

// Few rows: eight blocks each (index_top.cu). Compute capability 9.0.
cudaError_t select_by_cluster(const IndexSelect& args, cudaStream_t stream);

__device__ inline int visible(const IndexSelect& args, const RowPlace& place) {
  return (place.position + 1) / args.indexer.ratio;
}

// Larger scores have larger keys; both zeros are one, and NaN is below all.
__device__ inline uint32_t rank_key(float score) {
  const uint32_t bits = __float_as_uint(score + 0.0f);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}

// This thread's share of a row's scores: `share` consecutive ones. kHeld of them are in registers, or none.
template <int kHeld>
struct Scores {
  const float* row;
  int first, share, n;
  float held[kHeld > 0 ? kHeld : 1];

  __device__ static float clean(float score) { return score == score ? score : -3.4e38f; }
  __device__ void load() {
    if constexpr (kHeld > 0) {
#pragma unroll
      for (int j = 0; j < kHeld; j += 4) {
        float4 four = make_float4(0, 0, 0, 0);
        if (j < share && first + j < n) four = *reinterpret_cast<const float4*>(row + first + j);
        held[j] = clean(four.x);
        held[j + 1] = clean(four.y);
        held[j + 2] = clean(four.z);
        held[j + 3] = clean(four.w);
      }
    }
  }
  // body(index, score), ascending
  template <class Body>
  __device__ void for_each(const Body& body) const {
    if constexpr (kHeld > 0) {
#pragma unroll
      for (int j = 0; j < kHeld; ++j) {
        if (j < share && first + j < n) body(first + j, held[j]);
      }
    } else {
      for (int j = 0; j < share && first + j < n; ++j) body(first + j, clean(row[first + j]));
    }
  }
};

struct Extent {
  float least, step;  // step: bins per unit of score
  __device__ int bin(float score) const {
    const float at = (score - least) * step;
    return at < static_cast<float>(kBins - 1) ? static_cast<int>(at) : kBins - 1;
  }
};
__device__ inline Extent extent_of(float least, float largest) {
  const float range = largest - least;
  const float step = static_cast<float>(kBins) / range;
  const bool is_plain = range > 0.0f && range < 1e38f && step < 1e38f;
  return {least, is_plain ? step : 0.0f};
}

}  // namespace ds4::cuda
