#include "ops/activation_quant.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "ops/check_data.h"

namespace ds4::test {

namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::FloatEq;

Q8_KActivation quantized_k(const std::vector<float>& x) {
  Q8_KActivation q;
  quantize_q8_k(x.data(), 256, &q);
  return q;
}

Q8_0Activation quantized_0(const std::vector<float>& x) {
  Q8_0Activation q;
  quantize_q8_0(x.data(), 32, &q);
  return q;
}

TEST(ActivationQuantTest, Q8KOfThePattern) {
  const Q8_KActivation q = quantized_k(pattern_activations(256));
  EXPECT_THAT(q.scale, FloatEq(-0.0246062987f));
  EXPECT_THAT(std::vector<int>(q.codes, q.codes + 8), ElementsAre(109, 36, -38, -112, 71, -3, -76, 107));
  EXPECT_THAT(q.sums, ElementsAre(91, -294, -167, 215, 86, 214, -173, -45, -175, -48, 334, -51, 76, -53, -182, -56));
}

TEST(ActivationQuantTest, Q80OfThePattern) {
  const Q8_0Activation q = quantized_0(pattern_activations(32));
  EXPECT_THAT(q.scale, FloatEq(0.0236220472f));
  EXPECT_THAT(std::vector<int>(q.codes, q.codes + 8), ElementsAre(-114, -37, 40, 116, -74, 3, 79, -111));
}

TEST(ActivationQuantTest, TiesGoToTheEvenCode) {
  std::vector<float> x(256, 0.0f);
  x[0] = 127.0f;
  x[1] = 0.5f;
  x[2] = 1.5f;
  x[3] = -2.5f;
  x[4] = 125.5f;
  const Q8_0Activation q = quantized_0(x);
  EXPECT_THAT(std::vector<int>(q.codes, q.codes + 5), ElementsAre(127, 0, 2, -2, 126));
  const Q8_KActivation k = quantized_k(x);
  EXPECT_EQ(k.scale, -1.0f);
  EXPECT_THAT(std::vector<int>(k.codes, k.codes + 5), ElementsAre(-127, 0, -2, 2, -126));
}

TEST(ActivationQuantTest, FirstOfEqualMagnitudesGivesTheSign) {
  std::vector<float> x(256, 0.0f);
  x[10] = -3.0f;
  x[11] = 3.0f;
  EXPECT_GT(quantized_k(x).scale, 0.0f);
  std::swap(x[10], x[11]);
  EXPECT_LT(quantized_k(x).scale, 0.0f);
}

TEST(ActivationQuantTest, ZeroBlocksHaveZeroScaleAndCodes) {
  const std::vector<float> x(256, 0.0f);
  EXPECT_EQ(quantized_k(x).scale, 0.0f);
  EXPECT_THAT(quantized_k(x).codes, Each(0));
  EXPECT_EQ(quantized_0(x).scale, 0.0f);
  EXPECT_THAT(quantized_0(x).codes, Each(0));
}

// The reciprocal of so small a scale overflows, and infinity times zero has no integer.
TEST(ActivationQuantTest, BlocksTooSmallForAReciprocalCountAsZero) {
  std::vector<float> x(256, 0.0f);
  for (const float small : {std::numeric_limits<float>::denorm_min(), 1e-40f, -1e-37f}) {
    x[3] = small;
    const Q8_KActivation k = quantized_k(x);
    EXPECT_THAT(k.codes, Each(0)) << small;
    EXPECT_EQ(k.scale, 0.0f) << small;
  }
  x[3] = 1e-40f;
  EXPECT_THAT(quantized_0(x).codes, Each(0));
  x[3] = 1e-35f;
  EXPECT_EQ(quantized_0(x).codes[3], 127);
}

TEST(ActivationQuantTest, OnlyQuantisedWeightsOfTheCanonicalProfileQuantise) {
  for (int type = 0; type <= static_cast<int>(DType::kU8); ++type) {
    const auto dtype = static_cast<DType>(type);
    EXPECT_EQ(activation_form(dtype, NumericProfile::kExact), ActivationForm::kReal);
    const uint32_t block = dtype_info(dtype).block_elements;
    EXPECT_EQ(activation_form(dtype, NumericProfile::kCanonical), block == 256  ? ActivationForm::kQ8_K
                                                                  : block == 32 ? ActivationForm::kQ8_0
                                                                                : ActivationForm::kReal)
        << dtype_name(dtype);
  }
}

}  // namespace

}  // namespace ds4::test
