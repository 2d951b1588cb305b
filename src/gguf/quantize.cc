#include "gguf/quantize.h"

#include <algorithm>
#include <array>
#include <cfloat>
#include <cmath>
#include <cstring>

#include "base/float_formats.h"
#include "gguf/blocks.h"
#include "gguf/iq_tables.h"

namespace ds4 {

namespace {

float max_magnitude(const float* x, int n) {
  float largest = 0.0f;
  for (int i = 0; i < n; ++i) largest = std::max(largest, std::fabs(x[i]));
  return largest;
}

// 1 / step, or 0 where the quotient would overflow: such a block is zero.
float inverse(float step) { return step >= FLT_MIN ? 1.0f / step : 0.0f; }

uint8_t round_clamped(float value, int largest) {
  return static_cast<uint8_t>(std::clamp(std::lround(value), 0L, static_cast<long>(largest)));
}

void quantize_block(const float* x, BlockQ8_0& block) {
  const float d = max_magnitude(x, BlockQ8_0::kElements) / 127.0f;
  const float inverse_d = inverse(d);
  block.d = f32_to_f16(d);
  for (int i = 0; i < BlockQ8_0::kElements; ++i) block.qs[i] = static_cast<int8_t>(std::round(x[i] * inverse_d));
}

void quantize_block(const float* x, BlockMXFP4& block) {
  constexpr int kHalf = BlockMXFP4::kElements / 2;
  constexpr int kLargestElementExponent = 2;  // of 4 and 6
  const float largest = max_magnitude(x, BlockMXFP4::kElements);
  const int exponent = largest > 0.0f ? std::max(std::ilogb(largest) - kLargestElementExponent, -127) : -127;
  block.e = static_cast<uint8_t>(exponent + 127);
  // Scaling by ldexp is exact, even where 2^-exponent is no float.
  const auto code = [&](int i) { return f32_to_e2m1(std::ldexp(x[i], -exponent)); };
  for (int j = 0; j < kHalf; ++j) block.qs[j] = static_cast<uint8_t>(code(j) | (code(j + kHalf) << 4));
}

// x is about step * q - minimum with q in 0..levels and minimum >= 0.
struct AffineRange {
  float step;
  float minimum;
};

AffineRange affine_range(const float* x, int n, int levels) {
  const auto [low, high] = std::minmax_element(x, x + n);
  const float minimum = std::max(-*low, 0.0f);
  return {std::max(*high + minimum, 0.0f) / static_cast<float>(levels), minimum};
}

// The shape that Q2_K and Q4_K share: sub-blocks with small integer scales and minima under two F16 factors.
template <int kSubBlocks, int kSubElements, int kLevels, int kScaleLevels>
struct AffineBlock {
  uint16_t d;
  uint16_t dmin;
  std::array<uint8_t, kSubBlocks> scales;
  std::array<uint8_t, kSubBlocks> minima;
  std::array<uint8_t, kSubBlocks * kSubElements> qs;

  explicit AffineBlock(const float* x) {
    std::array<AffineRange, kSubBlocks> ranges;
    AffineRange largest{0.0f, 0.0f};
    for (size_t b = 0; b < kSubBlocks; ++b) {
      ranges[b] = affine_range(x + b * kSubElements, kSubElements, kLevels);
      largest = {std::max(largest.step, ranges[b].step), std::max(largest.minimum, ranges[b].minimum)};
    }
    d = f32_to_f16(largest.step / kScaleLevels);
    dmin = f32_to_f16(largest.minimum / kScaleLevels);
    // From here on with the factors as they are stored.
    const float step_unit = f16_to_f32(d);
    const float minimum_unit = f16_to_f32(dmin);
    for (size_t b = 0; b < kSubBlocks; ++b) {
      scales[b] = round_clamped(ranges[b].step * inverse(step_unit), kScaleLevels);
      minima[b] = round_clamped(ranges[b].minimum * inverse(minimum_unit), kScaleLevels);
      const float inverse_step = inverse(step_unit * static_cast<float>(scales[b]));
      const float minimum = minimum_unit * static_cast<float>(minima[b]);
      for (size_t i = b * kSubElements; i < (b + 1) * kSubElements; ++i) {
        qs[i] = round_clamped((x[i] + minimum) * inverse_step, kLevels);
      }
    }
  }
};

void quantize_block(const float* x, BlockQ2_K& block) {
  const AffineBlock<16, BlockQ2_K::kSubElements, 3, 15> affine(x);
  block = {};
  block.d = affine.d;
  block.dmin = affine.dmin;
  for (size_t b = 0; b < 16; ++b) block.scales[b] = static_cast<uint8_t>(affine.scales[b] | (affine.minima[b] << 4));
  for (size_t i = 0; i < BlockQ2_K::kElements; ++i) {
    uint8_t& packed = block.qs[32 * (i / 128) + i % 32];
    packed = static_cast<uint8_t>(packed | (affine.qs[i] << (2 * ((i % 128) / 32))));
  }
}

void quantize_block(const float* x, BlockQ4_K& block) {
  const AffineBlock<8, BlockQ4_K::kSubElements, 15, 63> affine(x);
  block = {};
  block.d = affine.d;
  block.dmin = affine.dmin;
  for (size_t b = 0; b < 4; ++b) {
    block.scales[b] = static_cast<uint8_t>(affine.scales[b] | ((affine.scales[b + 4] >> 4) << 6));
    block.scales[b + 4] = static_cast<uint8_t>(affine.minima[b] | ((affine.minima[b + 4] >> 4) << 6));
    block.scales[b + 8] = static_cast<uint8_t>((affine.scales[b + 4] & 15) | ((affine.minima[b + 4] & 15) << 4));
  }
  for (size_t i = 0; i < BlockQ4_K::kElements; ++i) {
    uint8_t& packed = block.qs[32 * (i / 64) + i % 32];
    packed = static_cast<uint8_t>(packed | (affine.qs[i] << (4 * ((i / 32) % 2))));
  }
}

// Eight elements of an IQ2_XXS group: signs that the format can hold, and for every grid entry what the
// squared error |m|^2 - 2 s dot + s^2 norm needs, where m are the magnitudes and s is the scale.
struct Iq2Eight {
  uint32_t sign_code = 0;
  std::array<float, 256> dots{};

  explicit Iq2Eight(const float* x) {
    std::array<float, 8> magnitudes;
    uint32_t signs = 0;
    for (size_t j = 0; j < 8; ++j) {
      magnitudes[j] = std::fabs(x[j]);
      signs |= static_cast<uint32_t>(std::signbit(x[j])) << j;
    }
    // An odd number of minus signs cannot be stored: the smallest element takes the wrong one.
    if ((std::popcount(signs) & 1) != 0) {
      const auto smallest = static_cast<size_t>(std::ranges::min_element(magnitudes) - magnitudes.begin());
      signs ^= 1u << smallest;
      magnitudes[smallest] = -magnitudes[smallest];
    }
    sign_code = signs & 127u;
    for (size_t entry = 0; entry < dots.size(); ++entry) {
      for (size_t j = 0; j < 8; ++j) dots[entry] += magnitudes[j] * static_cast<float>(kIq2xxsGrid[entry][j]);
    }
  }
};

struct Iq2Choice {
  float error = 0.0f;  // without the constant |m|^2
  std::array<uint8_t, 4> entries{};
};

std::array<float, 256> grid_norms() {
  std::array<float, 256> norms{};
  for (size_t entry = 0; entry < norms.size(); ++entry) {
    for (const uint8_t value : kIq2xxsGrid[entry]) norms[entry] += static_cast<float>(value * value);
  }
  return norms;
}

Iq2Choice choose_entries(const std::array<Iq2Eight, 4>& eights, float scale) {
  static const std::array<float, 256> kNorms = grid_norms();
  Iq2Choice choice;
  for (size_t l = 0; l < eights.size(); ++l) {
    float best = FLT_MAX;
    for (size_t entry = 0; entry < kNorms.size(); ++entry) {
      const float error = scale * (scale * kNorms[entry] - 2.0f * eights[l].dots[entry]);
      if (error < best) {
        best = error;
        choice.entries[l] = static_cast<uint8_t>(entry);
      }
    }
    choice.error += best;
  }
  return choice;
}

void quantize_block(const float* x, BlockIQ2_XXS& block) {
  constexpr float kLargestMagnitude = 43.0f;
  constexpr float kLargestScale = 15.5f * 0.25f;
  block = {};
  block.d = f32_to_f16(max_magnitude(x, BlockIQ2_XXS::kElements) / (kLargestMagnitude * kLargestScale));
  const float d = f16_to_f32(block.d);
  for (int g = 0; g < BlockIQ2_XXS::kElements / 32; ++g, x += 32) {
    const std::array<Iq2Eight, 4> eights = {Iq2Eight(x), Iq2Eight(x + 8), Iq2Eight(x + 16), Iq2Eight(x + 24)};
    uint32_t best_scale = 0;
    Iq2Choice best;
    for (uint32_t scale = 0; scale < 16; ++scale) {
      const Iq2Choice choice = choose_entries(eights, d * (0.5f + static_cast<float>(scale)) * 0.25f);
      if (scale == 0 || choice.error < best.error) {
        best = choice;
        best_scale = scale;
      }
    }
    uint32_t signs_and_scale = best_scale << 28;
    for (size_t l = 0; l < 4; ++l) signs_and_scale |= eights[l].sign_code << (7 * l);
    uint16_t* words = block.qs + 4 * g;
    words[0] = static_cast<uint16_t>(best.entries[0] | (best.entries[1] << 8));
    words[1] = static_cast<uint16_t>(best.entries[2] | (best.entries[3] << 8));
    words[2] = static_cast<uint16_t>(signs_and_scale & 0xFFFFu);
    words[3] = static_cast<uint16_t>(signs_and_scale >> 16);
  }
}

template <class Block>
void quantize_blocks(const float* source, std::byte* out, int64_t n_elements) {
  for (int64_t i = 0; i < n_elements; i += Block::kElements, out += sizeof(Block)) {
    Block block;
    quantize_block(source + i, block);
    std::memcpy(out, &block, sizeof(Block));
  }
}

template <uint16_t (*FromFloat)(float)>
void narrow(const float* source, std::byte* out, int64_t n_elements) {
  for (int64_t i = 0; i < n_elements; ++i) {
    const uint16_t bits = FromFloat(source[i]);
    std::memcpy(out + 2 * i, &bits, 2);
  }
}

}  // namespace

void quantize_row(DType type, const float* source, const float* importance, std::byte* out, int64_t n_elements) {
  static_cast<void>(importance);
  CHECK(n_elements >= 0 && n_elements % dtype_info(type).block_elements == 0, "{} elements of {}", n_elements,
        dtype_name(type));
  switch (type) {
    case DType::kF32: std::memcpy(out, source, static_cast<size_t>(n_elements) * sizeof(float)); return;
    case DType::kF16: narrow<f32_to_f16>(source, out, n_elements); return;
    case DType::kBF16: narrow<f32_to_bf16>(source, out, n_elements); return;
    case DType::kQ8_0: quantize_blocks<BlockQ8_0>(source, out, n_elements); return;
    case DType::kQ2_K: quantize_blocks<BlockQ2_K>(source, out, n_elements); return;
    case DType::kQ4_K: quantize_blocks<BlockQ4_K>(source, out, n_elements); return;
    case DType::kIQ2_XXS: quantize_blocks<BlockIQ2_XXS>(source, out, n_elements); return;
    case DType::kMXFP4: quantize_blocks<BlockMXFP4>(source, out, n_elements); return;
    case DType::kI32:
    case DType::kU8: break;
  }
  CHECK(false, "{} has no float values", dtype_name(type));
}

}  // namespace ds4
