#include "ops/reference/dot.h"

#include <cmath>

namespace ds4::reference {

namespace {

[[gnu::always_inline]] inline float fused_dot(const float* a, const float* b, int64_t n) {
  float lanes[kDotLanes] = {};
  int64_t i = 0;
  for (; i + kDotLanes <= n; i += kDotLanes) {
    for (int lane = 0; lane < kDotLanes; ++lane) lanes[lane] = std::fma(a[i + lane], b[i + lane], lanes[lane]);
  }
  for (int lane = 0; i + lane < n; ++lane) lanes[lane] = std::fma(a[i + lane], b[i + lane], lanes[lane]);
  for (int width = kDotLanes / 2; width >= 1; width /= 2) {
    for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  }
  return lanes[0];
}

#ifdef __x86_64__
[[gnu::target("avx2,fma")]] float dot_with_fma(const float* a, const float* b, int64_t n) { return fused_dot(a, b, n); }
#endif

}  // namespace

float dot_f32(const float* a, const float* b, int64_t n) {
#ifdef __x86_64__
  if (__builtin_cpu_supports("fma")) return dot_with_fma(a, b, n);
#endif
  return fused_dot(a, b, n);
}

}  // namespace ds4::reference
