#if defined(__x86_64__)

#include <immintrin.h>

#include "tools/bench/limits_kernels.h"

namespace ds4 {

// The compiler must take the register for new in every round.
#define DS4_RENEW(vector) __asm__ volatile("" : "+x"(vector))

void avx2_int8_rounds(int64_t rounds) {
  __m256i sums[8] = {};
  __m256i a = _mm256_set1_epi8(1);
  const __m256i b = _mm256_set1_epi8(2);
  const __m256i ones = _mm256_set1_epi16(1);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 8
    for (__m256i& sum : sums) {
      DS4_RENEW(a);
      sum = _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), ones));
    }
  }
  for (__m256i& sum : sums) DS4_RENEW(sum);
}

void avx2_f32_rounds(int64_t rounds) {
  __m256 sums[12] = {};
  const __m256 a = _mm256_set1_ps(0.5f);
  const __m256 b = _mm256_set1_ps(0.25f);
  for (int64_t round = 0; round < rounds; ++round) {
#pragma GCC unroll 12
    for (__m256& sum : sums) {
      sum = _mm256_fmadd_ps(a, b, sum);
      DS4_RENEW(sum);
    }
  }
}

uint64_t avx2_read(const void* memory, int64_t n_bytes) {
  __m256i sums[8] = {};
  const auto* at = static_cast<const __m256i*>(memory);
  for (const __m256i* end = at + n_bytes / static_cast<int64_t>(sizeof(__m256i)); at != end; at += 16) {
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) sums[i % 8] = _mm256_add_epi64(sums[i % 8], _mm256_loadu_si256(at + i));
  }
  uint64_t sum = 0;
  for (const __m256i lanes : sums) sum += static_cast<uint64_t>(_mm256_extract_epi64(lanes, 0));
  return sum;
}

}  // namespace ds4

#endif
