#pragma once
// size-check: templates

// AVX-512 (F, BW, DQ, VL) with VNNI as the generic kernels want them (generic_kernels.h explains the interface).
// vpdpbusd multiplies unsigned with signed bytes and never saturates. Codes that are never negative are its unsigned
// side. Others meet activations that are made unsigned by adding 128, and 128 times the sum of the weights is taken off
// again.
// Users: isa_avx512.cc, isa_amx.cc, and tests with the instructions spelled out in plain C++ (tests/ops/emulated).

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "backends/cpu/sign_bytes_x86.h"

namespace ds4::cpu {

struct Avx512 {
  static constexpr int kLanes = 16;
  // Every broadcast of an activation serves two vectors of rows. Twelve products and their totals fit in registers;
  // what spilled beside the loads of scales would wait for addresses that look alike.
  static constexpr int kColumns = 6;
  static constexpr int kRowVectors = 2;
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

  // Scales of neighbouring sub-blocks in 16-bit pairs: the first, the second, as dot_small and dot_signed want them.
  static I first_scale(I pairs) { return _mm512_and_si512(pairs, _mm512_set1_epi32(0xFFFF)); }
  static I second_scale(I pairs) { return _mm512_srli_epi32(pairs, 16); }

  // Signed weights meet activations plus 128.
  static constexpr bool kRaisesColumns = true;
  static void pack_32(const int8_t* const* rows, int8_t* panel) { interleave_32(rows, panel); }
  static void raise(const int8_t* codes, int64_t n, int8_t* raised) {
    const I all_128 = _mm512_set1_epi8(-128);
    int64_t i = 0;
    for (; i + 64 <= n; i += 64)
      _mm512_storeu_si512(raised + i, _mm512_xor_si512(_mm512_loadu_si512(codes + i), all_128));
    if (i < n) {
      const __m256i last = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(codes + i));
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(raised + i), _mm256_xor_si256(last, _mm256_set1_epi8(-128)));
    }
  }
  // What that adds to the products of 32 codes a row, negated.
  static I excess_32(const int8_t* panel) {
    const I all_128 = _mm512_set1_epi8(-128);  // as an unsigned byte
    I excess = zero_i();
    for (int step = 0; step < 8; ++step) excess = _mm512_dpbusd_epi32(excess, all_128, load_i(panel + step * 64));
    return _mm512_sub_epi32(zero_i(), excess);
  }
  static I add_scaled(I sum, I products, I scale) { return _mm512_add_epi32(sum, _mm512_mullo_epi32(products, scale)); }
  static void store_i(void* p, I x) { _mm512_storeu_si512(p, x); }

  // sums[v][c] = products of 32 codes a row of panels[v] [8 steps][16 rows][4] with column c, raised. excess: of the
  // rows.
  template <int kV, int kN, class Columns>
  static void dot_32(const int8_t* const* panels, const int32_t* excess, Columns x, I (*sums)[kN]) {
#pragma GCC unroll 2
    for (int v = 0; v < kV; ++v) {
#pragma GCC unroll 8
      for (int c = 0; c < kN; ++c) sums[v][c] = load_i(excess + v * kLanes);
    }
    add_raised<kV, kN>(panels, x, sums);
  }

  // sums[v][c] += scales[v] * products of 4 * kSteps codes a row, where codes lie in [0, 15]: 16 products fit in 16
  // bits, so that they meet the scale in one instruction.
  template <int kSteps, int kV, int kN, class Columns>
  static void dot_small(const int8_t* const* panels, Columns x, const I* scales, I (*sums)[kN]) {
    static_assert(kSteps % 4 == 0);
#pragma GCC unroll 2
    for (int first = 0; first < kSteps; first += 4) {
      I parts[kV][kN];
      for (int v = 0; v < kV; ++v) {
        for (int c = 0; c < kN; ++c) parts[v][c] = zero_i();
      }
#pragma GCC unroll 4
      for (int step = first; step < first + 4; ++step) {
        I w[kV];
        for (int v = 0; v < kV; ++v) w[v] = load_i(panels[v] + step * 64);
#pragma GCC unroll 8
        for (int c = 0; c < kN; ++c) {
          const I codes = broadcast4(x.codes(c) + step * 4);
          for (int v = 0; v < kV; ++v) parts[v][c] = _mm512_dpbusd_epi32(parts[v][c], w[v], codes);
        }
      }
#pragma GCC unroll 2
      for (int v = 0; v < kV; ++v) {
#pragma GCC unroll 8
        for (int c = 0; c < kN; ++c) sums[v][c] = madd(sums[v][c], parts[v][c], scales[v]);
      }
    }
  }

  // The same for 32 codes of both signs and raised columns; the sums must begin with the scaled excess.
  template <int kV, int kN, class Columns>
  static void dot_signed(const int8_t* const* panels, Columns x, const I* scales, I (*sums)[kN]) {
    I parts[kV][kN];
    for (int v = 0; v < kV; ++v) {
      for (int c = 0; c < kN; ++c) parts[v][c] = zero_i();
    }
    add_raised<kV, kN>(panels, x, parts);
#pragma GCC unroll 2
    for (int v = 0; v < kV; ++v) {
#pragma GCC unroll 8
      for (int c = 0; c < kN; ++c) sums[v][c] = add_scaled(sums[v][c], parts[v][c], scales[v]);
    }
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

  // 256 codes of IQ2_XXS: eight groups of four grid rows and their signs (block_codes.h).
  static void expand_grid(const void* grid, const void* groups, int8_t* codes) {
    const I words = load_i(groups);
    alignas(32) uint8_t indices[32];
    alignas(32) uint64_t signs[4];
    _mm256_store_si256(reinterpret_cast<__m256i*>(indices), _mm512_cvtepi64_epi32(words));
    _mm256_store_si256(reinterpret_cast<__m256i*>(signs),
                       sign_bytes(_mm512_cvtepi64_epi32(_mm512_srli_epi64(words, 32))));
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(indices + 8 * i));
      const I magnitudes = _mm512_i64gather_epi64(_mm512_cvtepu8_epi64(eight), grid, 8);
      _mm512_storeu_si512(codes + 64 * i, _mm512_mask_sub_epi8(magnitudes, signs[i], zero_i(), magnitudes));
    }
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
  template <int kV, int kN, class Columns>
  static void add_raised(const int8_t* const* panels, Columns x, I (*sums)[kN]) {
#pragma GCC unroll 8
    for (int step = 0; step < 8; ++step) {
      I w[kV];
      for (int v = 0; v < kV; ++v) w[v] = load_i(panels[v] + step * 64);
#pragma GCC unroll 8
      for (int c = 0; c < kN; ++c) {
        const I codes = broadcast4(x.codes(c) + step * 4);
        for (int v = 0; v < kV; ++v) sums[v][c] = _mm512_dpbusd_epi32(sums[v][c], codes, w[v]);
      }
    }
  }

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
