#pragma once

// The order in which this project adds long float sums: 16 interleaved partial sums, each product fused into its sum,
// then a fixed tree. It is part of the numeric profiles (docs/numerics.md), because it is what vector units of any
// width can keep. Pure, any thread.

#include <cstdint>
#include <type_traits>

namespace ds4::reference {

inline constexpr int kDotLanes = 16;

// The order in float: fast where the processor has a fused multiply-add.
float dot_f32(const float* a, const float* b, int64_t n);

// In double a product of floats is exact, fused or not.
template <class Real>
Real dot(const float* a, const float* b, int64_t n) {
  if constexpr (std::is_same_v<Real, float>) return dot_f32(a, b, n);
  Real lanes[kDotLanes] = {};
  int64_t i = 0;
  for (; i + kDotLanes <= n; i += kDotLanes) {
    for (int lane = 0; lane < kDotLanes; ++lane)
      lanes[lane] += static_cast<Real>(a[i + lane]) * static_cast<Real>(b[i + lane]);
  }
  for (int lane = 0; i + lane < n; ++lane)
    lanes[lane] += static_cast<Real>(a[i + lane]) * static_cast<Real>(b[i + lane]);
  for (int width = kDotLanes / 2; width >= 1; width /= 2) {
    for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  }
  return lanes[0];
}

}  // namespace ds4::reference
