#pragma once

// Weight blocks as small integers with scales (ops/weight_blocks.h), in loops that the compiler vectorises. Every
// function is a template over the instruction set's type, so that each set has its own copies, compiled with its flags.

#include <bit>
#include <cstdint>
#include <cstring>

#include "gguf/blocks.h"
#include "gguf/iq_tables.h"
#include "ops/weight_blocks.h"

namespace ds4::cpu {

inline constexpr int8_t kDoubledE2M1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// Half an E8M0 scale, the factor of doubled codes.
struct HalfE8m0 {
  float values[256];
};
constexpr HalfE8m0 make_half_e8m0() {
  HalfE8m0 table{};
  for (uint32_t e = 0; e < 255; ++e) table.values[e] = std::bit_cast<float>(e < 2 ? 0x00200000u << e : (e - 1) << 23);
  table.values[255] = std::bit_cast<float>(0x7FC00000u);
  return table;
}
inline constexpr HalfE8m0 kHalfE8m0 = make_half_e8m0();
constexpr float half_e8m0(uint8_t code) { return kHalfE8m0.values[code]; }

// What the kernels know of a block type at compile time.
template <class Block>
struct BlockTraits;
template <>
struct BlockTraits<BlockQ8_0> {
  static constexpr bool kIs256 = false, kSigned = true;
};
template <>
struct BlockTraits<BlockMXFP4> {
  static constexpr bool kIs256 = false, kSigned = true;
};
template <>
struct BlockTraits<BlockQ2_K> {
  static constexpr bool kIs256 = true, kSigned = false, kHasMins = true;
  static constexpr int kSubElements = 16;
};
template <>
struct BlockTraits<BlockQ4_K> {
  static constexpr bool kIs256 = true, kSigned = false, kHasMins = true;
  static constexpr int kSubElements = 32;
};
template <>
struct BlockTraits<BlockIQ2_XXS> {
  static constexpr bool kIs256 = true, kSigned = true, kHasMins = false;
  static constexpr int kSubElements = 32;
};

// Signs of eight values as bytes 0xFF and 0, by their 7-bit code; the eighth makes the number of minus signs even.
struct SignMasks {
  uint64_t masks[128];
};
constexpr SignMasks make_sign_masks() {
  SignMasks table{};
  for (uint32_t code = 0; code < 128; ++code) {
    uint32_t signs = code;
    for (uint32_t bit = 0; bit < 7; ++bit) signs ^= ((code >> bit) & 1) << 7;
    for (int j = 0; j < 8; ++j) {
      if ((signs >> j) & 1) table.masks[code] |= uint64_t{0xFF} << (8 * j);
    }
  }
  return table;
}
inline constexpr SignMasks kSignMasks = make_sign_masks();

// A row of the grid, eight magnitudes, as one word.
template <class S>
inline uint64_t grid_word(uint32_t index) {
  uint64_t word;
  std::memcpy(&word, kIq2xxsGrid[index].data(), sizeof(word));
  return word;
}

template <class S>
inline void unpack_codes(const BlockMXFP4& block, int8_t* codes) {
  S::expand_nibbles(block.qs, kDoubledE2M1, codes);
}

template <class S>
inline void unpack_codes(const BlockQ2_K& block, int8_t* codes) {
  for (int n = 0; n < 2; ++n) {
    for (int j = 0; j < 4; ++j) {
      for (int l = 0; l < 32; ++l)
        codes[128 * n + 32 * j + l] = static_cast<int8_t>((block.qs[32 * n + l] >> (2 * j)) & 3);
    }
  }
}

template <class S>
inline void unpack_codes(const BlockQ4_K& block, int8_t* codes) {
  for (int n = 0; n < 4; ++n) {
    for (int l = 0; l < 32; ++l) {
      codes[64 * n + l] = static_cast<int8_t>(block.qs[32 * n + l] & 15);
      codes[64 * n + 32 + l] = static_cast<int8_t>(block.qs[32 * n + l] >> 4);
    }
  }
}

// One group of 32: grid indices in the low word, signs and scale in the high one.
struct Iq2Group {
  uint32_t indices;
  uint32_t signs_and_scale;
};

template <class S>
inline void unpack_codes(const BlockIQ2_XXS& block, int8_t* codes) {
  if constexpr (requires { &S::expand_grid; }) return S::expand_grid(kIq2xxsGrid.data(), block.qs, codes);
  for (int g = 0; g < 8; ++g) {
    Iq2Group group;
    std::memcpy(&group, block.qs + 4 * g, sizeof(group));
    for (int l = 0; l < 4; ++l) {
      const uint64_t magnitudes = grid_word<S>((group.indices >> (8 * l)) & 255);
      const uint64_t mask = kSignMasks.masks[(group.signs_and_scale >> (7 * l)) & 127];
      // Bytes are at least 8, so a negated one never carries.
      const uint64_t signed_bytes = (magnitudes ^ mask) + (mask & 0x0101010101010101u);
      std::memcpy(codes + 32 * g + 8 * l, &signed_bytes, 8);
    }
  }
}

// Scale and minimum of every sub-block: 16 of Q2_K, 8 of the others (mins stay unwritten where there are none).
template <class S>
inline void unpack_scales(const BlockQ2_K& block, int16_t* scales, int16_t* mins) {
  for (int t = 0; t < 16; ++t) {
    scales[t] = block.scales[t] & 15;
    mins[t] = block.scales[t] >> 4;
  }
}

template <class S>
inline void unpack_scales(const BlockQ4_K& block, int16_t* scales, int16_t* mins) {
  for (int b = 0; b < 8; ++b) {
    const ScaleMin scale_min = q4k_scale_min(block.scales, b);
    scales[b] = scale_min.scale;
    mins[2 * b] = mins[2 * b + 1] = scale_min.min;
  }
}

template <class S>
inline void unpack_scales(const BlockIQ2_XXS& block, int16_t* scales, int16_t*) {
  for (int g = 0; g < 8; ++g) scales[g] = static_cast<int16_t>(2 * (block.qs[4 * g + 3] >> 12) + 1);
}

}  // namespace ds4::cpu
