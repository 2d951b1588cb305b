// A direction built from the embedded model's own outputs does to its answers what docs/steering.md says.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "engine/direction_builder.h"
#include "support/recording_sink.h"
#include "support/temporary_path.h"

namespace ds4::test {
namespace {

const std::string kModel = DS4_SOURCE_DIR "/models/ds4-mini.gguf";

// Lists that the direction is built from, and others to ask about.
constexpr const char* kLists[] = {
    "apple, pear, plum", "dog, cat",    "red, blue, green, black", "horse, cow, pig",
    "lemon, cherry",     "pink, brown", "banana, kiwi, melon",     "sheep, goat, duck, hen"};
constexpr const char* kOtherLists[] = {"dog, cow", "mango, fig, lime", "fox, wolf", "gray, red"};
constexpr int kOthers = std::size(kOtherLists);

std::vector<std::string> questions(std::string_view kind) {
  std::vector<std::string> all;
  for (const char* list : kLists) all.push_back(fmt::format("Write these items as a {}: {}", kind, list));
  return all;
}

struct Answers {
  int n_numbered = 0;
  int n_bullets = 0;
};

class SteeredModelTest : public testing::Test {
 protected:
  void SetUp() override {
#ifdef DS4_SANITIZED
    GTEST_SKIP() << "too slow under sanitizers; steering_test covers the same paths on a small model";
#endif
    DirectionBuilder builder(kModel);
    const std::string path = temporary_path("numbered-lists.f32");
    write_directions(path,
                     builder.build(questions("numbered list"), questions("bullet list"), SteeredOutput::kAttention));
    EngineOptions options{.model_path = kModel, .ctx_tokens = 256, .n_threads = 2};
    options.steering.file = path;
    engine_ = Engine::load(options).take_value();
  }

  Answers ask(std::string_view kind, const SteeringScales& scales) {
    Answers answers;
    for (const char* list : kOtherLists) {
      Conversation conversation;
      conversation.messages.resize(1);
      conversation.messages[0].content = fmt::format("Write these items as a {}: {}", kind, list);
      GenerateRequest request = engine_->prepare(conversation, {.thinking_mode = ThinkingMode::kChat}).take_value();
      const auto sink = std::make_shared<RecordingSink>();
      request.sink = sink;
      request.max_tokens = 4;
      request.sampling.temperature = 0;
      request.steering = SteeringSettings{.scales = scales, .policy = SteeringPolicy::kAlways};
      engine_->scheduler().submit(std::move(request));
      while (engine_->scheduler().step()) {
      }
      answers.n_numbered += sink->text().starts_with("1.") ? 1 : 0;
      answers.n_bullets += sink->text().starts_with("- ") ? 1 : 0;
    }
    return answers;
  }

  std::unique_ptr<Engine> engine_;
};

TEST_F(SteeredModelTest, UnsteeredItDoesAsItIsToldAndPrefersBullets) {
  EXPECT_EQ(ask("numbered list", {}).n_numbered, kOthers);
  EXPECT_EQ(ask("bullet list", {}).n_bullets, kOthers);
  EXPECT_EQ(ask("list", {}).n_bullets, kOthers);
}

TEST_F(SteeredModelTest, APositiveScaleTakesTheNumbersAway) {
  EXPECT_EQ(ask("numbered list", {.attn = 1.0F}).n_bullets, kOthers);
  EXPECT_EQ(ask("bullet list", {.attn = 1.0F}).n_bullets, kOthers);
  EXPECT_EQ(ask("list", {.attn = 1.0F}).n_bullets, kOthers);
}

// One of the lists may fall out of line: what the model prefers is only a preference.
TEST_F(SteeredModelTest, ANegativeScaleNumbersWhatIsFree) {
  EXPECT_GE(ask("list", {.attn = -1.0F}).n_numbered, kOthers - 1);
  EXPECT_EQ(ask("numbered list", {.attn = -1.0F}).n_numbered, kOthers);
  EXPECT_EQ(ask("bullet list", {.attn = -1.0F}).n_bullets, kOthers) << "what was asked for stays";
}

TEST_F(SteeredModelTest, OnTheOtherOutputItDoesNothing) {
  EXPECT_EQ(ask("numbered list", {.ffn = 1.0F}).n_numbered, kOthers);
  EXPECT_EQ(ask("list", {.ffn = -1.0F}).n_bullets, kOthers);
}

}  // namespace
}  // namespace ds4::test
