#if defined(__x86_64__)

#include <immintrin.h>

#include "tools/bench/limits_kernels.h"

namespace ds4 {

void avxvnni_int8_rounds(int64_t rounds) {
  __m256i sums[12] = {};
  const __m256i a = _mm256_set1_epi8(1);
  const __m256i b = _mm256_set1_epi8(2);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (__m256i& sum : sums) {
      sum = _mm256_dpbusd_avx_epi32(sum, a, b);
      __asm__ volatile("" : "+x"(sum));
    }
  }
}

}  // namespace ds4

#endif
