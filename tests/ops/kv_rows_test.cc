#include "ops/kv_rows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "base/float_formats.h"
#include "ops/case_builder.h"
#include "ops/check_data.h"

namespace ds4::test {

namespace {

using ::testing::ElementsAre;

std::vector<std::byte> packed(const std::vector<float>& x, const KvRowFormat& format) {
  std::vector<std::byte> row(static_cast<size_t>(format.row_bytes), std::byte{0xAB});
  pack_kv_row(x.data(), format, row.data());
  return row;
}

std::vector<float> rounded(const std::vector<float>& x, const KvRowFormat& format) {
  std::vector<float> y(x.size());
  unpack_kv_row(packed(x, format).data(), format, y.data());
  return y;
}

std::vector<float> first(const std::vector<float>& x, std::ptrdiff_t n) { return {x.begin(), x.begin() + n}; }

TEST(HadamardTest, OfThePattern) {
  std::vector<float> x = pattern_activations(128);
  hadamard(x.data(), 128);
  EXPECT_NEAR(x[0], 0.1602039f, 1e-6);
  EXPECT_NEAR(x[1], -0.7678738f, 1e-6);
  EXPECT_NEAR(x[2], 0.1381068f, 1e-6);
  EXPECT_NEAR(x[127], 2.789757f, 2e-6);
}

TEST(HadamardTest, TwiceIsTheIdentity) {
  for (const int32_t n : {1, 2, 32, 128}) {
    const std::vector<float> x = make_values({}, n, 5);
    std::vector<float> y = x;
    hadamard(y.data(), n);
    hadamard(y.data(), n);
    for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], y[i], 1e-6) << n;
  }
}

TEST(PackFp4Test, HadamardOfThePattern) {
  std::vector<float> x = pattern_activations(128);
  hadamard(x.data(), 128);
  const std::vector<float> y = rounded(x, case_row_format(KvEncoding::kFp4, 128, 64));
  EXPECT_THAT(first(y, 16), ElementsAre(0.0f, -1.0f, 0.0f, -1.5f, -0.5f, 0.5f, 0.5f, 0.5f, -1.0f, 0.5f, -1.5f, -1.5f,
                                        0.5f, -4.0f, 0.5f, 0.5f));
  float weighted = 0.0f;
  float magnitude = 0.0f;
  for (size_t i = 0; i < y.size(); ++i) {
    weighted += static_cast<float>(i + 1) * y[i];
    magnitude += std::fabs(y[i]);
  }
  EXPECT_EQ(weighted, -1647.0f);
  EXPECT_EQ(magnitude, 178.5f);
}

TEST(PackFp4Test, LowNibbleFirstThenScales) {
  std::vector<float> x(32, 0.0f);
  x[0] = 6.0f;
  x[1] = -0.5f;
  const auto row = packed(x, case_row_format(KvEncoding::kFp4, 32, 0));
  EXPECT_EQ(row[0], std::byte{0x97});
  EXPECT_EQ(row[16], std::byte{127});
}

TEST(PackFp4Test, ScaleIsTheSmallestPowerOfTwoThatReachesTheLargestValue) {
  const KvRowFormat format = case_row_format(KvEncoding::kFp4, 32, 0);
  EXPECT_EQ(packed(std::vector<float>(32, 6.0f), format)[16], std::byte{127});
  EXPECT_EQ(packed(std::vector<float>(32, 6.000001f), format)[16], std::byte{128});
  EXPECT_EQ(packed(std::vector<float>(32, 3.0f), format)[16], std::byte{126});
  EXPECT_EQ(packed(std::vector<float>(32, 0.0f), format)[16], std::byte{1});  // from the floor 6 * 2^-126
}

TEST(PackFp8Test, OfThePattern) {
  std::vector<float> x = pattern_activations(512);
  for (float& value : x) value *= 0.0731f;
  const std::vector<float> y = rounded(x, case_row_format(KvEncoding::kFp8, 512, 64));
  EXPECT_THAT(first(y, 8),
              ElementsAre(-0.203125f, -0.0625f, 0.0703125f, 0.203125f, -0.125f, 0.00439453125f, 0.140625f, -0.1875f));
  EXPECT_EQ(y[447], -0.03515625f);
  // The tail is stored as F16.
  EXPECT_NEAR(x[448], 0.0959437490f, 1e-8);
  EXPECT_EQ(y[448], f16_to_f32(f32_to_f16(x[448])));
}

TEST(PackFp8Test, RampHasScaleTwoToTheMinusNine) {
  std::vector<float> x;
  for (int i = 0; i < 64; ++i) x.push_back(0.01f * static_cast<float>(i));
  const KvRowFormat format = case_row_format(KvEncoding::kFp8, 64, 0);
  EXPECT_EQ(packed(x, format)[64], std::byte{127 - 9});
  EXPECT_EQ(rounded(x, format)[37], 0.375f);
  EXPECT_EQ(rounded(x, format)[5], 0.05078125f);
}

TEST(PackFp8Test, GroupScales) {
  const KvRowFormat format = case_row_format(KvEncoding::kFp8, 64, 0);
  const auto scale = [&](float amax) {
    return static_cast<int>(packed(std::vector<float>(64, amax), format)[64]) - 127;
  };
  EXPECT_EQ(scale(448.0f), 0);
  EXPECT_EQ(scale(std::nextafter(448.0f, 1e9f)), 1);
  EXPECT_EQ(scale(224.0f), -1);
  EXPECT_EQ(scale(-448.0f), 0);
  // 1e-4 / 448 lies between 2^-23 and 2^-22: the floor of every smaller group.
  EXPECT_EQ(scale(1e-4f), -22);
  EXPECT_EQ(scale(1e-9f), -22);
  EXPECT_EQ(scale(0.0f), -22);
}

TEST(PackFp8Test, RaggedLastGroupHasItsOwnScale) {
  const KvRowFormat format = case_row_format(KvEncoding::kFp8, 74, 4);  // 64 + 6 codes, 2 scales, 4 halves
  std::vector<float> x(74, 1.0f);
  for (size_t i = 64; i < 70; ++i) x[i] = 448.0f;
  x[73] = -2.5f;
  const auto row = packed(x, format);
  EXPECT_EQ(row[70], std::byte{127 - 8});  // 1 / 448 below 2^-8
  EXPECT_EQ(row[71], std::byte{127});
  EXPECT_EQ(rounded(x, format), x);
  for (size_t i = 72 + 8; i < row.size(); ++i) EXPECT_EQ(row[i], std::byte{0}) << "padding";
}

TEST(PackFp8Test, TailSaturatesLikeF16NotLikeE4M3) {
  std::vector<float> x(80, 0.0f);
  x[79] = 60000.0f;
  EXPECT_EQ(rounded(x, case_row_format(KvEncoding::kFp8, 80, 16))[79], 60000.0f);
}

// Rounding what was rounded changes nothing. The bytes may: when the largest value was rounded down to a power of two
// of the format's largest, the second packing finds a smaller scale for the same values, and from then on keeps it.
TEST(PackTest, PackingIsIdempotentInEveryEncoding) {
  const std::pair<KvEncoding, std::pair<int32_t, int32_t>> kFormats[] = {
      {KvEncoding::kF32, {33, 2}}, {KvEncoding::kFp8, {512, 64}}, {KvEncoding::kFp8, {74, 4}},
      {KvEncoding::kFp8, {65, 0}}, {KvEncoding::kFp8, {24, 16}},  {KvEncoding::kFp4, {128, 64}},
      {KvEncoding::kFp4, {32, 0}}};
  using Kind = Fill::Kind;
  for (const auto& [encoding, shape] : kFormats) {
    const KvRowFormat format = case_row_format(encoding, shape.first, shape.second);
    for (const Kind kind :
         {Kind::kUniform, Kind::kZero, Kind::kSubnormal, Kind::kFp8Ties, Kind::kFp4Ties, Kind::kOutlier}) {
      for (uint64_t seed = 0; seed < 20; ++seed) {
        const std::vector<float> x = rounded(make_values({kind, 3.0f}, format.width, seed), format);
        EXPECT_EQ(rounded(x, format), x) << format.width << " kind " << static_cast<int>(kind) << " seed " << seed;
        const auto twice = packed(x, format);
        EXPECT_TRUE(packed(rounded(x, format), format) == twice) << format.width << " seed " << seed;
      }
    }
  }
}

TEST(PackTest, ErrorIsAtMostHalfAStep) {
  for (uint64_t seed = 0; seed < 50; ++seed) {
    const std::vector<float> x = make_values({.scale = 2.0f}, 96, seed);
    const std::vector<float> fp8 = rounded(x, case_row_format(KvEncoding::kFp8, 96, 16));
    const std::vector<float> fp4 = rounded(x, case_row_format(KvEncoding::kFp4, 96, 16));
    for (size_t i = 0; i < x.size(); ++i) {
      EXPECT_LE(std::fabs(fp8[i] - x[i]), std::max(std::fabs(x[i]) / 16, 0x1p-17f));
      EXPECT_LE(std::fabs(fp4[i] - x[i]), 0.5f);  // scale at most 1/2, largest step 2
    }
  }
}

}  // namespace

}  // namespace ds4::test
