#include "gguf/quantize.h"

#include <algorithm>
#include <array>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <span>

#include "base/float_formats.h"
#include "gguf/blocks.h"
#include "gguf/quantize_blocks.h"

namespace ds4 {

namespace {

float max_magnitude(const float* x, int n) {
  float largest = 0.0f;
  for (int i = 0; i < n; ++i) largest = std::max(largest, std::fabs(x[i]));
  return largest;
}

// 1 / step, or 0 where the quotient would overflow: such a block is zero.
float inverse(float step) { return step >= FLT_MIN ? 1.0f / step : 0.0f; }

// The reference rounding, with the factor before it is stored.
void round_block(const float* x, float d, BlockQ8_0& block) {
  const float inverse_d = inverse(d);
  block.d = f32_to_f16(d);
  for (int i = 0; i < BlockQ8_0::kElements; ++i) {
    block.qs[i] = static_cast<int8_t>(std::clamp(std::round(x[i] * inverse_d), -127.0f, 127.0f));
  }
}

struct Q8Fit {
  double error = 0.0;
  double xq = 0.0, qq = 0.0;  // of the codes: sums of w x q and w q^2
};

Q8Fit measure(const float* x, const float* weights, const BlockQ8_0& block) {
  Q8Fit fit;
  const double d = f16_to_f32(block.d);
  for (int i = 0; i < BlockQ8_0::kElements; ++i) {
    const double weight = weights[i];
    const double q = block.qs[i];
    const double difference = static_cast<double>(x[i]) - d * q;
    fit.error += weight * difference * difference;
    fit.xq += weight * static_cast<double>(x[i]) * q;
    fit.qq += weight * q * q;
  }
  return fit;
}

void quantize_block(const float* x, const float* weights, BlockQ8_0& block) {
  const float whole_range = max_magnitude(x, BlockQ8_0::kElements) / 127.0f;
  round_block(x, whole_range, block);
  if (weights == nullptr) return;
  // With weights a smaller step may pay, at the price of cut off values that matter little.
  Q8Fit best = measure(x, weights, block);
  const auto keep_better = [&](float d) {
    BlockQ8_0 other;
    round_block(x, f16_to_f32(f32_to_f16(d)), other);
    const Q8Fit fit = measure(x, weights, other);
    if (fit.error >= best.error) return;
    best = fit;
    block = other;
  };
  for (const float share : {1.0f, 0.97f, 0.9f, 0.8f, 0.65f, 0.5f}) keep_better(whole_range * share);
  for (int i = 0; i < 2; ++i) {
    if (best.qq > 0.0) keep_better(static_cast<float>(best.xq / best.qq));
  }
}

// E2M1 magnitudes as multiples of 1/2, and their codes.
constexpr std::array<uint8_t, 13> kE2m1Codes = {0, 1, 2, 3, 4, 4, 5, 5, 6, 6, 6, 6, 7};

// x over the block's scale to the nearest E2M1 value, ties to the even code, in a form that vectorises.
float round_to_e2m1(float x) {
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23: adding it rounds to integers
  const float magnitude = std::fabs(x);
  const float step = magnitude < 2.0f ? 0.5f : magnitude < 4.0f ? 1.0f : 2.0f;
  const float inverse_step = magnitude < 2.0f ? 2.0f : magnitude < 4.0f ? 1.0f : 0.5f;
  const float rounded = ((magnitude * inverse_step + kShift) - kShift) * step;
  return std::copysign(rounded < 6.0f ? rounded : 6.0f, x);
}

void quantize_block(const float* x, const float* weights, BlockMXFP4& block) {
  constexpr int kElements = BlockMXFP4::kElements;
  constexpr int kHalf = kElements / 2;
  constexpr int kLargestElementExponent = 2;  // of 4 and 6
  constexpr int kLeastExponent = -127;
  constexpr int kMostExponent = 125;  // six times the scale is still a float
  const float largest = max_magnitude(x, kElements);
  const int usual =
      largest > 0.0f ? std::max(std::ilogb(largest) - kLargestElementExponent, kLeastExponent) : kLeastExponent;
  std::array<float, kElements> best;
  double best_error = -1.0;
  // The scale of the OCP MX rule, which cuts off what is above 6, and its neighbours; more of them below, where what is
  // cut off may have no weight.
  constexpr std::array kOffsets = {0, 1, -1, -2, -3, -4, -5, -6};
  const size_t n_scales = weights != nullptr ? kOffsets.size() : 3;
  for (const int offset : std::span(kOffsets).first(n_scales)) {
    const int exponent = usual + offset;
    if (exponent < kLeastExponent || exponent > kMostExponent) continue;
    std::array<float, kElements> scaled, rounded;
    // Exact in two steps, even where 2^-exponent is no float.
    const float half = exp2_int(-exponent / 2);
    const float rest = exp2_int(-exponent - -exponent / 2);
    for (int i = 0; i < kElements; ++i) scaled[i] = x[i] * half * rest;
    double error = 0.0;
    for (int i = 0; i < kElements; ++i) {
      rounded[i] = round_to_e2m1(scaled[i]);
      const float difference = scaled[i] - rounded[i];
      error += static_cast<double>(weights != nullptr ? weights[i] * difference * difference : difference * difference);
    }
    error = std::ldexp(error, 2 * (exponent - usual));
    if (best_error >= 0.0 && error >= best_error) continue;
    best_error = error;
    best = rounded;
    block.e = static_cast<uint8_t>(exponent - kLeastExponent);
  }
  const auto code = [&best](int i) {
    return kE2m1Codes[static_cast<size_t>(2.0f * std::fabs(best[i]))] | (best[i] < 0.0f ? 8 : 0);
  };
  for (int j = 0; j < kHalf; ++j) block.qs[j] = static_cast<uint8_t>(code(j) | (code(j + kHalf) << 4));
}

const BlockQuantizers& searched() {
  const BlockQuantizers* avx2 = avx2_block_quantizers();
  return avx2 != nullptr ? *avx2 : *portable_block_quantizers();
}

template <class Block>
void quantize_blocks(const float* source, const float* importance, std::byte* out, int64_t n_elements) {
  for (int64_t i = 0; i < n_elements; i += Block::kElements, out += sizeof(Block)) {
    Block block;
    quantize_block(source + i, importance != nullptr ? importance + i : nullptr, block);
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
  CHECK(n_elements >= 0 && n_elements % dtype_info(type).block_elements == 0, "{} elements of {}", n_elements,
        dtype_name(type));
  switch (type) {
    case DType::kF32: std::memcpy(out, source, static_cast<size_t>(n_elements) * sizeof(float)); return;
    case DType::kF16: narrow<f32_to_f16>(source, out, n_elements); return;
    case DType::kBF16: narrow<f32_to_bf16>(source, out, n_elements); return;
    case DType::kQ8_0: quantize_blocks<BlockQ8_0>(source, importance, out, n_elements); return;
    case DType::kMXFP4: quantize_blocks<BlockMXFP4>(source, importance, out, n_elements); return;
    case DType::kQ2_K: searched().q2_k(source, importance, out, n_elements); return;
    case DType::kQ4_K: searched().q4_k(source, importance, out, n_elements); return;
    case DType::kIQ2_XXS: searched().iq2_xxs(source, importance, out, n_elements); return;
    case DType::kI32:
    case DType::kU8: break;
  }
  CHECK(false, "{} has no float values", dtype_name(type));
}

}  // namespace ds4
