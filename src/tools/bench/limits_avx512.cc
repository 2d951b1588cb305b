#if defined(__x86_64__)

#include <immintrin.h>

#include "tools/bench/limits_kernels.h"

namespace ds4 {

#define DS4_RENEW(vector) __asm__ volatile("" : "+v"(vector))

void avx512_int8_rounds(int64_t rounds) {
  __m512i sums[12] = {};
  const __m512i a = _mm512_set1_epi8(1);
  const __m512i b = _mm512_set1_epi8(2);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (__m512i& sum : sums) {
      sum = _mm512_dpbusd_epi32(sum, a, b);
      DS4_RENEW(sum);
    }
  }
}

void avx512_f32_rounds(int64_t rounds) {
  __m512 sums[12] = {};
  const __m512 a = _mm512_set1_ps(0.5f);
  const __m512 b = _mm512_set1_ps(0.25f);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (__m512& sum : sums) {
      sum = _mm512_fmadd_ps(a, b, sum);
      DS4_RENEW(sum);
    }
  }
}

void avx512_bf16_rounds(int64_t rounds) {
  __m512 sums[12] = {};
  const __m512bh a = _mm512_cvtne2ps_pbh(_mm512_set1_ps(0.5f), _mm512_set1_ps(0.5f));
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (__m512& sum : sums) {
      sum = _mm512_dpbf16_ps(sum, a, a);
      DS4_RENEW(sum);
    }
  }
}

}  // namespace ds4

#endif
