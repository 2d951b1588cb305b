#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <map>

namespace ds4 {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<int32_t> draw(const SamplingParams& params, uint64_t seed, std::span<const float> logits, int n) {
  Sampler sampler(params, seed);
  std::vector<int32_t> tokens;
  for (int i = 0; i < n; ++i) tokens.push_back(sampler.sample(logits).value());
  return tokens;
}

std::map<int32_t, int> histogram(const SamplingParams& params, std::span<const float> logits, int n) {
  std::map<int32_t, int> counts;
  for (const int32_t token : draw(params, 7, logits, n)) ++counts[token];
  return counts;
}

TEST(SamplerTest, GreedyTakesTheLargestAndTheLowestIdOfEquals) {
  const std::array<float, 5> logits{1, 3, 2, 3, -1};
  EXPECT_EQ(greedy_token(logits), 1);
  EXPECT_EQ(draw({.temperature = 0, .seed = {}}, 1, logits, 3), (std::vector<int32_t>{1, 1, 1}));
}

TEST(SamplerTest, LogitsThatAreNotFiniteAreSkipped) {
  const std::array<float, 4> logits{kNan, kInfinity, 2, -kInfinity};
  EXPECT_EQ(greedy_token(logits), 2);
  EXPECT_EQ(draw({.seed = {}}, 1, logits, 3), (std::vector<int32_t>{2, 2, 2}));
  EXPECT_EQ(draw({.top_p = 0.5F, .seed = {}}, 1, logits, 3), (std::vector<int32_t>{2, 2, 2}));
  EXPECT_DOUBLE_EQ(log_sum_exp(logits), 2);
  const std::array<float, 2> nothing{kNan, kInfinity};
  EXPECT_FALSE(greedy_token(nothing));
  EXPECT_FALSE(Sampler({.seed = {}}, 1).sample(nothing));
}

TEST(SamplerTest, DrawsInIdOrderWhenNothingNeedsSorting) {
  Xorshift64Star rng(1);
  const std::array<float, 3> logits{std::log(0.25F), std::log(0.5F), std::log(0.25F)};
  // Weights 0.5, 1, 0.5 relative to the largest; sum 2.
  std::vector<int32_t> expected;
  for (int i = 0; i < 50; ++i) {
    const float r = rng.next_unit() * 2;
    expected.push_back(r <= 0.5F ? 0 : r <= 1.5F ? 1 : 2);
  }
  EXPECT_EQ(draw({.min_p = 0, .seed = {}}, 1, logits, 50), expected);
}

TEST(SamplerTest, DrawsInOrderOfProbabilityWhenSorted) {
  Xorshift64Star rng(5);
  const std::array<float, 3> logits{std::log(0.2F), std::log(0.5F), std::log(0.3F)};
  // Top-p 0.75 keeps 0.5 and 0.3: weights 1 and 0.6.
  std::vector<int32_t> expected;
  for (int i = 0; i < 50; ++i) expected.push_back(rng.next_unit() * 1.6F <= 1.0F ? 1 : 2);
  EXPECT_EQ(draw({.top_p = 0.75F, .min_p = 0, .seed = {}}, 5, logits, 50), expected);
}

TEST(SamplerTest, MinPKeepsWhatReachesTheFloorRelativeToTheBest) {
  const std::array<float, 4> logits{0, std::log(0.051F), std::log(0.049F), -1};
  for (const float top_p : {1.0F, 0.9999F}) {
    const auto counts = histogram({.top_p = top_p, .min_p = 0.05F, .seed = {}}, logits, 5000);
    EXPECT_EQ(counts.count(1), 1U) << top_p;
    EXPECT_EQ(counts.count(2), 0U) << top_p;
  }
}

TEST(SamplerTest, TopPStopsAfterTheTokenThatReachesIt) {
  const std::array<float, 3> logits{std::log(0.5F), std::log(0.3F), std::log(0.2F)};
  EXPECT_EQ(histogram({.top_p = 0.49F, .min_p = 0, .seed = {}}, logits, 300).size(), 1U);
  EXPECT_EQ(histogram({.top_p = 0.51F, .min_p = 0, .seed = {}}, logits, 300).size(), 2U);
  EXPECT_EQ(histogram({.top_p = 0.81F, .min_p = 0, .seed = {}}, logits, 300).size(), 3U);
}

TEST(SamplerTest, TopPCountsTheWholeDistributionEvenWhereMinPCuts) {
  // 0.4, then 12 times 0.05: top-p 0.9 alone would keep 10 of those, min-p 0.2 keeps none.
  std::vector<float> logits(13, std::log(0.05F));
  logits[3] = std::log(0.4F);
  EXPECT_EQ(histogram({.top_p = 0.9F, .min_p = 0.2F, .seed = {}}, logits, 300).size(), 1U);
}

TEST(SamplerTest, TopKKeepsTheEarlierOfEquals) {
  const std::array<float, 5> logits{0, 1, 1, 1, 0.5F};
  const auto counts = histogram({.min_p = 0, .top_k = 2, .seed = {}}, logits, 500);
  EXPECT_EQ(counts.size(), 2U);
  EXPECT_EQ(counts.count(1), 1U);
  EXPECT_EQ(counts.count(2), 1U);
}

TEST(SamplerTest, TemperatureSharpensAndFlattens) {
  const std::array<float, 2> logits{0, 1};
  const int cold = histogram({.temperature = 0.2F, .min_p = 0, .seed = {}}, logits, 4000)[0];
  const int warm = histogram({.temperature = 5, .min_p = 0, .seed = {}}, logits, 4000)[0];
  EXPECT_NEAR(cold, 4000 / (1 + std::exp(5.0)), 20);
  EXPECT_NEAR(warm, 4000 / (1 + std::exp(0.2)), 130);
}

TEST(SamplerTest, ParametersOutOfRangeAreOff) {
  const std::array<float, 3> logits{0, -3, -4};
  const auto plain = draw({.min_p = 0, .seed = {}}, 3, logits, 200);
  EXPECT_EQ(draw({.top_p = 0, .min_p = -1, .seed = {}}, 3, logits, 200), plain);
  EXPECT_EQ(draw({.top_p = 1.5F, .min_p = 0, .top_k = -4, .seed = {}}, 3, logits, 200), plain);
  EXPECT_EQ(draw({.top_p = kNan, .min_p = 0, .seed = {}}, 3, logits, 200), plain);
}

TEST(SamplerTest, FollowsTheProbabilities) {
  const std::array<float, 3> logits{std::log(0.6F), std::log(0.3F), std::log(0.1F)};
  for (const int32_t top_k : {0, 3}) {
    auto counts = histogram({.min_p = 0, .top_k = top_k, .seed = {}}, logits, 20000);
    EXPECT_NEAR(counts[0], 12000, 300);
    EXPECT_NEAR(counts[1], 6000, 300);
    EXPECT_NEAR(counts[2], 2000, 200);
  }
}

TEST(SamplerTest, LogProbabilitiesSumToOneAndIgnoreTemperature) {
  const std::array<float, 4> logits{100, 99, -200, 98.5F};
  const double log_sum = log_sum_exp(logits);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(log_probability(logit, log_sum)));
  EXPECT_NEAR(sum, 1, 1e-6);
  EXPECT_NEAR(log_sum, 100 + std::log(1 + std::exp(-1.0) + std::exp(-1.5)), 1e-9);
}

TEST(SamplerTest, TopTokensAreSortedWithLowerIdsFirst) {
  const std::array<float, 6> logits{1, 5, kNan, 5, 2, -7};
  const std::vector<RankedToken> top = top_tokens(logits, 4);
  ASSERT_EQ(top.size(), 4U);
  EXPECT_EQ(top[0].id, 1);
  EXPECT_EQ(top[1].id, 3);
  EXPECT_EQ(top[2].id, 4);
  EXPECT_EQ(top[3].id, 0);
  EXPECT_EQ(top_tokens(logits, 100).size(), 5U);
  EXPECT_TRUE(top_tokens(logits, 0).empty());
}

}  // namespace
}  // namespace ds4
