#include "base/float_formats.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <utility>

#include "base/rng.h"

namespace ds4 {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
const float kNan = std::numeric_limits<float>::quiet_NaN();

// The value of a binary16 by the definition, independent of the bit tricks under test.
double f16_by_definition(uint16_t bits) {
  const int exponent = (bits >> 10) & 31;
  const int mantissa = bits & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

TEST(Float16Test, EveryCodeHasTheValueOfItsDefinitionAndRoundTrips) {
  for (uint32_t code = 0; code < 65536; ++code) {
    const auto bits = static_cast<uint16_t>(code);
    const float value = f16_to_f32(bits);
    if ((code & 0x7C00) == 0x7C00 && (code & 0x3FF) != 0) {
      EXPECT_TRUE(std::isnan(value)) << code;
      EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(value)))) << code;
      continue;
    }
    EXPECT_EQ(f32_to_f16(value), bits);
    if ((code & 0x7C00) != 0x7C00) {
      ASSERT_EQ(static_cast<double>(value), f16_by_definition(bits)) << code;
    }
  }
  EXPECT_EQ(f16_to_f32(0x7C00), kInfinity);
  EXPECT_EQ(f16_to_f32(0xFC00), -kInfinity);
}

TEST(Float16Test, HalfwayGoesToTheEvenNeighbourAndTheRestToTheNearest) {
  for (uint32_t code = 0; code < 0x7C00; ++code) {
    const auto low = static_cast<uint16_t>(code);
    const auto high = static_cast<uint16_t>(code + 1);
    // Above the largest finite value the next step would be 65536.
    const double above = high == 0x7C00 ? 65536.0 : f16_by_definition(high);
    const auto middle = static_cast<float>((f16_by_definition(low) + above) / 2);  // exact in float
    EXPECT_EQ(f32_to_f16(middle), (code & 1) == 0 ? low : high) << code;
    EXPECT_EQ(f32_to_f16(std::nextafterf(middle, 0.0f)), low) << code;
    EXPECT_EQ(f32_to_f16(std::nextafterf(middle, kInfinity)), high) << code;
    EXPECT_EQ(f32_to_f16(-middle), 0x8000 | f32_to_f16(middle)) << code;
  }
}

TEST(BFloat16Test, EveryCodeRoundTripsAndTiesGoToEven) {
  for (uint32_t code = 0; code < 65536; ++code) {
    const float value = bf16_to_f32(static_cast<uint16_t>(code));
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(value)))) << code;
      continue;
    }
    EXPECT_EQ(f32_to_bf16(value), code);
    if ((code & 0x7FFF) >= 0x7F80) continue;
    const float middle = std::bit_cast<float>((code << 16) | 0x8000u);
    EXPECT_EQ(f32_to_bf16(middle), (code & 1) == 0 ? code : code + 1);
    EXPECT_EQ(f32_to_bf16(std::bit_cast<float>((code << 16) | 0x7FFFu)), code);
    EXPECT_EQ(f32_to_bf16(std::bit_cast<float>((code << 16) | 0x8001u)), code + 1);
  }
}

TEST(BFloat16Test, SignallingNanBecomesQuietInsteadOfInfinity) {
  EXPECT_EQ(f32_to_bf16(std::bit_cast<float>(0x7F800001u)), 0x7FC0);
}

TEST(E4M3Test, EveryCodeHasTheValueOfItsDefinitionAndRoundTrips) {
  for (int code = 0; code < 256; ++code) {
    const float value = e4m3_to_f32(static_cast<uint8_t>(code));
    if ((code & 0x7F) == 0x7F) {
      EXPECT_TRUE(std::isnan(value));
      EXPECT_EQ(f32_to_e4m3(value), 0x7F);
      continue;
    }
    const int exponent = (code >> 3) & 15;
    const double magnitude = exponent == 0 ? std::ldexp(code & 7, -9) : std::ldexp(8 + (code & 7), exponent - 10);
    EXPECT_EQ(static_cast<double>(value), (code & 0x80) != 0 ? -magnitude : magnitude) << code;
    EXPECT_EQ(f32_to_e4m3(value), code);
  }
}

TEST(E4M3Test, HalfwayGoesToTheEvenCode) {
  for (uint8_t code = 0; code < 0x7E; ++code) {
    const float middle = (e4m3_to_f32(code) + e4m3_to_f32(static_cast<uint8_t>(code + 1))) / 2;
    const auto even = static_cast<uint8_t>(code + (code & 1));
    EXPECT_EQ(f32_to_e4m3(middle), even);
    EXPECT_EQ(f32_to_e4m3(-middle), 0x80 | even);
    EXPECT_EQ(f32_to_e4m3(std::nextafterf(middle, 0.0f)), code);
    EXPECT_EQ(f32_to_e4m3(std::nextafterf(middle, kInfinity)), code + 1);
  }
}

TEST(E4M3Test, RoundsTheReferenceValues) {
  constexpr std::pair<float, float> kCases[] = {
      {0.3f, 0.3125f},  {17.0f, 16.0f},         {18.0f, 18.0f},        {19.0f, 20.0f},
      {449.0f, 448.0f}, {0.001f, 0.001953125f}, {0x1p-10f, 0.0f},      {0.0029296875f, 0.00390625f},
      {-3.3f, -3.25f},  {1e30f, 448.0f},        {-kInfinity, -448.0f},
  };
  for (const auto& [value, rounded] : kCases) EXPECT_EQ(e4m3_to_f32(f32_to_e4m3(value)), rounded) << value;
}

TEST(E2M1Test, EveryCodeRoundTripsAndCodeEightIsPlusZero) {
  constexpr std::array<float, 8> kValues = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
  for (uint8_t code = 0; code < 8; ++code) {
    const auto negative = static_cast<uint8_t>(code | 8);
    EXPECT_EQ(e2m1_to_f32(code), kValues[code]);
    EXPECT_EQ(e2m1_to_f32(negative), -kValues[code]);
    EXPECT_EQ(f32_to_e2m1(kValues[code]), code);
    EXPECT_EQ(f32_to_e2m1(-kValues[code]), code == 0 ? 0 : negative);
  }
  EXPECT_FALSE(std::signbit(e2m1_to_f32(8)));
}

TEST(E2M1Test, HalfwayGoesToTheEvenCodeAndLargeValuesSaturate) {
  for (uint8_t code = 0; code < 7; ++code) {
    const float middle = (e2m1_to_f32(code) + e2m1_to_f32(static_cast<uint8_t>(code + 1))) / 2;
    EXPECT_EQ(f32_to_e2m1(middle), code + (code & 1));
    EXPECT_EQ(f32_to_e2m1(std::nextafterf(middle, 0.0f)), code);
    EXPECT_EQ(f32_to_e2m1(std::nextafterf(middle, kInfinity)), code + 1);
  }
  EXPECT_EQ(f32_to_e2m1(100.0f), 7);
  EXPECT_EQ(f32_to_e2m1(-kInfinity), 15);
  EXPECT_EQ(f32_to_e2m1(kNan), 0);
}

TEST(E8M0Test, EveryCodeIsItsPowerOfTwo) {
  for (int code = 0; code < 255; ++code) {
    EXPECT_EQ(static_cast<double>(e8m0_to_f32(static_cast<uint8_t>(code))), std::ldexp(1.0, code - 127)) << code;
  }
  EXPECT_TRUE(std::isnan(e8m0_to_f32(255)));
}

TEST(Exp2IntTest, IsExactOverTheWholeRange) {
  for (int exponent = -149; exponent <= 127; ++exponent) {
    EXPECT_EQ(static_cast<double>(exp2_int(exponent)), std::ldexp(1.0, exponent)) << exponent;
  }
}

TEST(CeilLog2Test, PowersOfTwoAndTheirNeighbours) {
  for (int exponent = -148; exponent <= 127; ++exponent) {
    const float power = std::ldexp(1.0f, exponent);
    EXPECT_EQ(ceil_log2(power), exponent);
    EXPECT_EQ(ceil_log2(std::nextafterf(power, kInfinity)), exponent + 1);
    if (exponent > -148) {
      EXPECT_EQ(ceil_log2(std::nextafterf(power, 0.0f)), exponent);
    }
  }
  EXPECT_EQ(ceil_log2(0x1p-149f), -149);
  EXPECT_EQ(ceil_log2(std::numeric_limits<float>::max()), 128);
}

TEST(CeilLog2Test, BoundsRandomValuesTightly) {
  Xorshift64Star random(7);
  for (int i = 0; i < 100000; ++i) {
    const float value = std::bit_cast<float>(static_cast<uint32_t>(random.next() >> 33));
    if (!std::isfinite(value) || value == 0.0f) continue;
    const int k = ceil_log2(value);
    EXPECT_GE(std::ldexp(1.0, k), static_cast<double>(value));
    EXPECT_LT(std::ldexp(1.0, k - 1), static_cast<double>(value));
  }
}

}  // namespace
}  // namespace ds4
