#pragma once

// AVX2, FMA and F16C as the generic kernels want them (generic_kernels.h explains the interface). Products of 8-bit
// codes go through 16-bit pairs: |w| x <= 128 * 127, so a pair fits.

#include <immintrin.h>

#include <cstdint>

namespace ds4::cpu {

struct Avx2 {
  static constexpr int kLanes = 8;
  static constexpr int kColumns = 4;
  static constexpr int kRowVectors = 1;
  static constexpr int kPlanes = 2;
  static constexpr bool kRaisesColumns = false;
  using F = __m256;
  using I = __m256i;

  static F zero() { return _mm256_setzero_ps(); }
  static F set1(float x) { return _mm256_set1_ps(x); }
  static F load(const float* p) { return _mm256_loadu_ps(p); }
  static void store(float* p, F x) { _mm256_storeu_ps(p, x); }
  static F add(F a, F b) { return _mm256_add_ps(a, b); }
  static F sub(F a, F b) { return _mm256_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  static F div(F a, F b) { return _mm256_div_ps(a, b); }
  static F sqrt(F a) { return _mm256_sqrt_ps(a); }
  // The second operand where either is NaN.
  static F max(F a, F b) { return _mm256_max_ps(a, b); }
  static F min(F a, F b) { return _mm256_min_ps(a, b); }
  static F abs(F a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
  static F to_float(I x) { return _mm256_cvtepi32_ps(x); }
  static float from_f16(uint16_t bits) { return _cvtsh_ss(bits); }
  static F load_f16(const std::byte* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static F load_bf16(const std::byte* p) {
    const __m128i bits = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bits), 16));
  }
  // E4M3 codes other than NaN: an F16 with its exponent 8 too small.
  static F load_e4m3(const std::byte* p) {
    const __m128i codes = _mm_cvtepi8_epi16(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
    const __m128i halves = _mm_and_si128(_mm_slli_epi16(codes, 7), _mm_set1_epi16(static_cast<int16_t>(0xBFFF)));
    return _mm256_mul_ps(_mm256_cvtph_ps(halves), _mm256_set1_ps(256.0f));
  }
  // 2^n for whole n in [-126, 127].
  static F pow2(F n) {
    const F biased = _mm256_add_ps(n, _mm256_set1_ps(0x1p23f + 127.0f));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_castps_si256(biased), 23));
  }
  static F swap_pairs(F x) { return _mm256_permute_ps(x, 0xB1); }
  // Nearest even, saturated to [-127, 127].
  static void store_codes(F x, int8_t* p) {
    const __m256i wide = _mm256_cvtps_epi32(x);
    const __m128i narrow = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    const __m128i codes = _mm_packs_epi16(narrow, narrow);
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_max_epi8(codes, _mm_set1_epi8(-127)));
  }
  static float reduce_max(F x) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }
  // Sum of 16 partial sums as a tree of halves.
  static float reduce16(const F* parts) {
    const F eight = add(parts[0], parts[1]);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }

  static I zero_i() { return _mm256_setzero_si256(); }
  static I load_i(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
  static void store_i(void* p, I x) { _mm256_storeu_si256(static_cast<__m256i*>(p), x); }
  static I broadcast4(const void* p) {
    int32_t bits;
    __builtin_memcpy(&bits, p, sizeof(bits));
    return _mm256_set1_epi32(bits);
  }
  // Products of 16-bit pairs, added to sum.
  static I madd(I sum, I a, I b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }

  // Weights of 8 bits plus 128 as two planes of 4 bits: their pair sums of a whole block fit in 16 bits, which costs
  // fewer multiplications than 8-bit magnitudes do. panel [8 steps][low, high][8 rows][4].
  static void pack_32(const int8_t* const* rows, int8_t* panel) {
    alignas(32) int8_t codes[32 * kLanes];
    interleave_32(rows, codes);
    const I nibble = _mm256_set1_epi8(15);
    for (int step = 0; step < 8; ++step) {
      const I raised = _mm256_xor_si256(load_i(codes + step * 32), _mm256_set1_epi8(-128));
      store_i(panel + step * 64, _mm256_and_si256(raised, nibble));
      store_i(panel + step * 64 + 32, _mm256_and_si256(_mm256_srli_epi16(raised, 4), nibble));
    }
  }

  // Scales of neighbouring sub-blocks in 16-bit pairs: the first, the second, in both halves of every lane.
  static I first_scale(I pairs) { return _mm256_blend_epi16(pairs, _mm256_slli_epi32(pairs, 16), 0xAA); }
  static I second_scale(I pairs) { return _mm256_blend_epi16(_mm256_srli_epi32(pairs, 16), pairs, 0xAA); }

  // sums[v][c] = products of 32 codes a row, any 8-bit weights.
  template <int kV, int kN, class Columns>
  static void dot_32(const int8_t* const* panels, const int32_t*, Columns x, I (*sums)[kN]) {
    static_assert(kV == 1);
    I low[kN];
    I high[kN];
    for (int c = 0; c < kN; ++c) low[c] = high[c] = zero_i();
#pragma GCC unroll 2
    for (int step = 0; step < 8; ++step) {
      const I w_low = load_i(panels[0] + step * 64);
      const I w_high = load_i(panels[0] + step * 64 + 32);
#pragma GCC unroll 4
      for (int c = 0; c < kN; ++c) {
        const I codes = broadcast4(x.codes(c) + step * 4);
        low[c] = _mm256_add_epi16(low[c], _mm256_maddubs_epi16(w_low, codes));
        high[c] = _mm256_add_epi16(high[c], _mm256_maddubs_epi16(w_high, codes));
      }
    }
#pragma GCC unroll 4
    for (int c = 0; c < kN; ++c) {
      const I excess = _mm256_set1_epi32(-128 * x.sum(c));
      sums[0][c] = madd(madd(excess, low[c], _mm256_set1_epi16(1)), high[c], _mm256_set1_epi16(16));
    }
  }

  // sums[v][c] += scales[v] * products of 4 * kSteps codes a row, where codes lie in [0, 15]: their pairs of a
  // sub-block fit in 16 bits together.
  template <int kSteps, int kV, int kN, class Columns>
  static void dot_small(const int8_t* const* panels, Columns x, const I* scales, I (*sums)[kN]) {
    static_assert(kV == 1);
    I parts[kN];
    for (int c = 0; c < kN; ++c) parts[c] = zero_i();
#pragma GCC unroll 8
    for (int step = 0; step < kSteps; ++step) {
      const I w = load_i(panels[0] + step * 32);
#pragma GCC unroll 4
      for (int c = 0; c < kN; ++c)
        parts[c] = _mm256_add_epi16(parts[c], _mm256_maddubs_epi16(w, broadcast4(x.codes(c) + step * 4)));
    }
#pragma GCC unroll 4
    for (int c = 0; c < kN; ++c) sums[0][c] = madd(sums[0][c], parts[c], scales[0]);
  }

  // The same for 32 codes in [-43, 43]: three pairs of such products fit in 16 bits.
  template <int kV, int kN, class Columns>
  static void dot_signed(const int8_t* const* panels, Columns x, const I* scales, I (*sums)[kN]) {
    static_assert(kV == 1);
#pragma GCC unroll 3
    for (int first = 0; first < 8; first += 3) {
      I parts[kN];
      for (int c = 0; c < kN; ++c) parts[c] = zero_i();
      const int last = first + 3 < 8 ? first + 3 : 8;
#pragma GCC unroll 3
      for (int step = first; step < last; ++step) {
        const I w = load_i(panels[0] + step * 32);
        const I magnitude = _mm256_abs_epi8(w);
#pragma GCC unroll 4
        for (int c = 0; c < kN; ++c) {
          const I signed_x = _mm256_sign_epi8(broadcast4(x.codes(c) + step * 4), w);
          parts[c] = _mm256_add_epi16(parts[c], _mm256_maddubs_epi16(magnitude, signed_x));
        }
      }
#pragma GCC unroll 4
      for (int c = 0; c < kN; ++c) sums[0][c] = madd(sums[0][c], parts[c], scales[0]);
    }
  }

  // codes[i] = table[low nibble i], codes[i + 16] = table[high nibble i] of 16 bytes.
  static void expand_nibbles(const uint8_t* packed, const int8_t* table, int8_t* codes) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(packed));
    const __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
    const I nibbles = _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(bytes, 4), bytes), _mm256_set1_epi8(15));
    store_i(codes, _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), nibbles));
  }

  // 32 codes of a row with 32 of a column, in eight sums.
  static I dot_row(I w, I x) {
    const I pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
  }

  // 8 rows of 32 codes -> panel [8 steps][8 rows][4].
  static void interleave_32(const int8_t* const* rows, int8_t* panel) {
    __m256 r[8];
    for (int i = 0; i < 8; ++i) r[i] = _mm256_castsi256_ps(load_i(rows[i]));
    __m256 t[8];
    for (int i = 0; i < 8; i += 2) {
      t[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
      t[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4) {
      r[i] = _mm256_shuffle_ps(t[i], t[i + 2], 0x44);
      r[i + 1] = _mm256_shuffle_ps(t[i], t[i + 2], 0xEE);
      r[i + 2] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0x44);
      r[i + 3] = _mm256_shuffle_ps(t[i + 1], t[i + 3], 0xEE);
    }
    for (int i = 0; i < 4; ++i) {
      _mm256_storeu_ps(reinterpret_cast<float*>(panel + i * 32), _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
      _mm256_storeu_ps(reinterpret_cast<float*>(panel + (i + 4) * 32), _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
    }
  }
};

}  // namespace ds4::cpu
