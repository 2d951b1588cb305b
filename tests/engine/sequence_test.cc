#include "engine/sequence.h"

#include <gtest/gtest.h>

#include <limits>
#include <optional>

#include "engine/engine_fixture.h"

namespace ds4 {
namespace {

using test::RecordingSink;

constexpr int32_t kPromptTokens = 5;

class SequenceTest : public testing::Test {
 protected:
  SequenceTest() {
    request_.prompt_tokens = test::some_tokens(kPromptTokens, 1);
    request_.sampling.temperature = 0;
    request_.sink = sink_;
  }

  // Plays the scheduler and the model: the next logits are largest for `token`.
  void step(int32_t token) {
    if (!sequence_) {
      sequence_ =
          std::make_unique<Sequence>(request_, SequenceContext{engine_.tokenizer.get(), ctx_tokens_, spacing_}, 1);
      sequence_->start(engine_.cache->new_sequence().take_value());
    }
    std::vector<float> logits(288, 0.0F);
    logits[static_cast<size_t>(token)] = 5.0F;
    step_with(logits);
  }
  void step_with(const std::vector<float>& logits) {
    const auto n = static_cast<int32_t>(sequence_->pending_tokens(kPromptTokens).size());
    ASSERT_TRUE(sequence_->kv().reserve(n).ok());
    sequence_->kv().advance(n);
    sequence_->on_step(logits);
  }
  void step(ControlToken token) { step(engine_.tokenizer->control_id(token).value()); }
  void write(std::string_view text) {
    for (const int32_t token : engine_.tokenizer->encode_text(text)) step(token);
  }
  const Finished& finished() const {
    static const Finished kNone{};
    const Finished* last = sink_->last<Finished>();
    EXPECT_NE(last, nullptr);
    return last != nullptr ? *last : kNone;
  }

  test::TinyEngine engine_;
  std::shared_ptr<RecordingSink> sink_ = std::make_shared<RecordingSink>();
  GenerateRequest request_;
  int32_t ctx_tokens_ = 600;
  CheckpointSpacing spacing_{.prompt_tokens = 0};
  std::unique_ptr<Sequence> sequence_;
};

TEST_F(SequenceTest, EndOfSentenceStopsAndIsNoCompletionToken) {
  write("hi");
  step(ControlToken::kEos);
  EXPECT_TRUE(sequence_->is_done());
  EXPECT_EQ(sink_->text(), "hi");
  EXPECT_EQ(finished().reason, FinishReason::kStop);
  EXPECT_EQ(finished().usage, (Usage{.prompt_tokens = kPromptTokens, .completion_tokens = 2}));
}

TEST_F(SequenceTest, AnotherTurnsMarkerStopsToo) {
  write("hi");
  step(ControlToken::kUser);
  EXPECT_EQ(finished().reason, FinishReason::kStop);
  EXPECT_EQ(sink_->text(), "hi");
}

TEST_F(SequenceTest, ReasoningEndsAtTheControlTokenAndIsCounted) {
  request_.output.starts_in_thinking = true;
  write("why");
  step(ControlToken::kThinkEnd);
  write("so");
  step(ControlToken::kEos);
  EXPECT_EQ(sink_->reasoning(), "why");
  EXPECT_EQ(sink_->text(), "so");
  EXPECT_EQ(finished().usage.completion_tokens, 6U);
  EXPECT_EQ(finished().usage.reasoning_tokens, 4U);
}

TEST_F(SequenceTest, ReasoningIsClosedWhenItsBudgetIsUsedUp) {
  request_.output.starts_in_thinking = true;
  request_.output.rules.max_reasoning_tokens = 3;
  write("whyX");  // the fourth is not taken
  write("so");
  step(ControlToken::kEos);
  EXPECT_EQ(sink_->reasoning(), "why");
  EXPECT_EQ(sink_->text(), "so");
  EXPECT_EQ(finished().usage.reasoning_tokens, 4U);
}

TEST_F(SequenceTest, MarkersSpelledInOrdinaryTokensAreText) {
  request_.output.starts_in_thinking = true;
  write("a</think>b");
  step(ControlToken::kThinkEnd);
  write("<|User|>");
  step(ControlToken::kEos);
  EXPECT_EQ(sink_->reasoning(), "a</think>b");
  EXPECT_EQ(sink_->text(), "<|User|>");
}

TEST_F(SequenceTest, ToolCallsEndTheOutput) {
  request_.output.tools_enabled = true;
  write("\n\n<");
  step(ControlToken::kDsml);
  write("tool_calls>\n<");
  step(ControlToken::kDsml);
  write("invoke name=\"now\">\n</");
  step(ControlToken::kDsml);
  write("invoke>\n</");
  step(ControlToken::kDsml);
  write("tool_calls>");
  EXPECT_TRUE(sequence_->is_done());
  EXPECT_EQ(finished().reason, FinishReason::kToolCalls);
  ASSERT_EQ(sink_->all<ToolCallEnd>().size(), 1U);
  EXPECT_EQ(sink_->all<ToolCallBegin>()[0].name, "now");
}

TEST_F(SequenceTest, TheEndOfATurnIsWhereTheNextOneBegins) {
  spacing_ = {};
  request_.output.starts_in_thinking = true;
  request_.output.tools_enabled = true;
  step(20);
  EXPECT_EQ(sequence_->take_checkpoint_reason(), CheckpointReason::kPromptEnd);
  write("a");
  EXPECT_EQ(sequence_->take_checkpoint_reason(), std::nullopt);
  step(ControlToken::kEos);
  EXPECT_EQ(sequence_->take_checkpoint_reason(), CheckpointReason::kTurnEnd);
}

TEST_F(SequenceTest, NoPromptBeginsWithReasoningThatIsLeftOut) {
  spacing_ = {};
  request_.output.starts_in_thinking = true;
  step(20);
  EXPECT_EQ(sequence_->take_checkpoint_reason(), CheckpointReason::kPromptEnd);
  write("a");
  step(ControlToken::kThinkEnd);
  step(ControlToken::kEos);
  EXPECT_EQ(sequence_->take_checkpoint_reason(), CheckpointReason::kMessage);
}

TEST_F(SequenceTest, StopStringIsNotShown) {
  request_.output.stop_strings = {"END"};
  write("abc END");
  EXPECT_TRUE(sequence_->is_done());
  EXPECT_EQ(sink_->text(), "abc ");
  EXPECT_EQ(finished().reason, FinishReason::kStop);
}

TEST_F(SequenceTest, MaxTokensIsALengthLimit) {
  request_.max_tokens = 3;
  write("abc");
  EXPECT_TRUE(sequence_->is_done());
  EXPECT_EQ(sink_->text(), "abc");
  EXPECT_EQ(finished().reason, FinishReason::kLength);
}

TEST_F(SequenceTest, ZeroTokensComputeThePromptOnly) {
  request_.max_tokens = 0;
  step(20);
  EXPECT_EQ(finished().reason, FinishReason::kLength);
  EXPECT_EQ(finished().usage.completion_tokens, 0U);
  EXPECT_TRUE(sink_->text().empty());
}

TEST_F(SequenceTest, FullContextIsALengthLimit) {
  ctx_tokens_ = kPromptTokens + 2;
  write("abc");  // two tokens go into the context, a third comes out of it
  EXPECT_TRUE(sequence_->is_done());
  EXPECT_EQ(sink_->text(), "abc");
  EXPECT_EQ(finished().reason, FinishReason::kLength);
}

TEST_F(SequenceTest, RawTextJoinsCharactersAndKeepsMarkers) {
  request_.output.raw_text = true;
  write("\xC3\xA4");
  step(ControlToken::kThinkEnd);
  write("\xC3");
  step(ControlToken::kEos);
  EXPECT_EQ(sink_->text(), "\xC3\xA4</think>\xEF\xBF\xBD");
  EXPECT_EQ(finished().reason, FinishReason::kStop);
}

TEST_F(SequenceTest, LogprobsComeBeforeTheirText) {
  request_.n_top_logprobs = 2;
  write("a");
  step(ControlToken::kEos);
  ASSERT_EQ(sink_->all<TokenLogprobs>().size(), 1U);
  const TokenLogprobs logprobs = sink_->all<TokenLogprobs>()[0];
  EXPECT_EQ(logprobs.chosen.bytes, "a");
  ASSERT_EQ(logprobs.top.size(), 2U);
  EXPECT_EQ(logprobs.top[0], logprobs.chosen);
  EXPECT_EQ(logprobs.top[1].token_id, 0);
  EXPECT_FLOAT_EQ(logprobs.chosen.logprob - logprobs.top[1].logprob, 5.0F);
  ASSERT_GE(sink_->events.size(), 3U);
  EXPECT_TRUE(std::holds_alternative<TokenLogprobs>(sink_->events[1]));
  EXPECT_TRUE(std::holds_alternative<TextDelta>(sink_->events[2]));
}

TEST_F(SequenceTest, ReportsPrefillProgress) {
  request_.prompt_tokens = test::some_tokens(2 * kPromptTokens, 1);
  step(20);
  EXPECT_TRUE(sequence_->is_prefilling());
  step(20);
  EXPECT_EQ(sink_->all<PrefillProgress>(),
            (std::vector<PrefillProgress>{{kPromptTokens, 2 * kPromptTokens}, {2 * kPromptTokens, 2 * kPromptTokens}}));
  step(21);
  EXPECT_EQ(sink_->all<PrefillProgress>().size(), 2U);
}

TEST_F(SequenceTest, NoFiniteLogitFails) {
  write("a");
  step_with(std::vector<float>(288, std::numeric_limits<float>::quiet_NaN()));
  EXPECT_TRUE(sequence_->is_done());
  ASSERT_NE(sink_->last<Failed>(), nullptr);
  EXPECT_EQ(sink_->last<Failed>()->error.code, ErrorCode::kInternal);
}

TEST_F(SequenceTest, CancelReleasesHeldTextAndEndsOnce) {
  request_.output.stop_strings = {"stop"};
  write("ab sto");
  sequence_->cancel();
  EXPECT_EQ(sink_->text(), "ab sto");
  EXPECT_EQ(finished().reason, FinishReason::kCancelled);
  EXPECT_EQ(sink_->all<Finished>().size(), 1U);
}

TEST_F(SequenceTest, ModelRowsBeyondTheVocabularyAreNeverSampled) {
  write("a");
  std::vector<float> logits(300, 0.0F);
  logits[295] = 9.0F;
  logits[static_cast<size_t>(engine_.tokenizer->encode_text("b")[0])] = 5.0F;
  step_with(logits);
  EXPECT_EQ(sink_->text(), "ab");
}

TEST(CheckPromptFitsTest, NamesBothNumbers) {
  EXPECT_TRUE(check_prompt_fits(99, 100).ok());
  const Result<void> full = check_prompt_fits(100, 100);
  ASSERT_FALSE(full.ok());
  EXPECT_EQ(full.error().code, ErrorCode::kContextLength);
  EXPECT_NE(check_prompt_fits(1234, 100).error().message.find("1234"), std::string::npos);
  EXPECT_NE(check_prompt_fits(1234, 100).error().message.find("maximum context length is 100 tokens"),
            std::string::npos);
}

}  // namespace
}  // namespace ds4
