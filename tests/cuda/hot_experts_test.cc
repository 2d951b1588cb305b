// The choice of experts alone; no device is needed.

#include "backends/cuda/hot_experts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/rng.h"

namespace ds4::cuda {
namespace {

using ::testing::ElementsAre;
using Swap = HotExperts::Swap;

TEST(HotExperts, BeginWithTheFirstExpertsOfEveryLayer) {
  const HotExperts experts(2, 4, 3);
  for (const int32_t layer : {0, 1}) {
    for (int32_t expert = 0; expert < 4; ++expert) EXPECT_EQ(experts.is_on_card(layer, expert), expert < 3);
  }
}

TEST(HotExperts, ThePickedOnesReplaceTheColdOnes) {
  HotExperts experts(1, 6, 3);
  experts.count(std::vector<uint32_t>{8, 0, 4, 0, 9, 7});
  EXPECT_EQ(experts.n_hits(), 12U);
  EXPECT_EQ(experts.n_picks(), 28U);
  // 4 (nine picks) takes the place of 1 (none), 5 (seven) that of 2 (four); 0 stays.
  EXPECT_THAT(experts.take_swaps(8), ElementsAre(Swap{0, 1, 4}, Swap{0, 2, 5}));
  EXPECT_TRUE(experts.is_on_card(0, 0));
  EXPECT_FALSE(experts.is_on_card(0, 1));
  EXPECT_TRUE(experts.is_on_card(0, 4));
}

TEST(HotExperts, SmallDifferencesMoveNothing) {
  HotExperts experts(1, 4, 2);
  experts.count(std::vector<uint32_t>{8, 8, 10, 9});
  EXPECT_TRUE(experts.take_swaps(8).empty());
}

TEST(HotExperts, TheLargestGainsComeFirstWhenFewMayMove) {
  HotExperts experts(2, 3, 1);
  experts.count(std::vector<uint32_t>{0, 5, 0, 0, 0, 9});
  EXPECT_THAT(experts.take_swaps(1), ElementsAre(Swap{1, 0, 2}));
}

TEST(HotExperts, OldPicksFade) {
  HotExperts experts(1, 2, 1);
  experts.count(std::vector<uint32_t>{16, 0});
  for (int i = 0; i < 12; ++i) experts.count(std::vector<uint32_t>{0, 2});
  EXPECT_THAT(experts.take_swaps(1), ElementsAre(Swap{0, 0, 1}));
}

TEST(HotExperts, TheCardHoldsAsManyOfEachLayerWhateverIsPicked) {
  constexpr int32_t kLayers = 3, kExperts = 17, kOnCard = 5;
  HotExperts experts(kLayers, kExperts, kOnCard);
  Xorshift64Star random(7);
  size_t n_swaps = 0;
  for (int step = 0; step < 200; ++step) {
    std::vector<uint32_t> picks(kLayers * kExperts);
    for (uint32_t& n : picks) n = static_cast<uint32_t>(random.next() % 40);
    experts.count(picks);
    n_swaps += experts.take_swaps(4).size();
    for (int32_t layer = 0; layer < kLayers; ++layer) {
      int32_t n = 0;
      for (int32_t expert = 0; expert < kExperts; ++expert) n += experts.is_on_card(layer, expert) ? 1 : 0;
      ASSERT_EQ(n, kOnCard);
    }
  }
  EXPECT_GT(n_swaps, 0U);
}

}  // namespace
}  // namespace ds4::cuda
