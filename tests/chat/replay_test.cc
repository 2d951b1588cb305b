// The property that the replay map is there for: a conversation of many turns, whose client returns every tool call in
// JSON of its own, has a prompt that starts with exactly the tokens that were computed before it.

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <span>

#include "base/utf8.h"
#include "chat/output_parser.h"
#include "chat/renderer.h"
#include "chat/replay_map.h"
#include "chat/sampled_turns.h"
#include "gguf/reader.h"
#include "text/tokenizer.h"
#include "text/vocabulary_metadata.h"

namespace ds4 {
namespace {

using test::Dice;

const Tokenizer& mini_tokenizer() {
  static const std::unique_ptr<Tokenizer> tokenizer = [] {
    const auto file = GgufFile::open(DS4_SOURCE_DIR "/models/ds4-mini.gguf").take_value();
    return Tokenizer::create(vocabulary_from_metadata(file->metadata()).take_value()).take_value();
  }();
  return *tokenizer;
}

// Control tokens by name and texts joined: what tokens say, whatever way they were cut.
std::string spell(std::span<const int32_t> tokens) {
  std::string text;
  for (const int32_t token : tokens) {
    const bool is_control = mini_tokenizer().is_control(token);
    text += is_control ? fmt::format("[[{}]]", token) : std::string(mini_tokenizer().token_bytes(token));
  }
  return text;
}

// Not as the tokenizer would: every character for itself.
std::vector<int32_t> encode_characters(const PromptSegments& segments) {
  std::vector<int32_t> tokens;
  for (const PromptSegment& segment : segments) {
    if (segment.control) tokens.push_back(*mini_tokenizer().control_id(*segment.control));
    for (size_t at = 0; at < segment.text.size();) {
      const size_t n = decode_utf8(segment.text, at).n_bytes;
      for (const int32_t token : mini_tokenizer().encode_text(segment.text.substr(at, n))) tokens.push_back(token);
      at += n;
    }
  }
  return tokens;
}

// An agent and its engine, without the model.
class Agent {
 public:
  Agent(uint64_t seed, bool thinks, bool samples_canonical_tokens)
      : dice_(seed), thinks_(thinks), samples_canonical_tokens_(samples_canonical_tokens) {
    Message system;
    system.role = Role::kSystem;
    system.content = "Use tools.";
    system.tools = {R"({"name": "bash", "parameters": {}})"};
    conversation_.messages.push_back(std::move(system));
    say_user();
  }

  // The prompt's tokens, with what `map` remembers.
  std::vector<int32_t> prompt(ReplayMap* map) {
    RenderOptions options{.thinking_mode = thinks_ ? ThinkingMode::kThinking : ThinkingMode::kChat};
    options.replay = map;
    const RenderedPrompt rendered = render(conversation_, options).take_value();
    EXPECT_EQ(rendered.starts_in_thinking, thinks_);
    return mini_tokenizer().encode(rendered.segments);
  }

  // One turn after `prompt`; returns all tokens computed, with the end of sentence that follows.
  std::vector<int32_t> answer(std::vector<int32_t> prompt, ReplayMap& map) {
    OutputParser parser({.starts_in_thinking = thinks_, .tools_enabled = true, .require_control_tokens = true});
    const PromptSegments sampled = test::sample_turn(dice_, thinks_);
    OutputEvents events;
    for (const int32_t token :
         samples_canonical_tokens_ ? mini_tokenizer().encode(sampled) : encode_characters(sampled)) {
      if (parser.done()) break;
      prompt.push_back(token);
      for (OutputEvent& event : push(parser, token)) append_event(events, std::move(event));
    }
    for (OutputEvent& event : parser.finish(false)) append_event(events, std::move(event));
    if (prompt.back() != mini_tokenizer().eos_id()) prompt.push_back(mini_tokenizer().eos_id());
    receive(events, parser.take_sampled_calls(), map);
    return prompt;
  }

  size_t n_calls() const { return n_calls_; }

 private:
  static OutputEvents push(OutputParser& parser, int32_t token) {
    if (!mini_tokenizer().is_control(token)) return parser.push_text(mini_tokenizer().token_bytes(token));
    const auto control = std::ranges::find_if(kControlTokens, [token](const ControlTokenInfo& info) {
      return mini_tokenizer().control_id(info.token) == token;
    });
    return parser.push_control(control->token);
  }

  void say_user() {
    Message user;
    user.content = dice_.text(10);
    conversation_.messages.push_back(std::move(user));
  }

  // The client: keeps what it was told and answers the calls.
  void receive(const OutputEvents& events, std::optional<SampledCalls> sampled, ReplayMap& map) {
    Message message;
    message.role = Role::kAssistant;
    std::vector<std::string> ids;
    for (const OutputEvent& event : events) {
      if (const auto* reasoning = std::get_if<ReasoningDelta>(&event)) message.reasoning_content += reasoning->text;
      if (const auto* text = std::get_if<TextDelta>(&event)) message.content += text->text;
      if (const auto* begin = std::get_if<ToolCallBegin>(&event)) {
        ids.push_back(fmt::format("call_{}", n_calls_++));
        message.tool_calls.push_back({.id = ids.back(), .name = begin->name, .arguments = {}});
      }
      if (const auto* end = std::get_if<ToolCallEnd>(&event)) {
        message.tool_calls.back().arguments = test::reformat_json(end->arguments, dice_);
      }
    }
    EXPECT_EQ(sampled.has_value(), !ids.empty());
    if (sampled) map.record(ids, std::move(*sampled));
    conversation_.messages.push_back(std::move(message));
    for (const std::string& id : ids) {
      Message result;
      result.role = Role::kTool;
      result.tool_call_id = id;
      result.content = dice_.text(10);
      conversation_.messages.push_back(std::move(result));
    }
    if (ids.empty() || dice_.one_in(3)) say_user();
  }

  Dice dice_;
  const bool thinks_;
  const bool samples_canonical_tokens_;
  Conversation conversation_;
  size_t n_calls_ = 0;
};

bool starts_with(const std::vector<int32_t>& all, const std::vector<int32_t>& prefix) {
  return all.size() >= prefix.size() && std::equal(prefix.begin(), prefix.end(), all.begin());
}

class ReplayTest : public testing::TestWithParam<bool> {};

TEST_P(ReplayTest, EveryPromptStartsWithTheTokensThatWereComputed) {
  size_t n_calls = 0;
  size_t n_canonical_differs = 0;
  for (uint64_t seed = 1; seed <= 300; ++seed) {
    ReplayMap map;
    ReplayMap other;
    Agent agent(seed, GetParam(), true);
    std::vector<int32_t> computed;
    for (int turn = 0; turn < 6; ++turn) {
      const std::vector<int32_t> prompt = agent.prompt(&map);
      ASSERT_TRUE(starts_with(prompt, computed)) << "seed " << seed << " turn " << turn << "\nprompt\n"
                                                 << spell(prompt) << "\ncomputed\n"
                                                 << spell(computed);
      if (!starts_with(agent.prompt(&other), computed)) ++n_canonical_differs;
      computed = agent.answer(prompt, map);
    }
    n_calls += agent.n_calls();
    const ReplayStatistics statistics = map.statistics();
    EXPECT_EQ(statistics.n_canonical, 0U);
    EXPECT_EQ(statistics.n_ids, agent.n_calls());
  }
  // The turns are worth the test.
  EXPECT_GT(n_calls, 1000U);
  EXPECT_GT(n_canonical_differs, 1000U);
}

// What was sampled in other tokens than the tokenizer's says the same at least; the session store compares that.
TEST_P(ReplayTest, EveryPromptSaysWhatWasComputedInOtherTokens) {
  for (uint64_t seed = 1000; seed < 1100; ++seed) {
    ReplayMap map;
    Agent agent(seed, GetParam(), false);
    std::vector<int32_t> computed;
    for (int turn = 0; turn < 6; ++turn) {
      const std::vector<int32_t> prompt = agent.prompt(&map);
      ASSERT_TRUE(spell(prompt).starts_with(spell(computed))) << "seed " << seed << " turn " << turn;
      computed = agent.answer(prompt, map);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Modes, ReplayTest, testing::Bool(),
                         [](const auto& mode) { return mode.param ? "Thinking" : "Chat"; });

}  // namespace
}  // namespace ds4
