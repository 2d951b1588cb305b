#pragma once
// size-check: templates

// The AVX-512 instructions that backends/cpu/simd_avx512.h and gemv_avx512.h use, in plain C++ after the vendor's
// description of each, so that their kernels run on processors without them. Instructions up to AVX2 stay the
// compiler's; avx512_names.h puts these functions in the place of the others. Pure functions, any thread.

#include <immintrin.h>

#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "base/float_formats.h"

namespace ds4::emulated {

struct Float512 {
  float lane[16];
};
struct Int512 {
  int32_t lane[16];
};
using Bytes512 = std::array<int8_t, 64>;
using Words512 = std::array<int16_t, 32>;
using Quads512 = std::array<int64_t, 8>;

template <class Result, class Body>
Result each(const Body& body) {
  Result result;
  for (int i = 0; i < 16; ++i) result.lane[i] = body(i);
  return result;
}

inline Float512 setzero_ps() { return {}; }
inline Float512 set1_ps(float x) {
  return each<Float512>([&](int) { return x; });
}
inline Float512 loadu_ps(const void* p) {
  Float512 result;
  std::memcpy(&result, p, sizeof(result));
  return result;
}
inline void storeu_ps(void* p, const Float512& x) { std::memcpy(p, &x, sizeof(x)); }
// Lanes whose bit in the mask is clear: zero, or not written. Their memory is not touched.
inline Float512 maskz_loadu_ps(uint32_t mask, const float* p) {
  return each<Float512>([&](int i) { return ((mask >> i) & 1) != 0 ? p[i] : 0.0f; });
}
inline void mask_storeu_ps(float* p, uint32_t mask, const Float512& x) {
  for (int i = 0; i < 16; ++i) {
    if (((mask >> i) & 1) != 0) p[i] = x.lane[i];
  }
}
inline Float512 add_ps(const Float512& a, const Float512& b) {
  return each<Float512>([&](int i) { return a.lane[i] + b.lane[i]; });
}
inline Float512 sub_ps(const Float512& a, const Float512& b) {
  return each<Float512>([&](int i) { return a.lane[i] - b.lane[i]; });
}
inline Float512 mul_ps(const Float512& a, const Float512& b) {
  return each<Float512>([&](int i) { return a.lane[i] * b.lane[i]; });
}
inline Float512 fmadd_ps(const Float512& a, const Float512& b, const Float512& c) {
  return each<Float512>([&](int i) { return std::fma(a.lane[i], b.lane[i], c.lane[i]); });
}
inline Float512 div_ps(const Float512& a, const Float512& b) {
  return each<Float512>([&](int i) { return a.lane[i] / b.lane[i]; });
}
inline Float512 sqrt_ps(const Float512& a) {
  return each<Float512>([&](int i) { return std::sqrt(a.lane[i]); });
}
inline Float512 min_ps(const Float512& a, const Float512& b) {
  return each<Float512>([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
}
inline Float512 max_ps(const Float512& a, const Float512& b) {
  return each<Float512>([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
}
inline Float512 abs_ps(const Float512& a) {
  return each<Float512>([&](int i) { return std::bit_cast<float>(std::bit_cast<uint32_t>(a.lane[i]) & 0x7FFFFFFFu); });
}
inline Float512 cvtepi32_ps(const Int512& a) {
  return each<Float512>([&](int i) { return static_cast<float>(a.lane[i]); });
}
inline Int512 cvtps_epi32(const Float512& a) {
  return each<Int512>([&](int i) {
    const float rounded = std::nearbyint(a.lane[i]);
    const bool fits = rounded >= -0x1p31f && rounded < 0x1p31f;
    return fits ? static_cast<int32_t>(rounded) : std::numeric_limits<int32_t>::min();
  });
}
inline __m128i cvtsepi32_epi8(const Int512& a) {
  std::array<int8_t, 16> codes;
  for (size_t i = 0; i < 16; ++i)
    codes[i] = static_cast<int8_t>(a.lane[i] > 127 ? 127 : a.lane[i] < -128 ? -128 : a.lane[i]);
  return std::bit_cast<__m128i>(codes);
}
inline Float512 cvtph_ps(__m256i a) {
  const auto halves = std::bit_cast<std::array<uint16_t, 16>>(a);
  return each<Float512>([&](int i) { return f16_to_f32(halves[static_cast<size_t>(i)]); });
}
inline Int512 cvtepu16_epi32(__m256i a) {
  const auto words = std::bit_cast<std::array<uint16_t, 16>>(a);
  return each<Int512>([&](int i) { return int32_t{words[static_cast<size_t>(i)]}; });
}
inline Float512 castsi512_ps(const Int512& a) { return std::bit_cast<Float512>(a); }
inline Int512 castps_si512(const Float512& a) { return std::bit_cast<Int512>(a); }
// Lanes of the own quarter, two bits for each of its four places.
inline Float512 permute_ps(const Float512& a, int control) {
  return each<Float512>([&](int i) { return a.lane[i / 4 * 4 + ((control >> (2 * (i % 4))) & 3)]; });
}
inline __m256 castps512_ps256(const Float512& a) { return _mm256_loadu_ps(a.lane); }
inline __m256 extractf32x8_ps(const Float512& a, int half) { return _mm256_loadu_ps(a.lane + 8 * half); }

inline Int512 setzero_si512() { return {}; }
inline Int512 loadu_si512(const void* p) {
  Int512 result;
  std::memcpy(&result, p, sizeof(result));
  return result;
}
inline void storeu_si512(void* p, const Int512& x) { std::memcpy(p, &x, sizeof(x)); }
inline Int512 set1_epi32(int32_t x) {
  return each<Int512>([&](int) { return x; });
}
inline Int512 set1_epi8(int8_t x) {
  Bytes512 bytes;
  bytes.fill(x);
  return std::bit_cast<Int512>(bytes);
}
inline Int512 and_si512(const Int512& a, const Int512& b) {
  return each<Int512>([&](int i) { return a.lane[i] & b.lane[i]; });
}
inline Int512 xor_si512(const Int512& a, const Int512& b) {
  return each<Int512>([&](int i) { return a.lane[i] ^ b.lane[i]; });
}
inline Int512 add_epi32(const Int512& a, const Int512& b) {
  return each<Int512>(
      [&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(a.lane[i]) + static_cast<uint32_t>(b.lane[i])); });
}
inline Int512 sub_epi32(const Int512& a, const Int512& b) {
  return each<Int512>(
      [&](int i) { return static_cast<int32_t>(static_cast<uint32_t>(a.lane[i]) - static_cast<uint32_t>(b.lane[i])); });
}
inline Int512 mullo_epi32(const Int512& a, const Int512& b) {
  return each<Int512>([&](int i) { return static_cast<int32_t>(int64_t{a.lane[i]} * b.lane[i]); });
}
inline Int512 slli_epi32(const Int512& a, unsigned count) {
  return each<Int512>(
      [&](int i) { return count > 31 ? 0 : static_cast<int32_t>(static_cast<uint32_t>(a.lane[i]) << count); });
}
inline Int512 srli_epi32(const Int512& a, unsigned count) {
  return each<Int512>(
      [&](int i) { return count > 31 ? 0 : static_cast<int32_t>(static_cast<uint32_t>(a.lane[i]) >> count); });
}
inline Int512 srli_epi64(const Int512& a, unsigned count) {
  auto quads = std::bit_cast<std::array<uint64_t, 8>>(a);
  for (uint64_t& quad : quads) quad = count > 63 ? 0 : quad >> count;
  return std::bit_cast<Int512>(quads);
}
inline __m256i cvtepi64_epi32(const Int512& a) {
  std::array<int32_t, 8> low;
  for (size_t i = 0; i < 8; ++i) low[i] = a.lane[2 * i];
  return std::bit_cast<__m256i>(low);
}
inline Int512 cvtepu8_epi64(__m128i a) {
  const auto bytes = std::bit_cast<std::array<uint8_t, 16>>(a);
  Quads512 quads;
  for (size_t i = 0; i < 8; ++i) quads[i] = bytes[i];
  return std::bit_cast<Int512>(quads);
}
inline Int512 i64gather_epi64(const Int512& index, const void* base, int scale) {
  Quads512 quads = std::bit_cast<Quads512>(index);
  for (int64_t& quad : quads) std::memcpy(&quad, static_cast<const std::byte*>(base) + quad * scale, sizeof(quad));
  return std::bit_cast<Int512>(quads);
}
// Bytes whose bit in the mask is clear are those of src.
inline Int512 mask_sub_epi8(const Int512& src, uint64_t mask, const Int512& a, const Int512& b) {
  auto bytes = std::bit_cast<Bytes512>(src);
  const auto a_bytes = std::bit_cast<Bytes512>(a);
  const auto b_bytes = std::bit_cast<Bytes512>(b);
  for (size_t i = 0; i < bytes.size(); ++i) {
    if (((mask >> i) & 1) != 0) bytes[i] = static_cast<int8_t>(a_bytes[i] - b_bytes[i]);
  }
  return std::bit_cast<Int512>(bytes);
}

// Four products of an unsigned byte of `a` with a signed byte of `b`, and sum, modulo 2^32.
inline int32_t dpbusd_lane(int32_t sum, uint32_t a, uint32_t b) {
  int64_t result = sum;
  for (int k = 0; k < 4; ++k) {
    const auto unsigned_byte = static_cast<uint8_t>(a >> (8 * k));
    const auto signed_byte = static_cast<int8_t>(b >> (8 * k));
    result += int32_t{unsigned_byte} * signed_byte;
  }
  return static_cast<int32_t>(result);
}
inline Int512 dpbusd_epi32(const Int512& sum, const Int512& a, const Int512& b) {
  return each<Int512>([&](int i) {
    return dpbusd_lane(sum.lane[i], static_cast<uint32_t>(a.lane[i]), static_cast<uint32_t>(b.lane[i]));
  });
}
inline __m256i dpbusd_epi32_256(__m256i sum, __m256i a, __m256i b) {
  auto sums = std::bit_cast<std::array<int32_t, 8>>(sum);
  const auto a_lanes = std::bit_cast<std::array<uint32_t, 8>>(a);
  const auto b_lanes = std::bit_cast<std::array<uint32_t, 8>>(b);
  for (size_t i = 0; i < 8; ++i) sums[i] = dpbusd_lane(sums[i], a_lanes[i], b_lanes[i]);
  return std::bit_cast<__m256i>(sums);
}
// Two products of signed words, and sum, modulo 2^32.
inline Int512 dpwssd_epi32(const Int512& sum, const Int512& a, const Int512& b) {
  const auto a_words = std::bit_cast<Words512>(a);
  const auto b_words = std::bit_cast<Words512>(b);
  return each<Int512>([&](int i) {
    const size_t low = 2 * static_cast<size_t>(i);
    const int64_t products = int64_t{a_words[low]} * b_words[low] + int64_t{a_words[low + 1]} * b_words[low + 1];
    return static_cast<int32_t>(sum.lane[i] + products);
  });
}

inline Int512 castsi128_si512(__m128i a) {  // the rest is undefined: not zero here
  Int512 result = set1_epi8(0x5A);
  std::memcpy(result.lane, &a, sizeof(a));
  return result;
}
inline Int512 inserti32x4(Int512 a, __m128i b, int quarter) {
  std::memcpy(a.lane + 4 * quarter, &b, sizeof(b));
  return a;
}
inline Int512 broadcast_i32x4(__m128i a) {
  Int512 result;
  for (int quarter = 0; quarter < 4; ++quarter) std::memcpy(result.lane + 4 * quarter, &a, sizeof(a));
  return result;
}
inline Int512 broadcast_i64x4(__m256i a) {
  Int512 result;
  for (int half = 0; half < 2; ++half) std::memcpy(result.lane + 8 * half, &a, sizeof(a));
  return result;
}
inline Int512 castsi256_si512(__m256i a) {  // the upper half is undefined: not zero here
  Int512 result = set1_epi8(0x5A);
  std::memcpy(result.lane, &a, sizeof(a));
  return result;
}
inline Int512 inserti64x4(Int512 a, __m256i b, int half) {
  std::memcpy(a.lane + 8 * half, &b, sizeof(b));
  return a;
}
// Of every 128-bit quarter: words 0, 1 (first = 0) or 2, 3 (first = 2) of a and b in turn.
inline Int512 unpack_epi32(const Int512& a, const Int512& b, int first) {
  return each<Int512>([&](int i) {
    const int word = i / 4 * 4 + first + i % 4 / 2;
    return i % 2 == 0 ? a.lane[word] : b.lane[word];
  });
}
inline Int512 unpacklo_epi32(const Int512& a, const Int512& b) { return unpack_epi32(a, b, 0); }
inline Int512 unpackhi_epi32(const Int512& a, const Int512& b) { return unpack_epi32(a, b, 2); }
inline Int512 unpack_epi64(const Int512& a, const Int512& b, size_t which) {
  const auto a_quads = std::bit_cast<Quads512>(a);
  const auto b_quads = std::bit_cast<Quads512>(b);
  Quads512 result;
  for (size_t quarter = 0; quarter < 4; ++quarter) {
    result[2 * quarter] = a_quads[2 * quarter + which];
    result[2 * quarter + 1] = b_quads[2 * quarter + which];
  }
  return std::bit_cast<Int512>(result);
}
inline Int512 unpacklo_epi64(const Int512& a, const Int512& b) { return unpack_epi64(a, b, 0); }
inline Int512 unpackhi_epi64(const Int512& a, const Int512& b) { return unpack_epi64(a, b, 1); }
// Quarters of the result: two of a, then two of b, chosen by two bits each.
inline Int512 shuffle_i32x4(const Int512& a, const Int512& b, int control) {
  return each<Int512>([&](int i) {
    const int quarter = (control >> (2 * (i / 4))) & 3;
    return (i < 8 ? a : b).lane[4 * quarter + i % 4];
  });
}

}  // namespace ds4::emulated
