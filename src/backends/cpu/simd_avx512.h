#pragma once

// AVX-512 (F, BW, DQ, VL) with VNNI as the generic kernels want them (generic_kernels.h explains the interface).
// vpdpbusd multiplies unsigned with signed bytes and never saturates. Codes that are never negative are its unsigned
// side. Of others one side is made unsigned by adding 128, and 128 times the sum of the other side is taken off again.
// Users: isa_avx512.cc, isa_amx.cc, and tests with the instructions spelled out in plain C++ (tests/ops/emulated).

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace ds4::cpu {

struct Avx512 {
  static constexpr int kLanes = 16;
  static constexpr int kColumns = 8;
  static constexpr int kPlanes = 1;
  using F = __m512;
  using I = __m512i;

  static F zero() { return _mm512_setzero_ps(); }
  static F set1(float x) { return _mm512_set1_ps(x); }
  static F load(const float* p) { return _mm512_loadu_ps(p); }
  static void store(float* p, F x) { _mm512_storeu_ps(p, x); }
  static F add(F a, F b) { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  static F div(F a, F b) { return _mm512_div_ps(a, b); }
  static F sqrt(F a) { return _mm512_sqrt_ps(a); }
  static F max(F a, F b) { return _mm512_max_ps(a, b); }
  static F min(F a, F b) { return _mm512_min_ps(a, b); }
  static F abs(F a) { return _mm512_abs_ps(a); }
  static F to_float(I x) { return _mm512_cvtepi32_ps(x); }
  static float from_f16(uint16_t bits) { return _cvtsh_ss(bits); }
  static F load_f16(const std::byte* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }
  static F load_bf16(const std::byte* p) {
    const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
  }
  // E4M3 codes other than NaN: an F16 with its exponent 8 too small.
  static F load_e4m3(const std::byte* p) {
    const __m256i codes = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    const __m256i halves =
        _mm256_and_si256(_mm256_slli_epi16(codes, 7), _mm256_set1_epi16(static_cast<int16_t>(0xBFFF)));
    return _mm512_mul_ps(_mm512_cvtph_ps(halves), _mm512_set1_ps(256.0f));
  }
  // 2^n for whole n in [-126, 127].
  static F pow2(F n) {
    const F biased = _mm512_add_ps(n, _mm512_set1_ps(0x1p23f + 127.0f));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_castps_si512(biased), 23));
  }
  static F swap_pairs(F x) { return _mm512_permute_ps(x, 0xB1); }
  // Nearest even, saturated to [-127, 127].
  static void store_codes(F x, int8_t* p) {
    const __m128i codes = _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_max_epi8(codes, _mm_set1_epi8(-127)));
  }
  static float reduce_max(F x) {
    const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
  }
  // Sum of 16 partial sums as a tree of halves.
  static float reduce16(const F* parts) {
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(*parts), _mm512_extractf32x8_ps(*parts, 1));
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  }

  static I zero_i() { return _mm512_setzero_si512(); }
  static I load_i(const void* p) { return _mm512_loadu_si512(p); }
  static I broadcast4(const void* p) {
    int32_t bits;
    __builtin_memcpy(&bits, p, sizeof(bits));
    return _mm512_set1_epi32(bits);
  }
  // Products of 16-bit pairs, added to sum.
  static I madd(I sum, I a, I b) { return _mm512_dpwssd_epi32(sum, a, b); }

  // Weights of 8 bits plus 128.
  static void pack_32(const int8_t* const* rows, int8_t* panel) {
    interleave_32(rows, panel);
    for (int step = 0; step < 8; ++step) {
      const I raised = _mm512_xor_si512(load_i(panel + step * 64), _mm512_set1_epi8(-128));
      _mm512_storeu_si512(panel + step * 64, raised);
    }
  }

  // sums[c] = products of 32 codes a row, any 8-bit weights; x_sums[c]: the sum of the column's 32 codes.
  // panel [8 steps][16 rows][4], as pack_32 leaves it.
  template <int kN>
  static void dot_32(const int8_t* panel, const int8_t* const* x, const int16_t* const* x_sums, I* sums) {
#pragma GCC unroll 8
    for (int c = 0; c < kN; ++c) sums[c] = _mm512_set1_epi32(-128 * *x_sums[c]);
#pragma GCC unroll 8
    for (int step = 0; step < 8; ++step) {
      const I w = load_i(panel + step * 64);
#pragma GCC unroll 8
      for (int c = 0; c < kN; ++c) sums[c] = _mm512_dpbusd_epi32(sums[c], w, broadcast4(x[c] + step * 4));
    }
  }

  // The same for panels that interleave_32 left, without the columns' sums.
  template <int kN>
  static void dot_codes(const int8_t* panel, const int8_t* const* x, I* sums) {
    alignas(32) uint8_t raised[kN][32];
#pragma GCC unroll 8
    for (int c = 0; c < kN; ++c) {
      const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x[c]));
      _mm256_store_si256(reinterpret_cast<__m256i*>(raised[c]), _mm256_xor_si256(codes, _mm256_set1_epi8(-128)));
      sums[c] = zero_i();
    }
    const I all_128 = _mm512_set1_epi8(-128);  // as an unsigned byte
    I excess = zero_i();
#pragma GCC unroll 8
    for (int step = 0; step < 8; ++step) {
      const I w = load_i(panel + step * 64);
      excess = _mm512_dpbusd_epi32(excess, all_128, w);
#pragma GCC unroll 8
      for (int c = 0; c < kN; ++c) sums[c] = _mm512_dpbusd_epi32(sums[c], broadcast4(raised[c] + step * 4), w);
    }
#pragma GCC unroll 8
    for (int c = 0; c < kN; ++c) sums[c] = _mm512_sub_epi32(sums[c], excess);
  }

  // sums[c] += scale * products of 4 * kSteps codes a row, where codes lie in [0, 15]: 16 products fit in 16 bits, so
  // that they meet the scale in one instruction. scale: the row's scale in both halves of every lane.
  template <int kSteps, int kN>
  static void dot_small(const int8_t* panel, const int8_t* const* x, I scale, I* sums) {
    static_assert(kSteps % 4 == 0);
    const I low_scale = _mm512_and_si512(scale, _mm512_set1_epi32(0xFFFF));
#pragma GCC unroll 2
    for (int first = 0; first < kSteps; first += 4) {
      I parts[kN];
      for (int c = 0; c < kN; ++c) parts[c] = zero_i();
#pragma GCC unroll 4
      for (int step = first; step < first + 4; ++step) {
        const I w = load_i(panel + step * 64);
#pragma GCC unroll 8
        for (int c = 0; c < kN; ++c) parts[c] = _mm512_dpbusd_epi32(parts[c], w, broadcast4(x[c] + step * 4));
      }
#pragma GCC unroll 8
      for (int c = 0; c < kN; ++c) sums[c] = madd(sums[c], parts[c], low_scale);
    }
  }

  // The same for 32 codes of both signs.
  template <int kN>
  static void dot_signed(const int8_t* panel, const int8_t* const* x, I scale, I* sums) {
    const I whole_scale = _mm512_and_si512(scale, _mm512_set1_epi32(0xFFFF));
    I parts[kN];
    dot_codes<kN>(panel, x, parts);
#pragma GCC unroll 8
    for (int c = 0; c < kN; ++c) sums[c] = _mm512_add_epi32(sums[c], _mm512_mullo_epi32(parts[c], whole_scale));
  }

  // codes[i] = table[low nibble i], codes[i + 16] = table[high nibble i] of 16 bytes.
  static void expand_nibbles(const uint8_t* packed, const int8_t* table, int8_t* codes) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(packed));
    const __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i*>(table));
    const __m256i both = _mm256_set_m128i(_mm_srli_epi16(bytes, 4), bytes);
    const __m256i nibbles = _mm256_and_si256(both, _mm256_set1_epi8(15));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(codes),
                        _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), nibbles));
  }

  // 32 codes of a row with 32 of a column, in eight sums.
  static __m256i dot_row(__m256i w, __m256i x) {
    return _mm256_dpbusd_epi32(_mm256_setzero_si256(), _mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
  }

  // 16 rows of 32 codes -> panel [8 steps][16 rows][4]: 4x4 words at a time inside the four quarters of a vector, which
  // hold steps 0-3 and 4-7 of row r, then of row r + 4.
  static void interleave_32(const int8_t* const* rows, int8_t* panel) {
    I upper[4];
    I lower[4];
    transpose_quarters(rows, upper);
    transpose_quarters(rows + 8, lower);
    for (int k = 0; k < 4; ++k) {
      _mm512_storeu_si512(panel + k * 64, _mm512_shuffle_i32x4(upper[k], lower[k], 0x88));
      _mm512_storeu_si512(panel + (k + 4) * 64, _mm512_shuffle_i32x4(upper[k], lower[k], 0xDD));
    }
  }

 private:
  // [k]: words k and k + 4 of rows 0 to 3, then of rows 4 to 7.
  static void transpose_quarters(const int8_t* const* rows, I* words) {
    I r[4];
    for (int i = 0; i < 4; ++i) {
      const __m256i low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[i]));
      const __m256i high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[i + 4]));
      r[i] = _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
    }
    const I a = _mm512_unpacklo_epi32(r[0], r[1]);
    const I b = _mm512_unpackhi_epi32(r[0], r[1]);
    const I c = _mm512_unpacklo_epi32(r[2], r[3]);
    const I d = _mm512_unpackhi_epi32(r[2], r[3]);
    words[0] = _mm512_unpacklo_epi64(a, c);
    words[1] = _mm512_unpackhi_epi64(a, c);
    words[2] = _mm512_unpacklo_epi64(b, d);
    words[3] = _mm512_unpackhi_epi64(b, d);
  }
};

}  // namespace ds4::cpu
