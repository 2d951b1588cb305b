#include "engine/steering_plan.h"

#include <gtest/gtest.h>

#include <cmath>

#include "engine/engine_fixture.h"
#include "engine/sequence.h"

namespace ds4 {
namespace {

constexpr SteeringScales kScales{.attn = 0.5F, .ffn = -1.0F};
constexpr SteeringContext kContext{.has_directions = true, .directions = {1, 2}, .defaults = {}};

GenerateRequest request_with(SteeringPolicy policy, SteeringScales scales = kScales) {
  GenerateRequest request;
  request.steering = SteeringSettings{.scales = scales, .policy = policy};
  return request;
}

// Which of the tokens of a sequence are steered.
std::string steered_tokens(const SteeringPlan& plan, size_t n_prompt, size_t n) {
  std::string marks;
  for (size_t i = 0; i < n; ++i) {
    const SteeringScales scales = plan.scales(n_prompt, i);
    EXPECT_TRUE(scales == kScales || !scales.any());
    marks += scales.any() ? 'x' : '.';
  }
  return marks;
}

TEST(SteeringPlanTest, PoliciesSteerPromptAndOutput) {
  const std::vector<std::pair<SteeringPolicy, std::string>> cases{{SteeringPolicy::kAlways, "xxxxx"},
                                                                  {SteeringPolicy::kDecoding, "...xx"},
                                                                  {SteeringPolicy::kFinalAnswer, "...xx"},
                                                                  {SteeringPolicy::kOff, "....."}};
  for (const auto& [policy, expected] : cases) {
    SteeringPlan plan(kContext, request_with(policy));
    for (int i = 0; i < 2; ++i) plan.add_token(OutputPart::kText, OutputPart::kText, "word");
    EXPECT_EQ(steered_tokens(plan, 3, 5), expected);
  }
}

TEST(SteeringPlanTest, DefaultsAreTheEnginesAndNothingIsSteeredWithoutScalesOrDirections) {
  SteeringContext context = kContext;
  context.defaults = {.scales = kScales, .policy = SteeringPolicy::kAlways};
  EXPECT_EQ(steered_tokens(SteeringPlan(context, {}), 2, 2), "xx");
  EXPECT_EQ(steered_tokens(SteeringPlan(context, request_with(SteeringPolicy::kAlways, {})), 2, 2), "..");
  context.has_directions = false;
  EXPECT_EQ(steered_tokens(SteeringPlan(context, {}), 2, 2), "..");
  EXPECT_EQ(SteeringPlan(context, {}).identity(), Hash128{});
}

// What follows the prompt, as a model writes it.
struct Step {
  OutputPart before;
  OutputPart after;
  const char* text;
};

std::string final_answer(const OutputSettings& output, const std::vector<Step>& steps) {
  GenerateRequest request = request_with(SteeringPolicy::kFinalAnswer);
  request.output = output;
  SteeringPlan plan(kContext, request);
  for (const Step& step : steps) plan.add_token(step.before, step.after, step.text);
  return steered_tokens(plan, 0, steps.size());
}

TEST(SteeringPlanTest, TheFinalAnswerIsTextThatAUserReads) {
  constexpr auto kReasoning = OutputPart::kReasoning;
  constexpr auto kBlock = OutputPart::kBlock;
  constexpr auto kText = OutputPart::kText;
  const std::vector<Step> steps{
      {kReasoning, kReasoning, "so"},
      {kReasoning, kText, ""},  // the end of reasoning
      {kText, kText, "\n\n"},   // nothing to read yet
      {kText, kText, " Yes"},
      {kText, kText, "\n"},  // within the answer
      {kText, kText, ""},    // a control token that chats do not know
      {kText, kBlock, "<\xef"},
      {kBlock, kText, "x"},  // it was none
      {kText, kText, "!"},
  };
  EXPECT_EQ(final_answer({}, steps), "...xx...x");
  EXPECT_EQ(final_answer({.tools_enabled = true}, steps), ".........") << "tools come first";
  EXPECT_EQ(final_answer({.tools_enabled = true, .follows_tool_results = true}, steps), "...xx...x");
  EXPECT_EQ(final_answer({.tools_enabled = true, .raw_text = true}, steps), "...xx...x");
}

TEST(SteeringPlanTest, RunsAreOfTokensThatAreSteeredAlike) {
  SteeringPlan plan(kContext, request_with(SteeringPolicy::kFinalAnswer));
  for (const char* text : {" ", "a", "b", "", "c"}) plan.add_token(OutputPart::kText, OutputPart::kText, text);
  ASSERT_EQ(steered_tokens(plan, 3, 8), "....xx.x");
  EXPECT_EQ(plan.run_length(3, 0, 8), 4U);
  EXPECT_EQ(plan.run_length(3, 1, 2), 2U);
  EXPECT_EQ(plan.run_length(3, 2, 6), 2U);
  EXPECT_EQ(plan.run_length(3, 4, 4), 2U);
  EXPECT_EQ(plan.run_length(3, 6, 2), 1U);
  EXPECT_EQ(plan.run_length(3, 7, 1), 1U);
  EXPECT_EQ(plan.run_length(3, 8, 0), 0U);
  EXPECT_EQ(plan.n_identified(3, 8), 4U);
}

TEST(SteeringPlanTest, IdentityNamesWhatPromptsAreSteeredWith) {
  const auto identity = [](SteeringPolicy policy, SteeringScales scales, Hash128 directions = {1, 2}) {
    return SteeringPlan({.has_directions = true, .directions = directions, .defaults = {}},
                        request_with(policy, scales))
        .identity();
  };
  const Hash128 own = identity(SteeringPolicy::kAlways, kScales);
  EXPECT_NE(own, Hash128{});
  EXPECT_EQ(own, identity(SteeringPolicy::kAlways, kScales));
  EXPECT_NE(own, identity(SteeringPolicy::kAlways, {.attn = -1.0F, .ffn = 0.5F}));
  EXPECT_NE(own, identity(SteeringPolicy::kAlways, kScales, {1, 3}));
  EXPECT_EQ(identity(SteeringPolicy::kAlways, {.attn = -0.0F, .ffn = 1.0F}),
            identity(SteeringPolicy::kAlways, {.attn = 0.0F, .ffn = 1.0F}));
  for (const SteeringPolicy policy : {SteeringPolicy::kDecoding, SteeringPolicy::kFinalAnswer, SteeringPolicy::kOff})
    EXPECT_EQ(identity(policy, kScales), Hash128{});
  EXPECT_EQ(identity(SteeringPolicy::kAlways, {}), Hash128{});
}

TEST(SteeringOptionsTest, DefaultsFollowWhatIsGiven) {
  const auto scales = [](SteeringOptions options) { return options.settings().value().scales; };
  EXPECT_EQ(scales({}), SteeringScales{});
  EXPECT_EQ(scales({.file = "v.f32"}), (SteeringScales{.attn = 0.0F, .ffn = 1.0F}));
  EXPECT_EQ(scales({.file = "v.f32", .attn = 2.0F}), (SteeringScales{.attn = 2.0F, .ffn = 0.0F}));
  EXPECT_EQ(scales({.file = "v.f32", .ffn = -0.75F}), (SteeringScales{.attn = 0.0F, .ffn = -0.75F}));
  EXPECT_EQ(scales({.file = "v.f32", .attn = 0.0F, .ffn = 0.0F}), SteeringScales{});
  EXPECT_EQ(scales({.attn = 0.0F}), SteeringScales{});
}

TEST(SteeringOptionsTest, ScalesNeedDirectionsAndARange) {
  const auto message = [](const SteeringOptions& options) {
    const Result<SteeringSettings> settings = options.settings();
    EXPECT_FALSE(settings.ok());
    EXPECT_EQ(settings.error().code, ErrorCode::kInvalidArgument);
    return settings.error().message;
  };
  EXPECT_NE(message({.ffn = 0.5F}).find("ffn 0.5: no directions are loaded (--dir-steering-file)"), std::string::npos);
  EXPECT_NE(message({.file = "v.f32", .attn = -100.5F}).find("-100.5: expected a number from -100 to 100"),
            std::string::npos);
  EXPECT_NE(message({.file = "v.f32", .ffn = std::nanf("")}).find("nan"), std::string::npos);
}

// A sequence that writes what a test tells it, and which of its tokens it asks to be steered.
class SteeredSequence {
 public:
  explicit SteeredSequence(OutputSettings output) {
    request_.prompt_tokens = test::some_tokens(4, 1);
    request_.output = std::move(output);
    request_.sampling.temperature = 0;
    request_.sink = sink_;
    request_.steering = SteeringSettings{.scales = kScales, .policy = SteeringPolicy::kFinalAnswer};
    sequence_ = std::make_unique<Sequence>(
        request_, SequenceContext{engine_.tokenizer.get(), 600, {.prompt_tokens = 0}, kContext}, 1);
    sequence_->start(engine_.cache->new_sequence().take_value());
  }

  void write(int32_t token) {
    std::vector<float> logits(288, 0.0F);
    logits[static_cast<size_t>(token)] = 5.0F;
    const auto pending = sequence_->pending_tokens(10);
    ASSERT_TRUE(sequence_->kv().reserve(static_cast<int32_t>(pending.size())).ok());
    marks_ += std::string(pending.size(), sequence_->pending_steering().any() ? 'x' : '.');
    sequence_->kv().advance(static_cast<int32_t>(pending.size()));
    sequence_->on_step(logits);
  }
  void write(std::string_view text) {
    for (const int32_t token : engine_.tokenizer->encode_text(text)) write(token);
  }
  void write(ControlToken token) { write(engine_.tokenizer->control_id(token).value()); }

  // Of all tokens that were run: all but the last.
  const std::string& marks() const { return marks_; }
  size_t n_identified() const { return sequence_->n_identified(); }

 private:
  test::TinyEngine engine_;
  std::shared_ptr<test::RecordingSink> sink_ = std::make_shared<test::RecordingSink>();
  GenerateRequest request_;
  std::unique_ptr<Sequence> sequence_;
  std::string marks_;
};

TEST(SteeredSequenceTest, ReasoningAndItsEndAreLeftAlone) {
  SteeredSequence sequence({.starts_in_thinking = true});
  sequence.write("hm <");
  sequence.write(ControlToken::kThinkEnd);
  sequence.write("\nA <b");
  sequence.write(ControlToken::kEos);
  // prompt, reasoning, its end, newline, then text
  EXPECT_EQ(sequence.marks(), std::string("....") + "...." + "." + "." + "xxxx");
  EXPECT_EQ(sequence.n_identified(), 10U);
}

TEST(SteeredSequenceTest, ToolCallsAreLeftAlone) {
  SteeredSequence sequence({.tools_enabled = true, .follows_tool_results = true});
  sequence.write("ok\n\n<");
  sequence.write(ControlToken::kDsml);
  sequence.write("tool_calls>\n<");
  sequence.write(ControlToken::kDsml);
  sequence.write("inv");
  // A "<" alone may be anything; from the marker on it is a block.
  EXPECT_EQ(sequence.marks(), std::string("....") + "xxxxx" + "." + std::string(13, '.') + "." + "..");
}

TEST(SteeredSequenceTest, TheFirstTurnWithToolsIsLeftAlone) {
  SteeredSequence sequence({.tools_enabled = true});
  sequence.write("hello there");
  EXPECT_EQ(sequence.marks(), std::string(4 + 10, '.'));
  EXPECT_EQ(sequence.n_identified(), 4U + 11U) << "and remembered as any other";
}

}  // namespace
}  // namespace ds4
