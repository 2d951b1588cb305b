// How good, how robust and how reproducible the quantisers' searches are. What the formats mean is in blocks_test.cc;
// the comparison with another implementation is tests/oracle/ggml_quant.

#include "gguf/quantize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "base/float_formats.h"
#include "base/rng.h"
#include "gguf/blocks.h"
#include "gguf/dequantize.h"
#include "gguf/iq_tables.h"
#include "gguf/quantize_blocks.h"

namespace ds4 {
namespace {

constexpr std::array kSearched = {DType::kQ8_0, DType::kQ2_K, DType::kQ4_K, DType::kIQ2_XXS, DType::kMXFP4};

std::vector<float> normal_like(uint64_t seed, size_t n) {
  Xorshift64Star random(seed);
  std::vector<float> values(n);
  for (float& value : values) {
    for (int i = 0; i < 6; ++i) value += random.next_unit() - 0.5f;
  }
  return values;
}

// A few values far out.
std::vector<float> heavy_tailed(uint64_t seed, size_t n) {
  std::vector<float> values = normal_like(seed, n);
  for (float& value : values) value *= value * value;
  return values;
}

std::vector<float> some_importance(uint64_t seed, size_t n) {
  std::vector<float> importance = normal_like(seed, n);
  for (float& weight : importance) weight = std::exp(2.0f * weight);
  return importance;
}

std::vector<std::byte> quantized(DType type, const std::vector<float>& values, const float* importance = nullptr) {
  const auto n = static_cast<int64_t>(values.size());
  std::vector<std::byte> bytes(row_bytes(type, n).value());
  quantize_row(type, values.data(), importance, bytes.data(), n);
  return bytes;
}

std::vector<float> round_trip(DType type, const std::vector<float>& values, const float* importance = nullptr) {
  std::vector<float> back(values.size());
  dequantize_row(type, quantized(type, values, importance).data(), back.data(), static_cast<int64_t>(values.size()));
  return back;
}

double weighted_error(const std::vector<float>& wanted, const std::vector<float>& found, const float* weights) {
  double sum = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const double difference = static_cast<double>(wanted[i]) - static_cast<double>(found[i]);
    sum += (weights != nullptr ? static_cast<double>(weights[i]) : 1.0) * difference * difference;
  }
  return sum;
}

// Range of each sub-block cut into equal steps, with real scales that no factor limits.
std::vector<float> plain_affine(const std::vector<float>& values, size_t sub_elements, float levels) {
  std::vector<float> rounded(values.size());
  for (size_t first = 0; first < values.size(); first += sub_elements) {
    float low = 0, high = 0;
    for (size_t i = first; i < first + sub_elements; ++i) {
      low = std::min(low, values[i]);
      high = std::max(high, values[i]);
    }
    const float step = (high - low) / levels;
    for (size_t i = first; i < first + sub_elements; ++i)
      rounded[i] = std::round((values[i] - low) / step) * step + low;
  }
  return rounded;
}

// The nearest grid entry of every eight under the scale at which a group of 32 just reaches its largest value, with
// free signs.
std::vector<float> plain_grid(const std::vector<float>& values) {
  std::vector<float> rounded(values.size());
  for (size_t first = 0; first < values.size(); first += 8) {
    const auto group = values.begin() + static_cast<ptrdiff_t>(first / 32 * 32);
    float scale = 0;
    for (auto value = group; value != group + 32; ++value) scale = std::max(scale, std::fabs(*value) / 43.0f);
    double best = INFINITY;
    for (const auto& entry : kIq2xxsGrid) {
      double error = 0;
      for (size_t j = 0; j < 8; ++j) error += std::pow(std::fabs(values[first + j]) - scale * entry[j], 2);
      if (error >= best) continue;
      best = error;
      for (size_t j = 0; j < 8; ++j) rounded[first + j] = std::copysign(scale * entry[j], values[first + j]);
    }
  }
  return rounded;
}

std::vector<float> plain_mxfp4(const std::vector<float>& values) {
  std::vector<float> rounded(values.size());
  for (size_t first = 0; first < values.size(); first += 32) {
    float largest = 0;
    for (size_t i = first; i < first + 32; ++i) largest = std::max(largest, std::fabs(values[i]));
    const float scale = exp2_int(std::ilogb(largest) - 2);
    for (size_t i = first; i < first + 32; ++i) rounded[i] = e2m1_to_f32(f32_to_e2m1(values[i] / scale)) * scale;
  }
  return rounded;
}

std::vector<float> plain(DType type, const std::vector<float>& values) {
  switch (type) {
    case DType::kQ2_K: return plain_affine(values, 16, 3);
    case DType::kQ4_K: return plain_affine(values, 32, 15);
    case DType::kIQ2_XXS: return plain_grid(values);
    case DType::kMXFP4: return plain_mxfp4(values);
    default: return round_trip(type, values);  // Q8_0 without importance is plain rounding
  }
}

class QuantizerTest : public testing::TestWithParam<DType> {};

TEST_P(QuantizerTest, BeatsPlainRoundingWithAndWithoutImportance) {
  const DType type = GetParam();
  const std::vector<float> importance = some_importance(3, 4096);
  for (const auto& values : {normal_like(1, 4096), heavy_tailed(2, 4096)}) {
    const std::vector<float> baseline = plain(type, values);
    for (const float* weights : {static_cast<const float*>(nullptr), importance.data()}) {
      const double error = weighted_error(values, round_trip(type, values, weights), weights);
      const double plain_error = weighted_error(values, baseline, weights);
      const bool is_plain = type == DType::kQ8_0 && weights == nullptr;
      EXPECT_LE(error, is_plain ? plain_error : 0.98 * plain_error) << (weights != nullptr ? "weighted" : "uniform");
    }
  }
}

TEST_P(QuantizerTest, ImportanceMovesPrecisionToWhereItCounts) {
  const std::vector<float> values = normal_like(4, 4096);
  const std::vector<float> importance = some_importance(5, 4096);
  const auto with = round_trip(GetParam(), values, importance.data());
  const auto without = round_trip(GetParam(), values);
  EXPECT_LT(weighted_error(values, with, importance.data()), weighted_error(values, without, importance.data()));
  EXPECT_GE(weighted_error(values, with, nullptr), weighted_error(values, without, nullptr));
}

TEST_P(QuantizerTest, OnlyProportionsOfImportanceCount) {
  const std::vector<float> values = normal_like(6, 1024);
  std::vector<float> importance = some_importance(7, 1024);
  const auto bytes = quantized(GetParam(), values, importance.data());
  for (float& weight : importance) weight *= 0x1p-30f;
  EXPECT_EQ(quantized(GetParam(), values, importance.data()), bytes);
  const std::vector<float> none(1024, 0.0f);
  const std::vector<float> equal(1024, 3.0f);
  const auto back = round_trip(GetParam(), values, none.data());
  EXPECT_LT(weighted_error(values, back, nullptr), weighted_error(values, std::vector<float>(1024), nullptr));
  EXPECT_LE(weighted_error(values, round_trip(GetParam(), values, equal.data()), nullptr),
            weighted_error(values, round_trip(GetParam(), values), nullptr));
}

TEST_P(QuantizerTest, ColumnsWithoutImportanceDoNotDisturbTheOthers) {
  std::vector<float> values = normal_like(8, 1024);
  std::vector<float> importance(1024, 1.0f);
  for (size_t i = 0; i < values.size(); i += 16) {
    values[i] *= 50.0f;
    importance[i] = 0.0f;
  }
  const auto back = round_trip(GetParam(), values, importance.data());
  double norm = 0;
  for (size_t i = 0; i < values.size(); ++i) norm += static_cast<double>(importance[i] * values[i] * values[i]);
  EXPECT_LT(std::sqrt(weighted_error(values, back, importance.data()) / norm), 0.5);
}

TEST_P(QuantizerTest, PowersOfTwoScaleThrough) {
  const std::vector<float> values = heavy_tailed(9, 1024);
  const std::vector<float> importance = some_importance(10, 1024);
  const auto back = round_trip(GetParam(), values, importance.data());
  for (const int exponent : {-7, 3, 9}) {
    std::vector<float> scaled = values;
    for (float& value : scaled) value = std::ldexp(value, exponent);
    std::vector<float> expected = back;
    for (float& value : expected) value = std::ldexp(value, exponent);
    EXPECT_EQ(round_trip(GetParam(), scaled, importance.data()), expected) << exponent;
  }
}

TEST_P(QuantizerTest, ZerosConstantsAndExtremesKeepTheirValue) {
  const std::vector<float> importance = some_importance(11, 256);
  for (const float* weights : {static_cast<const float*>(nullptr), importance.data()}) {
    for (const float value : {0.0f, 1.0f, -1.0f, 0.37f, -6e4f, 6e4f, 0.02f}) {
      for (const float found : round_trip(GetParam(), std::vector<float>(256, value), weights)) {
        // 0.37 is no multiple of a power of two by an E2M1 number.
        const double tolerance = GetParam() == DType::kMXFP4 ? 0.2 : 2e-3;
        EXPECT_NEAR(found, value, tolerance * std::fabs(value)) << value;
      }
    }
    for (const float value : {1e-30f, -1e-38f, 0x1p-149f}) {
      for (const float found : round_trip(GetParam(), std::vector<float>(256, value), weights)) {
        EXPECT_LE(std::fabs(found), 2 * std::fabs(value)) << value;
      }
    }
  }
}

TEST_P(QuantizerTest, OneLargeValueAmongSmallOnesSurvives) {
  for (const float large : {60000.0f, -60000.0f}) {
    std::vector<float> values = normal_like(12, 256);
    values[100] = large;
    const auto back = round_trip(GetParam(), values);
    // IQ2_XXS has no zero: whoever is near a large value grows with it, so half of it costs least.
    const double share = GetParam() == DType::kIQ2_XXS ? 0.45 : 0.85;
    EXPECT_GT(back[100] / large, share);
    EXPECT_LT(back[100] / large, 1.15);
    for (const float value : back) EXPECT_TRUE(std::isfinite(value));
  }
}

TEST_P(QuantizerTest, BlocksAreIndependent) {
  const std::vector<float> values = normal_like(13, 1024);
  const std::vector<float> importance = some_importance(14, 1024);
  const auto whole = quantized(GetParam(), values, importance.data());
  std::vector<std::byte> parts;
  for (size_t first = 0; first < values.size(); first += 256) {
    const std::vector<float> part(values.begin() + static_cast<ptrdiff_t>(first),
                                  values.begin() + static_cast<ptrdiff_t>(first + 256));
    const auto bytes = quantized(GetParam(), part, importance.data() + first);
    parts.insert(parts.end(), bytes.begin(), bytes.end());
  }
  EXPECT_EQ(parts, whole);
}

INSTANTIATE_TEST_SUITE_P(Types, QuantizerTest, testing::ValuesIn(kSearched),
                         [](const auto& test) { return std::string(dtype_name(test.param)); });

TEST(BlockQuantizersTest, EveryInstructionSetGivesTheSameBytes) {
  const BlockQuantizers* const others = avx2_block_quantizers();
  if (others == nullptr) GTEST_SKIP() << "no other instruction set here";
  const BlockQuantizers& portable = *portable_block_quantizers();
  const std::vector<float> importance = some_importance(15, 4096);
  const std::pair<QuantizeBlocks, QuantizeBlocks> pairs[] = {
      {portable.q2_k, others->q2_k}, {portable.q4_k, others->q4_k}, {portable.iq2_xxs, others->iq2_xxs}};
  for (const auto& values : {normal_like(16, 4096), heavy_tailed(17, 4096)}) {
    for (const float* weights : {static_cast<const float*>(nullptr), importance.data()}) {
      for (const auto& [one, other] : pairs) {
        std::vector<std::byte> expected(4096), found(4096);  // more than any of the types needs
        one(values.data(), weights, expected.data(), 4096);
        other(values.data(), weights, found.data(), 4096);
        EXPECT_EQ(found, expected);
      }
    }
  }
}

// Under a fixed scale every eight has an exact answer; the search may lose only what the choice of the scales costs.
TEST(Iq2XxsTest, NoEightCanBeImprovedUnderItsScale) {
  const std::vector<float> values = normal_like(18, 256);
  const std::vector<float> back = round_trip(DType::kIQ2_XXS, values);
  const auto bytes = quantized(DType::kIQ2_XXS, values);
  BlockIQ2_XXS block;
  std::memcpy(&block, bytes.data(), sizeof(block));
  for (size_t e = 0; e < 32; ++e) {
    const float scale = f16_to_f32(block.d) * (0.5f + static_cast<float>(block.qs[e / 4 * 4 + 3] >> 12)) * 0.25f;
    double chosen = 0;
    for (size_t j = 0; j < 8; ++j) chosen += std::pow(static_cast<double>(values[8 * e + j] - back[8 * e + j]), 2);
    for (const auto& entry : kIq2xxsGrid) {
      for (uint32_t code = 0; code < 128; ++code) {
        double error = 0;
        for (size_t j = 0; j < 8; ++j) {
          const float sign = ((iq2xxs_signs(code) >> j) & 1) != 0 ? -1.0f : 1.0f;
          error += std::pow(static_cast<double>(values[8 * e + j] - sign * scale * entry[j]), 2);
        }
        ASSERT_LE(chosen, error + 1e-5) << e;
      }
    }
  }
}

}  // namespace
}  // namespace ds4
