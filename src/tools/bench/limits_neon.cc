#if defined(__aarch64__)

#include <arm_neon.h>

#include "tools/bench/limits_kernels.h"

namespace ds4 {

#define DS4_RENEW(vector) __asm__ volatile("" : "+w"(vector))

void neon_int8_rounds(int64_t rounds) {
  int32x4_t sums[12] = {};
  const int8x16_t a = vdupq_n_s8(1);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (int32x4_t& sum : sums) {
      sum = vdotq_s32(sum, a, a);
      DS4_RENEW(sum);
    }
  }
}

void neon_f32_rounds(int64_t rounds) {
  float32x4_t sums[12] = {};
  const float32x4_t a = vdupq_n_f32(0.5f);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (float32x4_t& sum : sums) {
      sum = vfmaq_f32(sum, a, a);
      DS4_RENEW(sum);
    }
  }
}

}  // namespace ds4

#endif
