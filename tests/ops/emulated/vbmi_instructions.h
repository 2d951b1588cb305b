#pragma once

// More AVX-512 instructions in plain C++ (avx512_instructions.h): what backends/cpu/gemv_avx512.h adds, with byte
// permutations (VBMI) and bit matrices (GFNI).

#include <algorithm>
#include <tuple>

#include "ops/emulated/avx512_instructions.h"

namespace ds4::emulated {

using UnsignedBytes512 = std::array<uint8_t, 64>;
using UnsignedQuads512 = std::array<uint64_t, 8>;

template <class Result, class Body>
Int512 each_of(const Body& body) {
  Result result;
  for (size_t i = 0; i < result.size(); ++i) result[i] = static_cast<typename Result::value_type>(body(i));
  return std::bit_cast<Int512>(result);
}

inline Int512 set1_epi16(int16_t x) {
  return each_of<Words512>([&](size_t) { return x; });
}
inline Int512 set1_epi64(int64_t x) {
  return each_of<Quads512>([&](size_t) { return x; });
}
inline Int512 or_si512(const Int512& a, const Int512& b) {
  return each<Int512>([&](int i) { return a.lane[i] | b.lane[i]; });
}
inline Int512 add_epi8(const Int512& a, const Int512& b) {
  const auto left = std::bit_cast<UnsignedBytes512>(a);
  const auto right = std::bit_cast<UnsignedBytes512>(b);
  return each_of<UnsignedBytes512>([&](size_t i) { return left[i] + right[i]; });
}
inline Int512 mullo_epi16(const Int512& a, const Int512& b) {
  const auto left = std::bit_cast<Words512>(a);
  const auto right = std::bit_cast<Words512>(b);
  return each_of<Words512>([&](size_t i) { return left[i] * right[i]; });
}
inline Int512 srli_epi16(const Int512& a, unsigned count) {
  const auto words = std::bit_cast<std::array<uint16_t, 32>>(a);
  return each_of<std::array<uint16_t, 32>>([&](size_t i) { return count > 15 ? 0 : words[i] >> count; });
}
// Words of every 128-bit quarter: four of a, then four of b, saturated.
inline Int512 packs_epi32(const Int512& a, const Int512& b) {
  return each_of<Words512>([&](size_t i) {
    const Int512& source = i % 8 < 4 ? a : b;
    return std::clamp(source.lane[i / 8 * 4 + i % 4], int32_t{-32768}, int32_t{32767});
  });
}
inline __m256i cvtepi32_epi16(const Int512& a) {
  std::array<int16_t, 16> words;
  for (size_t i = 0; i < 16; ++i) words[i] = static_cast<int16_t>(a.lane[i]);
  return std::bit_cast<__m256i>(words);
}
// Lanes of every quarter: two of a, then two of b, chosen by two bits each.
inline Float512 shuffle_ps(const Float512& a, const Float512& b, int control) {
  return each<Float512>([&](int i) {
    const int lane = i / 4 * 4 + ((control >> (2 * (i % 4))) & 3);
    return i % 4 < 2 ? a.lane[lane] : b.lane[lane];
  });
}
// Bytes of the own quarter, zero where the control's top bit is set.
inline Int512 shuffle_epi8(const Int512& a, const Int512& control) {
  const auto bytes = std::bit_cast<UnsignedBytes512>(a);
  const auto chosen = std::bit_cast<UnsignedBytes512>(control);
  return each_of<UnsignedBytes512>(
      [&](size_t i) { return chosen[i] >= 128 ? uint8_t{0} : bytes[i / 16 * 16 + (chosen[i] & 15)]; });
}
// Elements of every quarter in turn, from the lower (first = 0) or upper (first = 1) half of a and b.
template <class Elements>
Int512 unpack(const Int512& a, const Int512& b, size_t first) {
  constexpr size_t kQuarter = std::tuple_size_v<Elements> / 4;
  const auto left = std::bit_cast<Elements>(a);
  const auto right = std::bit_cast<Elements>(b);
  return each_of<Elements>([&](size_t i) {
    const size_t source = i / kQuarter * kQuarter + first * kQuarter / 2 + i % kQuarter / 2;
    return i % 2 == 0 ? left[source] : right[source];
  });
}
inline Int512 unpacklo_epi8(const Int512& a, const Int512& b) { return unpack<Bytes512>(a, b, 0); }
inline Int512 unpackhi_epi8(const Int512& a, const Int512& b) { return unpack<Bytes512>(a, b, 1); }
inline Int512 unpacklo_epi16(const Int512& a, const Int512& b) { return unpack<Words512>(a, b, 0); }
inline Int512 unpackhi_epi16(const Int512& a, const Int512& b) { return unpack<Words512>(a, b, 1); }
// Of sixteen elements, a's first, by the index's low four bits.
inline Int512 permutex2var_epi64(const Int512& a, const Int512& index, const Int512& b) {
  const auto left = std::bit_cast<Quads512>(a);
  const auto right = std::bit_cast<Quads512>(b);
  const auto chosen = std::bit_cast<UnsignedQuads512>(index);
  return each_of<Quads512>([&](size_t i) {
    const size_t element = chosen[i] & 15;
    return element < 8 ? left[element] : right[element - 8];
  });
}
inline Int512 i32gather_epi32(const Int512& index, const void* base, int scale) {
  return each<Int512>([&](int i) {
    int32_t word;
    std::memcpy(&word, static_cast<const std::byte*>(base) + int64_t{index.lane[i]} * scale, sizeof(word));
    return word;
  });
}

inline uint64_t movepi8_mask(const Int512& a) {
  const auto bytes = std::bit_cast<UnsignedBytes512>(a);
  uint64_t mask = 0;
  for (size_t i = 0; i < 64; ++i) mask |= uint64_t{bytes[i]} >> 7 << i;
  return mask;
}
// b where the mask's bit is set, else a.
inline Int512 mask_mov_epi8(const Int512& a, uint64_t mask, const Int512& b) {
  const auto kept = std::bit_cast<Bytes512>(a);
  const auto taken = std::bit_cast<Bytes512>(b);
  return each_of<Bytes512>([&](size_t i) { return ((mask >> i) & 1) != 0 ? taken[i] : kept[i]; });
}
// Any byte of the table, by the index's low six bits.
inline Int512 permutexvar_epi8(const Int512& index, const Int512& table) {
  const auto chosen = std::bit_cast<UnsignedBytes512>(index);
  const auto bytes = std::bit_cast<Bytes512>(table);
  return each_of<Bytes512>([&](size_t i) { return bytes[chosen[i] & 63]; });
}
inline Int512 mask_permutexvar_epi8(const Int512& kept, uint64_t mask, const Int512& index, const Int512& table) {
  return mask_mov_epi8(kept, mask, permutexvar_epi8(index, table));
}
// Eight bits of the own eight bytes from the bit that the control names on, wrapped around.
inline Int512 multishift_epi64_epi8(const Int512& control, const Int512& a) {
  const auto shifts = std::bit_cast<UnsignedBytes512>(control);
  const auto quads = std::bit_cast<UnsignedQuads512>(a);
  return each_of<UnsignedBytes512>([&](size_t i) { return std::rotr(quads[i / 8], shifts[i] & 63); });
}
// Bit i of a result: the parity of the byte's bits that byte 7 - i of the matrix (of the own eight bytes) selects,
// inverted where bit i of the constant is set.
inline Int512 gf2p8affine_epi64_epi8(const Int512& a, const Int512& matrices, int constant) {
  const auto bytes = std::bit_cast<UnsignedBytes512>(a);
  const auto rows = std::bit_cast<UnsignedBytes512>(matrices);
  return each_of<UnsignedBytes512>([&](size_t i) {
    int result = constant;
    for (size_t bit = 0; bit < 8; ++bit) {
      const auto selected = static_cast<uint8_t>(bytes[i] & rows[i / 8 * 8 + 7 - bit]);
      result ^= (std::popcount(selected) & 1) << bit;
    }
    return result;
  });
}

}  // namespace ds4::emulated
