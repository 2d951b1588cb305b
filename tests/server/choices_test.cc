#include "server/choices.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/recording_responder.h"

namespace ds4 {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// Notes what comes, as "CHOICE:TEXT".
class NotingAnswer final : public AnswerSink {
 public:
  void begin() override { notes.emplace_back("begin"); }
  void on_events(size_t choice, OutputEvents events) override {
    for (const OutputEvent& event : events) {
      std::string text = "finished";
      if (const auto* delta = std::get_if<TextDelta>(&event)) text = delta->text;
      if (const auto* failed = std::get_if<Failed>(&event)) text = failed->error.message;
      notes.push_back(fmt::format("{}:{}", choice, text));
    }
  }
  std::vector<std::string> notes;
};

class AnswerGateTest : public testing::Test {
 protected:
  std::shared_ptr<NotingAnswer> answer_ = std::make_shared<NotingAnswer>();
  std::shared_ptr<test::RecordingResponder> responder_ = std::make_shared<test::RecordingResponder>();
  std::shared_ptr<AnswerGate> gate_ = std::make_shared<AnswerGate>(answer_, responder_);
};

TEST_F(AnswerGateTest, KeepsWhatComesBeforeItBegins) {
  gate_->choice(1)->on_events({TextDelta{"early"}});
  gate_->choice(0)->on_events({Finished{}});
  EXPECT_TRUE(answer_->notes.empty());
  gate_->begin();
  gate_->choice(1)->on_events({Finished{}});
  EXPECT_THAT(answer_->notes, ElementsAre("begin", "1:early", "0:finished", "1:finished"));
  EXPECT_FALSE(*responder_->flag);
}

TEST_F(AnswerGateTest, TheFirstFailureIsTheLastEventAndCancelsTheRest) {
  gate_->begin();
  gate_->choice(1)->on_events({TextDelta{"a"}, Failed{make_error(ErrorCode::kInternal, "broken")}});
  gate_->choice(0)->on_events({Finished{FinishReason::kCancelled, {}}});
  EXPECT_THAT(answer_->notes, ElementsAre("begin", "1:a", "1:broken"));
  EXPECT_TRUE(*responder_->flag);
}

TEST_F(AnswerGateTest, AFailureBeforeItBeginsEndsTheAnswer) {
  gate_->choice(0)->on_events({Failed{make_error(ErrorCode::kInternal, "broken")}});
  gate_->choice(1)->on_events({TextDelta{"b"}});
  gate_->begin();
  EXPECT_THAT(answer_->notes, ElementsAre("begin", "0:broken"));
}

TEST_F(AnswerGateTest, ARefusedAnswerNeverBegins) {
  gate_->choice(0)->on_events({TextDelta{"a"}});
  gate_->close();
  gate_->choice(0)->on_events({Finished{FinishReason::kCancelled, {}}});
  EXPECT_TRUE(answer_->notes.empty());
  EXPECT_TRUE(*responder_->flag);
}

TEST_F(AnswerGateTest, SaysWhyAnAnswerWasCancelled) {
  const auto reason = [this](bool is_flagged, bool server_stops) {
    answer_->notes.clear();
    *responder_->flag = is_flagged;
    responder_->stops = server_stops;
    gate_ = std::make_shared<AnswerGate>(answer_, responder_);
    gate_->begin();
    gate_->choice(0)->on_events({Finished{FinishReason::kCancelled, {}}});
    return answer_->notes.back();
  };
  EXPECT_THAT(reason(true, false), HasSubstr("its client is gone"));
  EXPECT_THAT(reason(true, true), HasSubstr("the server stops"));
  EXPECT_THAT(reason(false, false), HasSubstr("the server stops"));
}

TEST(ChoicesTest, DifferInTheirSeeds) {
  GenerateRequest request;
  request.prompt_tokens = {1, 2};
  request.sampling.seed = 7;
  const std::vector<GenerateRequest> choices = choices_of(request, 3);
  ASSERT_EQ(choices.size(), 3U);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(choices[i].sampling.seed, 7 + i);
    EXPECT_EQ(choices[i].prompt_tokens, request.prompt_tokens);
  }
  request.sampling.seed.reset();
  EXPECT_FALSE(choices_of(request, 2)[1].sampling.seed.has_value());
  EXPECT_EQ(choices_of(request, 1).size(), 1U);
}

TEST(ChoicesTest, CountAPromptOnce) {
  Usage total;
  add_choice_usage(total, {.prompt_tokens = 5, .completion_tokens = 2, .reasoning_tokens = 1, .cached_tokens = 3},
                   true);
  add_choice_usage(total, {.prompt_tokens = 5, .completion_tokens = 4, .reasoning_tokens = 2, .cached_tokens = 5},
                   false);
  EXPECT_EQ(total, (Usage{.prompt_tokens = 5, .completion_tokens = 6, .reasoning_tokens = 3, .cached_tokens = 3}));
}

}  // namespace
}  // namespace ds4
