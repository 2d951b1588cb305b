#pragma once

// Signs of IQ2_XXS codes in AVX2 registers, for every set on x86 that unpacks them.

#include <immintrin.h>

namespace ds4::cpu {

// Unnamed: every set that includes this compiles it with flags of its own.
namespace {

// Sign bits of four times eight codes as the four bytes of every word: seven stored bits and the parity that makes the
// number of minus signs even.
inline __m256i sign_bytes(__m256i words) {
  const auto field = [&](__m256i shifted, int mask) { return _mm256_and_si256(shifted, _mm256_set1_epi32(mask)); };
  const __m256i low = _mm256_or_si256(field(words, 0x7F), field(_mm256_slli_epi32(words, 1), 0x7F00));
  const __m256i high =
      _mm256_or_si256(field(_mm256_slli_epi32(words, 2), 0x7F0000), field(_mm256_slli_epi32(words, 3), 0x7F000000));
  const __m256i bits = _mm256_or_si256(low, high);
  const __m256i folded = _mm256_and_si256(_mm256_xor_si256(bits, _mm256_srli_epi16(bits, 4)), _mm256_set1_epi8(15));
  const __m256i odd =
      _mm256_broadcastsi128_si256(_mm_set_epi64x(0x0080800080000080, static_cast<long long>(0x8000008000808000)));
  return _mm256_or_si256(bits, _mm256_shuffle_epi8(odd, folded));
}

}  // namespace

}  // namespace ds4::cpu
