#pragma once

// Gates and mixing of four streams from their 24 raw values, by one thread (docs/numerics.md 4.2 steps 3 to 5). The
// divisions of the normalisation are products with an approximate reciprocal (1 ulp): each step brings rows or columns
// back to sum one, so such errors do not add up, and 39 exact divisions in a row would take longer than the rest.

#include "backends/cuda/kernels/common.cuh"

namespace ds4::cuda {

inline constexpr int kStreams = 4;
inline constexpr int kMixes = 2 * kStreams + kStreams * kStreams;

// Which of the three scales value i of the mix has.
__device__ inline int mix_part(int i) { return i < kStreams ? 0 : i < 2 * kStreams ? 1 : 2; }

__device__ inline float reciprocal(float x) {
  float y = 0.0f;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// Columns (kAlong 1) or rows (kAlong 0) to sum one, nearly.
template <int kAlong>
__device__ inline void normalise_lines(float (&m)[16], float epsilon) {
#pragma unroll
  for (int line = 0; line < 4; ++line) {
    constexpr int kStep = kAlong == 1 ? 4 : 1;
    const int first = kAlong == 1 ? line : 4 * line;
    const float sum = ((m[first] + m[first + kStep]) + m[first + 2 * kStep]) + m[first + 3 * kStep];
    const float factor = reciprocal(sum + epsilon);
#pragma unroll
    for (int i = 0; i < 4; ++i) m[first + i * kStep] *= factor;
  }
}

__device__ inline void sinkhorn_4(float (&m)[16], int iterations, float epsilon) {
#pragma unroll
  for (int r = 0; r < 4; ++r) {
    const float top = fmaxf(fmaxf(m[4 * r], m[4 * r + 1]), fmaxf(m[4 * r + 2], m[4 * r + 3]));
    float sum = 0.0f;
#pragma unroll
    for (int c = 0; c < 4; ++c) sum += m[4 * r + c] = expf(m[4 * r + c] - top);
    const float factor = reciprocal(sum);
#pragma unroll
    for (int c = 0; c < 4; ++c) m[4 * r + c] = m[4 * r + c] * factor + epsilon;
  }
  if (iterations > 0) normalise_lines<1>(m, epsilon);
  for (int iteration = 1; iteration < iterations; ++iteration) {
    normalise_lines<0>(m, epsilon);
    normalise_lines<1>(m, epsilon);
  }
}

}  // namespace ds4::cuda
