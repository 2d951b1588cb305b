#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <vector>

#include "base/float_formats.h"
#include "base/rng.h"
#include "gguf/blocks.h"
#include "gguf/dequantize.h"
#include "gguf/iq_tables.h"
#include "gguf/quantize.h"

namespace ds4 {
namespace {

// A block of bytes (73 i + 41) mod 256 with its F16 factors replaced by 0.125 and 0.0625: the reference
// values below were computed from the formulas by an independent program.
std::vector<std::byte> pattern_block(DType type, std::initializer_list<std::pair<size_t, uint16_t>> halves) {
  std::vector<std::byte> block(dtype_info(type).block_bytes);
  for (size_t i = 0; i < block.size(); ++i) block[i] = static_cast<std::byte>((73 * i + 41) & 255);
  for (const auto& [offset, bits] : halves) std::memcpy(block.data() + offset, &bits, 2);
  return block;
}

constexpr uint16_t kEighth = 0x3000;
constexpr uint16_t kSixteenth = 0x2C00;

std::vector<float> dequantized(DType type, const std::vector<std::byte>& bytes) {
  const DTypeInfo& info = dtype_info(type);
  std::vector<float> values(bytes.size() / info.block_bytes * info.block_elements);
  dequantize_row(type, bytes.data(), values.data(), static_cast<int64_t>(values.size()));
  return values;
}

std::vector<std::byte> quantized(DType type, const std::vector<float>& values) {
  std::vector<std::byte> bytes(row_bytes(type, static_cast<int64_t>(values.size())).value());
  quantize_row(type, values.data(), bytes.data(), static_cast<int64_t>(values.size()));
  return bytes;
}

struct Sums {
  double plain = 0;
  double weighted = 0;  // element i times i + 1
};

Sums sums_of(const std::vector<float>& values) {
  Sums sums;
  for (size_t i = 0; i < values.size(); ++i) {
    sums.plain += static_cast<double>(values[i]);
    sums.weighted += static_cast<double>(values[i]) * static_cast<double>(i + 1);
  }
  return sums;
}

void expect_values(const std::vector<float>& values, std::initializer_list<std::pair<size_t, float>> expected) {
  for (const auto& [index, value] : expected) EXPECT_EQ(values[index], value) << index;
}

TEST(DequantizeTest, Q2KReferenceBlock) {
  const auto w = dequantized(DType::kQ2_K, pattern_block(DType::kQ2_K, {{80, kEighth}, {82, kSixteenth}}));
  expect_values(w, {{0, 1.0f},
                    {1, 2.125f},
                    {2, 3.25f},
                    {3, -0.125f},
                    {16, -0.1875f},
                    {17, 0.0625f},
                    {37, 0.6875f},
                    {128, -0.3125f},
                    {255, -0.4375f}});
  EXPECT_EQ(sums_of(w).plain, 255.375);
  EXPECT_EQ(sums_of(w).weighted, 31373.75);
}

TEST(DequantizeTest, Q4KReferenceBlock) {
  const auto w = dequantized(DType::kQ4_K, pattern_block(DType::kQ4_K, {{0, kEighth}, {2, kSixteenth}}));
  expect_values(
      w, {{0, 11.5625f}, {1, 0.1875f}, {2, 14.8125f}, {3, 3.4375f}, {32, 26.625f}, {128, 22.0625f}, {255, -1.4375f}});
  EXPECT_EQ(sums_of(w).plain, 6669.0);
  EXPECT_EQ(sums_of(w).weighted, 921171.0);
}

TEST(DequantizeTest, Iq2XxsReferenceBlock) {
  const auto w = dequantized(DType::kIQ2_XXS, pattern_block(DType::kIQ2_XXS, {{0, kEighth}}));
  expect_values(w, {{0, -15.453125f},
                    {1, -15.453125f},
                    {2, -2.875f},
                    {3, -2.875f},
                    {4, -8.984375f},
                    {5, 8.984375f},
                    {6, -8.984375f},
                    {7, 8.984375f},
                    {100, -7.421875f},
                    {255, -8.984375f}});
  EXPECT_EQ(sums_of(w).plain, -37.28125);
  EXPECT_EQ(sums_of(w).weighted, 4701.75);
}

TEST(DequantizeTest, Q80IsFactorTimesInteger) {
  const auto w = dequantized(DType::kQ8_0, pattern_block(DType::kQ8_0, {{0, kEighth}}));
  for (size_t i = 0; i < w.size(); ++i) {
    EXPECT_EQ(w[i], 0.125f * static_cast<float>(static_cast<int8_t>((73 * (i + 2) + 41) & 255)));
  }
}

TEST(DequantizeTest, Mxfp4TakesLowNibblesForTheFirstHalf) {
  auto block = pattern_block(DType::kMXFP4, {});
  block[0] = std::byte{128};  // scale 2
  const auto w = dequantized(DType::kMXFP4, block);
  for (size_t j = 0; j < 16; ++j) {
    const auto byte = static_cast<uint8_t>((73 * (j + 1) + 41) & 255);
    EXPECT_EQ(w[j], 2.0f * e2m1_to_f32(byte & 15));
    EXPECT_EQ(w[j + 16], 2.0f * e2m1_to_f32(byte >> 4));
  }
  block[0] = std::byte{0};  // the smallest scale, 2^-127, is a subnormal float
  block[1] = std::byte{0x71};
  EXPECT_EQ(dequantized(DType::kMXFP4, block)[0], 0x1p-128f);
  EXPECT_EQ(dequantized(DType::kMXFP4, block)[16], 6 * 0x1p-127f);
}

TEST(DequantizeTest, RowsMayStartAtAnyAddress) {
  for (const DType type : {DType::kF32, DType::kF16, DType::kQ8_0, DType::kQ4_K, DType::kMXFP4}) {
    std::vector<float> values(256);
    for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i) - 100.0f;
    const auto aligned = quantized(type, values);
    std::vector<std::byte> shifted(aligned.size() + 1);
    quantize_row(type, values.data(), shifted.data() + 1, 256);
    std::vector<float> back(256);
    dequantize_row(type, shifted.data() + 1, back.data(), 256);
    EXPECT_EQ(back, dequantized(type, aligned)) << dtype_name(type);
  }
}

TEST(DequantizeDeathTest, BrokenBlocksAndIntegerTypesAbort) {
  std::array<std::byte, 64> bytes{};
  std::array<float, 64> out;
  EXPECT_DEATH(dequantize_row(DType::kQ8_0, bytes.data(), out.data(), 33), "33 elements of Q8_0");
  EXPECT_DEATH(dequantize_row(DType::kI32, bytes.data(), out.data(), 4), "I32 has no float values");
}

TEST(Iq2TablesTest, GridMatchesItsChecksums) {
  uint64_t sum = 0;
  uint64_t weighted = 0;
  for (size_t entry = 0; entry < 256; ++entry) {
    for (size_t j = 0; j < 8; ++j) {
      sum += kIq2xxsGrid[entry][j];
      weighted += (entry + 1) * (j + 1) * kIq2xxsGrid[entry][j];
    }
  }
  EXPECT_EQ(sum, 38611u);
  EXPECT_EQ(weighted, 25268190u);
  EXPECT_EQ(kIq2xxsGrid[255], (std::array<uint8_t, 8>{8, 25, 8, 8, 25, 43, 43, 43}));
}

TEST(Iq2TablesTest, SignsAlwaysHaveEvenParity) {
  for (uint32_t code = 0; code < 128; ++code) {
    EXPECT_EQ(std::popcount(iq2xxs_signs(code)) % 2, 0);
    EXPECT_EQ(iq2xxs_signs(code) & 127u, code);
  }
  EXPECT_EQ(iq2xxs_signs(1), 129);
  EXPECT_EQ(iq2xxs_signs(3), 3);
  EXPECT_EQ(iq2xxs_signs(127), 255);
}

// Normal-like values (sum of uniforms), a different scale per row so that every exponent is met.
std::vector<float> random_values(Xorshift64Star& random, size_t n, float scale) {
  std::vector<float> values(n);
  for (float& value : values) {
    float sum = 0.0f;
    for (int i = 0; i < 6; ++i) sum += random.next_unit() - 0.5f;
    value = sum * scale;
  }
  return values;
}

double rms(const std::vector<float>& values) {
  double squares = 0;
  for (const float v : values) squares += static_cast<double>(v) * static_cast<double>(v);
  return std::sqrt(squares / static_cast<double>(values.size()));
}

double rms_error(DType type, const std::vector<float>& values) {
  std::vector<float> difference = dequantized(type, quantized(type, values));
  for (size_t i = 0; i < values.size(); ++i) difference[i] -= values[i];
  return rms(difference);
}

TEST(QuantizeTest, ErrorOfNormalValuesStaysWithinTheFormatsPrecision) {
  // Relative rms error of direct rounding; the bounds are a tenth above what was measured.
  constexpr std::pair<DType, double> kBounds[] = {
      {DType::kF32, 0.0},    {DType::kF16, 2.3e-4}, {DType::kBF16, 1.86e-3}, {DType::kQ8_0, 5.75e-3},
      {DType::kQ4_K, 0.085}, {DType::kMXFP4, 0.13}, {DType::kQ2_K, 0.365},   {DType::kIQ2_XXS, 0.365},
  };
  for (const auto& [type, bound] : kBounds) {
    Xorshift64Star random(5);
    for (const float scale : {1e-3f, 0.02f, 1.0f, 37.0f}) {
      const auto values = random_values(random, 4096, scale);
      const double relative = rms_error(type, values) / rms(values);
      EXPECT_LE(relative, bound) << dtype_name(type) << " at scale " << scale;
    }
  }
}

TEST(QuantizeTest, ZeroAndTinyRowsStayFiniteAndSmall) {
  for (const DType type : {DType::kQ8_0, DType::kQ4_K, DType::kMXFP4, DType::kQ2_K, DType::kIQ2_XXS}) {
    for (const float value : {0.0f, -0.0f, 1e-38f, -1e-42f, 0x1p-149f}) {
      for (const float w : dequantized(type, quantized(type, std::vector<float>(256, value)))) {
        EXPECT_LE(std::fabs(w), 2e-38f) << dtype_name(type) << " of " << value;
      }
    }
  }
}

TEST(QuantizeTest, Q80RoundsHalfAwayFromZeroWithTheUnroundedFactor) {
  std::vector<float> values(32, 0.0f);
  values[0] = 127.0f;  // factor 1
  values[1] = 2.5f;
  values[2] = -2.5f;
  values[3] = -127.0f;
  const auto bytes = quantized(DType::kQ8_0, values);
  BlockQ8_0 block;
  std::memcpy(&block, bytes.data(), sizeof(block));
  EXPECT_EQ(block.d, 0x3C00);
  EXPECT_EQ(block.qs[0], 127);
  EXPECT_EQ(block.qs[1], 3);
  EXPECT_EQ(block.qs[2], -3);
  EXPECT_EQ(block.qs[3], -127);
}

TEST(QuantizeTest, Mxfp4KeepsEveryValueThatTheFormatCanHold) {
  Xorshift64Star random(9);
  for (int round = 0; round < 4000; ++round) {
    std::vector<std::byte> block(sizeof(BlockMXFP4));
    for (std::byte& byte : block) byte = static_cast<std::byte>(random.next() >> 56);
    block[0] = static_cast<std::byte>((random.next() >> 32) % 253);  // above, 6 times the scale is no float
    if (round % 3 == 0) {                                            // only small codes, so that the scale must move
      for (size_t i = 1; i < block.size(); ++i) block[i] &= std::byte{0x19};
    }
    const auto values = dequantized(DType::kMXFP4, block);
    ASSERT_EQ(dequantized(DType::kMXFP4, quantized(DType::kMXFP4, values)), values) << round;
  }
}

TEST(QuantizeTest, SixteenBitFloatsKeepTheirValues) {
  for (const DType type : {DType::kF16, DType::kBF16}) {
    std::vector<std::byte> bytes(2 * 65536);
    for (uint32_t code = 0; code < 65536; ++code) {
      // Infinities and NaN are no weights.
      const bool finite = (code & 0x7F80) != 0x7F80 && (code & 0x7C00) != 0x7C00;
      const auto bits = static_cast<uint16_t>(finite ? code : 0);
      std::memcpy(bytes.data() + 2 * code, &bits, 2);
    }
    EXPECT_EQ(quantized(type, dequantized(type, bytes)), bytes) << dtype_name(type);
  }
}

TEST(QuantizeTest, AffineFormatsReachBothEndsOfAnUnevenRange) {
  // A sub-block of positive values only must not lose range to a minimum that it does not need.
  for (const auto& [type, levels] : {std::pair{DType::kQ2_K, 3}, std::pair{DType::kQ4_K, 15}}) {
    std::vector<float> values(256);
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = static_cast<float>(static_cast<int>(i) % (levels + 1)) * 0.5f - (i < 128 ? 0.0f : 0.5f);
    }
    const auto back = dequantized(type, quantized(type, values));
    for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(back[i], values[i], 0.01f * static_cast<float>(levels)) << i;
  }
}

TEST(QuantizeTest, Iq2XxsFindsTheExactBlockBack) {
  // Group 0 has scale 15 and a 43, so the factor search finds d itself; everything is then representable.
  Xorshift64Star random(4);
  for (int round = 0; round < 20; ++round) {
    BlockIQ2_XXS block{};
    block.d = kEighth;
    for (uint16_t& word : block.qs) word = static_cast<uint16_t>(random.next() >> 48);
    block.qs[0] = 1;  // grid entry 1 starts with 43
    block.qs[3] |= 0xF000;
    std::vector<std::byte> bytes(sizeof(block));
    std::memcpy(bytes.data(), &block, sizeof(block));
    const auto values = dequantized(DType::kIQ2_XXS, bytes);
    ASSERT_EQ(dequantized(DType::kIQ2_XXS, quantized(DType::kIQ2_XXS, values)), values) << round;
  }
}

}  // namespace
}  // namespace ds4
