#include "engine/checkpoint_stops.h"

#include <gtest/gtest.h>

#include "engine/engine_fixture.h"

namespace ds4 {
namespace {

constexpr CheckpointSpacing kSpacing{.prompt_tokens = 100, .answer_tokens = 50, .least_tokens = 20};

class CheckpointStopsTest : public testing::Test {
 protected:
  // A prompt of text tokens with user markers at these positions.
  std::vector<CheckpointStop> stops(size_t n_tokens, const std::vector<size_t>& user_markers,
                                    const CheckpointSpacing& spacing = kSpacing) const {
    std::vector<int32_t> prompt(n_tokens, 'a');
    for (const size_t at : user_markers) prompt[at] = engine_.tokenizer->control_id(ControlToken::kUser).value();
    return checkpoint_stops(engine_.tokenizer.get(), prompt, spacing);
  }
  test::TinyEngine engine_;
};

TEST_F(CheckpointStopsTest, FirstUserTurnEndsThePrefixAndTheLastTokenStaysOut) {
  EXPECT_EQ(stops(60, {30}),
            (std::vector<CheckpointStop>{{30, CheckpointReason::kPrefix}, {59, CheckpointReason::kPromptEnd}}));
}

TEST_F(CheckpointStopsTest, CloseMessagesShareOneButTheLastHasItsOwn) {
  EXPECT_EQ(stops(80, {10, 25, 29, 35}), (std::vector<CheckpointStop>{{10, CheckpointReason::kPrefix},
                                                                      {35, CheckpointReason::kMessage},
                                                                      {79, CheckpointReason::kPromptEnd}}));
}

TEST_F(CheckpointStopsTest, LongStretchesGetStopsAtMultiples) {
  EXPECT_EQ(stops(350, {210}), (std::vector<CheckpointStop>{{100, CheckpointReason::kInterval},
                                                            {210, CheckpointReason::kPrefix},
                                                            {300, CheckpointReason::kInterval},
                                                            {349, CheckpointReason::kPromptEnd}}));
}

TEST_F(CheckpointStopsTest, AMarkerAtTheVeryStartOrEndIsNone) {
  EXPECT_EQ(stops(40, {0, 39}), (std::vector<CheckpointStop>{{39, CheckpointReason::kPromptEnd}}));
}

TEST_F(CheckpointStopsTest, NoneWhenSwitchedOffOrTooShort) {
  EXPECT_TRUE(stops(60, {30}, {.prompt_tokens = 0}).empty());
  EXPECT_TRUE(stops(1, {}).empty());
}

TEST(CheckpointStopsWithoutVocabularyTest, OnlyIntervalsAndTheEnd) {
  const std::vector<int32_t> prompt(130, 7);
  EXPECT_EQ(checkpoint_stops(nullptr, prompt, kSpacing),
            (std::vector<CheckpointStop>{{100, CheckpointReason::kInterval}, {129, CheckpointReason::kPromptEnd}}));
}

}  // namespace
}  // namespace ds4
