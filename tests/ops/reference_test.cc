// Known answers of the reference formulas, computed from the formulas by an independent program.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "ops/case_builder.h"
#include "ops/check_data.h"
#include "ops/op_runner.h"
#include "ops/reference/attention.h"
#include "ops/reference/hc.h"
#include "ops/reference/indexer.h"
#include "ops/reference/rope.h"
#include "ops/reference/router.h"
#include "ops/reference/steer.h"

namespace ds4::test {

namespace {

using ::testing::DoubleNear;
using ::testing::ElementsAre;
using ::testing::FloatNear;
using ::testing::Pointwise;

TEST(SqrtSoftplusTest, KnownAnswers) {
  const std::pair<double, double> kAnswers[] = {
      {-30, 3.05902e-07}, {-1, 0.559697866}, {0, 0.832554638}, {3, 1.74602044}, {25, 5}};
  for (const auto& [z, expected] : kAnswers) {
    EXPECT_NEAR(reference::sqrt_softplus(z), expected, expected * 2e-6);
    EXPECT_NEAR(reference::sqrt_softplus(static_cast<float>(z)), expected, expected * 2e-6);
  }
}

TEST(SwigluTest, KnownAnswersWithClampTen) {
  const std::array<float, 3> kAnswers[] = {
      {12, -11, -99.9954605f}, {-12, 3, -0.000221190261f}, {1.5f, 0.5f, 0.613180816f}, {0.25f, 20, 1.40544128f}};
  for (const auto& [gate, up, expected] : kAnswers) {
    EXPECT_FLOAT_EQ(reference::swiglu<float>(gate, up, 10.0f), expected);
    EXPECT_FLOAT_EQ(static_cast<float>(reference::swiglu<double>(gate, up, 10.0f)), expected);
  }
}

// A compressed layer's table: base 160000, YaRN with factor 16 over an original context of 65536.
std::vector<float> compressed_frequencies() {
  std::vector<float> frequencies;
  for (int i = 0; i < 32; ++i) {
    const double plain = std::pow(160000.0, -i / 32.0);
    const double scaled = std::clamp((i - 15.0) / 10.0, 0.0, 1.0);
    frequencies.push_back(static_cast<float>(plain / 16 * scaled + plain * (1 - scaled)));
  }
  return frequencies;
}

std::vector<float> plain_frequencies() {
  std::vector<float> frequencies;
  for (int i = 0; i < 32; ++i) frequencies.push_back(static_cast<float>(std::pow(10000.0, -i / 32.0)));
  return frequencies;
}

std::vector<float> alternating(size_t n) {
  std::vector<float> x(n);
  for (size_t i = 0; i < n; ++i) x[i] = i % 2 == 0 ? 1.0f : 0.5f;
  return x;
}

void expect_rotated(const std::vector<float>& frequencies, const std::vector<std::pair<size_t, float>>& expected) {
  std::vector<float> x = alternating(64);
  reference::rope_tail<double>(x.data(), 64, frequencies.data(), 64, 1000, false);
  // An F32 frequency moves an angle of up to 1000 by 3e-5.
  for (const auto& [index, value] : expected) EXPECT_NEAR(x[index], value, 5e-5) << index;
}

TEST(RopeTest, PlainTableAtPosition1000) {
  expect_rotated(plain_frequencies(), {{0, 0.148939f},
                                       {1, 1.108069f},
                                       {2, -0.990248f},
                                       {3, 0.519047f},
                                       {20, 1.105628f},
                                       {21, 0.166096f},
                                       {30, 0.371063f},
                                       {31, 1.054662f},
                                       {32, -0.567061f},
                                       {33, -0.963557f},
                                       {40, -0.989444f},
                                       {41, -0.520577f},
                                       {48, 0.119567f},
                                       {49, 1.111622f},
                                       {62, 0.924643f},
                                       {63, 0.628518f}});
}

TEST(RopeTest, CompressedTableAtPosition1000) {
  expect_rotated(compressed_frequencies(), {{0, 0.148939f},
                                            {1, 1.108069f},
                                            {2, -1.111168f},
                                            {3, -0.123712f},
                                            {20, 0.579841f},
                                            {21, -0.955921f},
                                            {30, -0.643417f},
                                            {31, -0.914338f},
                                            {32, -1.024336f},
                                            {33, 0.448036f},
                                            {40, 0.809909f},
                                            {41, 0.770744f},
                                            {48, 0.990044f},
                                            {49, 0.519435f},
                                            {62, 0.999716f},
                                            {63, 0.500568f}});
}

TEST(RopeTest, CompressedFrequencies) {
  const auto frequencies = compressed_frequencies();
  EXPECT_FLOAT_EQ(frequencies[15], 3.63553858e-3f);
  EXPECT_FLOAT_EQ(frequencies[20], 2.96977778e-4f);
  EXPECT_FLOAT_EQ(frequencies[31], 5.68052904e-7f);
}

TEST(RopeTest, TailOnlyLeavesTheHeadUntouchedAndInverseUndoes) {
  const auto frequencies = plain_frequencies();
  const std::vector<float> x = alternating(100);
  std::vector<float> y = x;
  reference::rope_tail<float>(y.data(), 100, frequencies.data(), 64, 12345, false);
  EXPECT_TRUE(std::equal(x.begin(), x.begin() + 36, y.begin()));
  EXPECT_NE(x[36], y[36]);
  reference::rope_tail<float>(y.data(), 100, frequencies.data(), 64, 12345, true);
  EXPECT_THAT(y, Pointwise(FloatNear(1e-6f), x));
}

class HcTest : public ::testing::Test {
 protected:
  HcTest() {
    std::vector<float> mix(24);
    std::vector<float> base(24, 0.0f);
    for (int i = 0; i < 24; ++i) mix[static_cast<size_t>(i)] = 0.1f * static_cast<float>(i - 12);
    for (int r = 0; r < 4; ++r) {
      for (int c = 0; c < 4; ++c)
        base[static_cast<size_t>(8 + 4 * r + c)] =
            (r == c ? 2.0f : 0.0f) + 0.3f * static_cast<float>((3 * r + 5 * c) % 4);
    }
    constexpr float kScale[] = {1.0f, 1.0f, 1.5f};
    reference::hc_mix_row<float>(mix.data(), kScale, base.data(), HcParams{}, {pre.data(), post.data(), comb.data()});
  }
  std::array<float, 4> pre;
  std::array<float, 4> post;
  std::array<float, 16> comb;
};

TEST_F(HcTest, GatesAndMixing) {
  EXPECT_THAT(pre, Pointwise(FloatNear(1e-6f), {0.2314762f, 0.2497409f, 0.2689424f, 0.2890515f}));
  EXPECT_THAT(post, Pointwise(FloatNear(1e-6f), {0.6200510f, 0.6636245f, 0.7086874f, 0.7550814f}));
  EXPECT_THAT(comb, Pointwise(FloatNear(1e-6f), {0.5674860f, 0.1036713f, 0.1399412f, 0.1889006f,  //
                                                 0.1889005f, 0.5674862f, 0.1036712f, 0.1399412f,  //
                                                 0.1399412f, 0.1889004f, 0.5674863f, 0.1036711f,  //
                                                 0.1036713f, 0.1399411f, 0.1889004f, 0.5674862f}));
}

TEST_F(HcTest, ExpandReadsSourcesByRow) {
  std::array<float, 4> streams = {1.0f, 10.0f, 100.0f, 1000.0f};
  const float y = 7.0f;
  reference::hc_expand_row<float>(&y, post.data(), comb.data(), 4, 1, streams.data());
  EXPECT_THAT(streams, Pointwise(FloatNear(1e-3f), {124.462311f, 169.255081f, 251.786438f, 584.727173f}));
}

TEST_F(HcTest, MixingIsDoublyStochastic) {
  for (int i = 0; i < 4; ++i) {
    float row = 0.0f;
    float column = 0.0f;
    for (int k = 0; k < 4; ++k) {
      row += comb[static_cast<size_t>(4 * i + k)];
      column += comb[static_cast<size_t>(4 * k + i)];
    }
    EXPECT_NEAR(row, 1.0f, 1e-5);
    EXPECT_NEAR(column, 1.0f, 1e-5);
  }
}

TEST(SinkhornTest, SoftmaxThenColumnsThenRowsAndColumnsInTurn) {
  const double start[] = {0, std::log(3.0), 0, 0};  // softmax 1/4 3/4, 1/2 1/2
  std::array<double, 4> comb;
  std::copy_n(start, 4, comb.begin());
  reference::sinkhorn(comb.data(), {.n_streams = 2, .sinkhorn_iterations = 1, .epsilon = 0.0f});
  EXPECT_THAT(comb, Pointwise(DoubleNear(1e-12), {1.0 / 3, 3.0 / 5, 2.0 / 3, 2.0 / 5}));
  std::copy_n(start, 4, comb.begin());
  reference::sinkhorn(comb.data(), {.n_streams = 2, .sinkhorn_iterations = 2, .epsilon = 0.0f});
  EXPECT_THAT(comb, Pointwise(DoubleNear(1e-12), {20.0 / 55, 36.0 / 57, 35.0 / 55, 21.0 / 57}));
}

TEST(RmsNormTest, KnownAnswers) {
  const float x[] = {3, -4, 0, 0};  // mean of squares 6.25
  const float weight[] = {2, 1, 5, 5};
  float out[4];
  reference::rms_norm_row<float>(x, weight, 0.0f, 4, out);
  EXPECT_THAT(out, Pointwise(FloatNear(1e-6f), {2.4f, -1.6f, 0.0f, 0.0f}));
  reference::rms_norm_row<double>(x, nullptr, 2.75f, 4, out);  // root of 9
  EXPECT_THAT(out, Pointwise(FloatNear(1e-6f), {1.0f, -4.0f / 3, 0.0f, 0.0f}));
}

TEST(SteerTest, AUnitDirectionIsRemovedKeptOrDoubled) {
  const float direction[] = {0.6f, 0.8f, 0};
  const auto steered = [&](float scale) {
    std::array<float, 3> x = {3, -1, 7};  // 1 along the direction
    reference::steer_row<double>(x.data(), direction, scale, 3);
    return x;
  };
  EXPECT_THAT(steered(1.0f), Pointwise(FloatNear(1e-6f), {2.4f, -1.8f, 7.0f}));
  EXPECT_THAT(steered(-1.0f), Pointwise(FloatNear(1e-6f), {3.6f, -0.2f, 7.0f}));
  EXPECT_THAT(steered(0.0f), ElementsAre(3, -1, 7));
  // A direction is used as it is, whatever its length.
  std::array<float, 2> y = {1, 2};
  reference::steer_row<float>(y.data(), std::array<float, 2>{2, 0}.data(), 0.5f, 2);
  EXPECT_THAT(y, ElementsAre(-1, 2));
}

TEST(HcHeadTest, SigmoidOfScaledMixPlusEpsilon) {
  const float mix[] = {2, -1};
  const float scale[] = {0.5f};
  const float base[] = {-1, 0.5f};  // both arguments 0
  float weights[2];
  reference::hc_head_mix_row<float>(mix, scale, base, 0.25f, 2, weights);
  EXPECT_THAT(weights, ElementsAre(0.75f, 0.75f));
  const float streams[] = {1, 2, 30, 40};
  float out[2];
  const float unequal[] = {2, 0.5f};
  reference::hc_reduce_row<float>(streams, unequal, 2, 2, out);
  EXPECT_THAT(out, ElementsAre(17.0f, 24.0f));
}

// Logits whose p = sqrt(softplus) are exactly 5, 6 and so on: softplus(z) = z beyond 20.
class RouterTest : public ::testing::Test {
 protected:
  void route(std::vector<float> logits, std::vector<float> bias) {
    const BytesBuffer logits_buffer(bytes_of(logits));
    const BytesBuffer bias_buffer(bytes_of(bias));
    RouterArgs args{{&logits_buffer, 0, DType::kF32, {1, std::ssize(logits)}}, {}, {}, {}, 1.5f};
    if (!bias.empty()) args.bias = {&bias_buffer, 0, DType::kF32, {std::ssize(bias)}};
    reference::router_row<float>(args, 0, 2, ids.data(), weights.data());
  }
  std::array<int32_t, 2> ids;
  std::array<float, 2> weights;
};

TEST_F(RouterTest, LargestFirstWithWeightsThatSumToTheScale) {
  route({25, 49, 36, 49}, {});
  EXPECT_THAT(ids, ElementsAre(1, 3));  // equal: the lower expert first
  EXPECT_THAT(weights, ElementsAre(0.75f, 0.75f));
  route({25, 100, 225}, {});
  EXPECT_THAT(ids, ElementsAre(2, 1));
  EXPECT_THAT(weights, Pointwise(FloatNear(1e-6f), {0.9f, 0.6f}));
}

TEST_F(RouterTest, BiasChoosesButDoesNotWeigh) {
  route({25, 100, 225}, {6, 0, -20});  // 11, 10, -5
  EXPECT_THAT(ids, ElementsAre(0, 1));
  EXPECT_THAT(weights, Pointwise(FloatNear(1e-6f), {0.5f, 1.0f}));
}

TEST_F(RouterTest, SumOfChosenHasAFloor) {
  route({-40, -40, -40}, {});  // p = exp(-20)
  EXPECT_THAT(ids, ElementsAre(0, 1));
  const float expected = std::exp(-20.0f) * 0x1p14f * 1.5f;
  EXPECT_NEAR(weights[0], expected, expected * 1e-5f);
}

std::vector<int32_t> top(const std::vector<float>& scores, int32_t k) {
  std::vector<int32_t> out(static_cast<size_t>(k), -1);
  out.resize(static_cast<size_t>(reference::select_top(scores, k, out.data())));
  return out;
}

TEST(SelectTopTest, AscendingIndices) { EXPECT_THAT(top({1, 5, 2, 4, 3}, 3), ElementsAre(1, 3, 4)); }

TEST(SelectTopTest, TiesGoToTheLowerIndex) {
  EXPECT_THAT(top({2, 3, 2, 2, 1}, 2), ElementsAre(0, 1));
  EXPECT_THAT(top({0, 0, 0, 0}, 2), ElementsAre(0, 1));
  EXPECT_THAT(top({-0.0f, 0.0f, -0.0f}, 2), ElementsAre(0, 1));
  EXPECT_THAT(top({1, 2, 2, 2, 3}, 2), ElementsAre(1, 4));
}

TEST(SelectTopTest, FewScoresAreAllKept) {
  EXPECT_THAT(top({}, 4), ElementsAre());
  EXPECT_THAT(top({1}, 4), ElementsAre(0));
  EXPECT_THAT(top({1, 3, 2, 0}, 4), ElementsAre(0, 1, 2, 3));
}

TEST(IndexRoundTest, RotatesThenRounds) {
  std::vector<float> x = pattern_activations(128);
  reference::index_round_head(x.data(), 128);
  EXPECT_THAT(std::vector<float>(x.begin(), x.begin() + 4), ElementsAre(0.0f, -1.0f, 0.0f, -1.5f));
}

TEST(IndexScoreTest, NegativeProductsDoNotCountAndWeightsMaySubtract) {
  const float query[] = {1, 0, -1, 0, 2, 0};  // three heads of width two
  const float weights[] = {2, 5, -1};
  const float key[] = {3, 9};
  // (max(0, 3) * 2 + max(0, -3) * 5 - max(0, 6)) / sqrt(2 * 3)
  EXPECT_NEAR(reference::index_score<double>(query, weights, key, 3, 2), 0.0, 1e-6);
  const float other_key[] = {-3, 9};
  EXPECT_NEAR(reference::index_score<double>(query, weights, other_key, 3, 2), 15 / std::sqrt(6.0), 1e-6);
}

TEST(AttendHeadTest, SinkTakesWeightWithoutValue) {
  const float query[] = {0, 0, 0, 0};
  const std::vector<float> rows = {4, 8, 0, 0, 8, 4, 0, 4};
  float out[4];
  reference::attend_head<float>(query, rows, 0.0f, 4, out);  // three equal logits, one of them the sink's
  EXPECT_THAT(out, Pointwise(FloatNear(1e-6f), {4.0f, 4.0f, 0.0f, 4.0f / 3}));
  reference::attend_head<float>(query, rows, -1e30f, 4, out);
  EXPECT_THAT(out, Pointwise(FloatNear(1e-6f), {6.0f, 6.0f, 0.0f, 2.0f}));
}

TEST(AttendHeadTest, LogitsAreDividedByTheRootOfTheWidth) {
  const float query[] = {2, 0, 0, 0};
  const std::vector<float> rows = {1, 0, 0, 0};  // logit 2 / sqrt(4)
  float out[4];
  reference::attend_head<double>(query, rows, 0.0f, 4, out);
  EXPECT_NEAR(out[0], std::exp(1.0) / (std::exp(1.0) + 1), 1e-6);
}

}  // namespace

}  // namespace ds4::test
