#pragma once

// Packed blocks of the quantised tensor types, exactly as they lie in a file (ggml's layouts). Kernels and
// the exact definitions (gguf/dequantize.h) share these structs. half-precision fields are raw F16 bits.
// Formulas: w = element, e = its index in the block.
//   Q8_0    w = d * qs[e]
//   Q2_K    w = d * (scales[e / 16] & 15) * q - dmin * (scales[e / 16] >> 4), q two bits
//   Q4_K    w = d * scale[e / 32] * q - dmin * min[e / 32], q four bits, scale and min six bits
//   IQ2_XXS w = d * (S + 0.5) / 4 * grid entry * sign (gguf/iq_tables.h)
//   MXFP4   w = E2M1(code) * 2^(e8m0 - 127)

#include <cstddef>
#include <cstdint>

namespace ds4 {

struct BlockQ8_0 {
  static constexpr int kElements = 32;
  uint16_t d;
  int8_t qs[kElements];
};
static_assert(sizeof(BlockQ8_0) == 34 && offsetof(BlockQ8_0, qs) == 2);

struct BlockQ2_K {
  static constexpr int kElements = 256;
  static constexpr int kSubElements = 16;
  uint8_t scales[16];  // low nibble scale, high nibble minimum, of 16 consecutive elements
  uint8_t qs[64];      // element 128n + 32j + l is bits 2j, 2j+1 of qs[32n + l]
  uint16_t d;
  uint16_t dmin;
};
static_assert(sizeof(BlockQ2_K) == 84 && offsetof(BlockQ2_K, qs) == 16 && offsetof(BlockQ2_K, d) == 80);
static_assert(offsetof(BlockQ2_K, dmin) == 82);

struct BlockQ4_K {
  static constexpr int kElements = 256;
  static constexpr int kSubElements = 32;
  uint16_t d;
  uint16_t dmin;
  uint8_t scales[12];  // eight 6-bit scales and minima, see q4k_scale_min
  uint8_t qs[128];     // element 64n + l is the low, 64n + 32 + l the high nibble of qs[32n + l]
};
static_assert(sizeof(BlockQ4_K) == 144 && offsetof(BlockQ4_K, scales) == 4 && offsetof(BlockQ4_K, qs) == 16);

struct ScaleMin {
  uint8_t scale;
  uint8_t min;
};

// Unpacks sub-block b (0..7) of BlockQ4_K::scales.
inline ScaleMin q4k_scale_min(const uint8_t* scales, int b) {
  if (b < 4) return {static_cast<uint8_t>(scales[b] & 63), static_cast<uint8_t>(scales[b + 4] & 63)};
  return {static_cast<uint8_t>((scales[b + 4] & 15) | ((scales[b - 4] >> 6) << 4)),
          static_cast<uint8_t>((scales[b + 4] >> 4) | ((scales[b] >> 6) << 4))};
}

struct BlockIQ2_XXS {
  static constexpr int kElements = 256;
  uint16_t d;
  // Per 32 elements four words: the first two hold four grid indices of 8 bits, the last two four 7-bit
  // sign codes (from bit 0) and the 4-bit scale S (from bit 28).
  uint16_t qs[32];
};
static_assert(sizeof(BlockIQ2_XXS) == 66 && offsetof(BlockIQ2_XXS, qs) == 2);

struct BlockMXFP4 {
  static constexpr int kElements = 32;
  uint8_t e;       // E8M0 scale
  uint8_t qs[16];  // E2M1 codes: low nibble element j, high nibble element j + 16
};
static_assert(sizeof(BlockMXFP4) == 17 && offsetof(BlockMXFP4, qs) == 1);

}  // namespace ds4
