#include "engine/logit_adjuster.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace ds4 {
namespace {

const std::vector<float> kLogits{2.0F, -1.0F, 0.5F, 4.0F};

std::vector<float> adjusted(LogitAdjuster& adjuster, const TokenMask* mask = nullptr) {
  const std::span<const float> result = adjuster.adjust(kLogits, mask);
  return {result.begin(), result.end()};
}

TEST(LogitAdjusterTest, WhatChangesNothingCopiesNothing) {
  LogitAdjuster adjuster({.seed = {}});
  adjuster.count(0);
  EXPECT_EQ(adjuster.adjust(kLogits, nullptr).data(), kLogits.data());
}

TEST(LogitAdjusterTest, PresenceCountsOnceAndFrequencyEveryTime) {
  LogitAdjuster adjuster({.seed = {}, .presence_penalty = 0.5F, .frequency_penalty = 0.25F});
  EXPECT_EQ(adjusted(adjuster), kLogits);
  for (const int32_t token : {0, 3, 3, 3}) adjuster.count(token);
  EXPECT_EQ(adjusted(adjuster), (std::vector<float>{1.25F, -1.0F, 0.5F, 2.75F}));
}

TEST(LogitAdjusterTest, RepetitionMakesEverySignLessLikely) {
  LogitAdjuster adjuster({.seed = {}, .repetition_penalty = 2.0F});
  for (const int32_t token : {0, 1, 1}) adjuster.count(token);
  EXPECT_EQ(adjusted(adjuster), (std::vector<float>{1.0F, -2.0F, 0.5F, 4.0F}));
}

TEST(LogitAdjusterTest, BiasIsAddedAndUnknownTokensAreIgnored) {
  LogitAdjuster adjuster({.seed = {}, .logit_bias = {{1, 100.0F}, {3, -100.0F}, {77, 5.0F}, {-1, 5.0F}}});
  EXPECT_EQ(adjusted(adjuster), (std::vector<float>{2.0F, 99.0F, 0.5F, -96.0F}));
}

TEST(LogitAdjusterTest, AMaskIsStrongerThanABias) {
  LogitAdjuster adjuster({.seed = {}, .presence_penalty = 1.0F, .logit_bias = {{3, 100.0F}}});
  TokenMask mask(4);
  mask.allow(1);
  adjuster.count(3);
  const std::vector<float> result = adjusted(adjuster, &mask);
  EXPECT_EQ(result[1], -1.0F);
  for (const size_t token : {0, 2, 3}) EXPECT_EQ(result[token], -INFINITY);
}

}  // namespace
}  // namespace ds4
