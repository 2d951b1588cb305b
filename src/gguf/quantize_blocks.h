#pragma once

// Inside gguf/quantize: one function per format whose blocks are searched for, and how a block is made ready for the
// search. All of them minimise the sum of weight * (value - stored)^2 over the block. Pure functions, any thread.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>

#include "base/float_formats.h"

namespace ds4 {

// n_elements: whole blocks. importance [n_elements] or null: all equal.
using QuantizeBlocks = void (*)(const float* source, const float* importance, std::byte* out, int64_t n_elements);

struct BlockQuantizers {
  QuantizeBlocks q2_k;
  QuantizeBlocks q4_k;
  QuantizeBlocks iq2_xxs;
};
// Compiled for one instruction set each; null where it is not compiled in or the processor lacks it. The results are
// the same.
const BlockQuantizers* portable_block_quantizers();
const BlockQuantizers* avx2_block_quantizers();

// A block scaled by a power of two so that its largest magnitude lies in [1, 2), which no square over- or underflows,
// and its weights with a largest of 1. Zero weights become tiny ones: a sub-block without any must have an answer too.
// `S`: the instruction set, so that no linker mixes them up.
template <class S, size_t kElements>
struct ScaledBlock {
  std::array<float, kElements> values;
  std::array<float, kElements> weights;
  int exponent = 0;         // source = values * 2^exponent
  bool is_zero = false;     // nothing else is set then
  bool is_uniform = false;  // all weights are 1

  ScaledBlock(const float* source, const float* importance) {
    constexpr float kLeastWeight = 1e-6f;
    constexpr float kNoWeight = 1e-30f;
    float largest = 0.0f;
    for (size_t i = 0; i < kElements; ++i) largest = std::max(largest, std::fabs(source[i]));
    is_zero = largest == 0.0f;
    if (is_zero) return;
    exponent = std::ilogb(largest);
    // In two steps: the factor for a subnormal block is no float.
    const float half = exp2_int(-exponent / 2);
    const float rest = exp2_int(-exponent - -exponent / 2);
    for (size_t i = 0; i < kElements; ++i) values[i] = source[i] * half * rest;
    float heaviest = 0.0f;
    for (size_t i = 0; i < kElements && importance != nullptr; ++i) heaviest = std::max(heaviest, importance[i]);
    is_uniform = heaviest < kNoWeight;
    if (is_uniform) {
      weights.fill(1.0f);
    } else {
      const float inverse = 1.0f / heaviest;
      for (size_t i = 0; i < kElements; ++i) weights[i] = std::max(importance[i] * inverse, kLeastWeight);
    }
  }

  // A factor of the scaled values as F16 bits of the real one, and the factor that those bits stand for.
  uint16_t to_stored(float factor) const { return f32_to_f16(std::ldexp(factor, exponent)); }
  float rounded(float factor) const { return std::ldexp(f16_to_f32(to_stored(factor)), -exponent); }
};

}  // namespace ds4
