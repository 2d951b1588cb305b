// Answers of random models under rules: whatever the logits, the answer is what the rules ask for.

#include "engine/answer_grammar.h"

#include <gtest/gtest.h>

#include "chat/python_json.h"
#include "constrain/json_validator.h"
#include "engine/engine_fixture.h"
#include "engine/rule_compiler.h"

namespace ds4 {
namespace {

using Json = nlohmann::ordered_json;
using test::RecordingSink;

constexpr const char* kWeather = R"({"type":"object","properties":{"city":{"type":"string","maxLength":12},)"
                                 R"("days":{"type":"integer","minimum":1,"maximum":14},)"
                                 R"("unit":{"anyOf":[{"type":"string","enum":["C","F"]},{"type":"null"}]},)"
                                 R"("tags":{"type":"array","items":{"type":"string","maxLength":4},"maxItems":2}},)"
                                 R"("required":["city","unit"],"additionalProperties":false})";
constexpr const char* kAnswer = R"({"type":"object","properties":{"ok":{"type":"boolean"},"n":{"type":"integer"}},)"
                                R"("required":["ok","n"],"additionalProperties":false})";

class AnswerGrammarTest : public testing::Test {
 protected:
  AnswerGrammarTest() {
    request_.prompt_tokens = test::some_tokens(5, 1);
    request_.sampling = {.temperature = 1.0F, .min_p = 0.0F, .seed = 1};
    request_.max_tokens = 500;
  }

  void use(OutputRules rules, bool tools_enabled) {
    request_.output.rules = std::move(rules);
    request_.output.tools_enabled = tools_enabled;
    auto compiled = compiler_.compile(request_.output.rules, tools_enabled);
    ASSERT_TRUE(compiled.ok()) << compiled.error().message;
    request_.grammar = compiled.take_value();
  }

  // Plays scheduler and model: every logit is random, with some tokens more likely than others.
  void run(uint64_t seed) {
    sink_ = std::make_shared<RecordingSink>();
    GenerateRequest request = request_;
    request.sink = sink_;
    request.sampling.seed = seed;
    Sequence sequence(std::move(request), SequenceContext{engine_.tokenizer.get(), 600, {.prompt_tokens = 0}, {}}, 1);
    sequence.start(engine_.cache->new_sequence().take_value());
    Xorshift64Star rng(seed);
    std::vector<float> logits(288);
    while (!sequence.is_done()) {
      for (float& logit : logits) logit = static_cast<float>(rng.next() % 1000) * 0.004F;
      for (const char c : std::string_view("\"}]</1 \n")) logits[token_of(c)] += 4.0F * rng.next_unit();
      logits[control(ControlToken::kDsml)] += dsml_bonus_;
      logits[control(ControlToken::kThinkEnd)] += 2.0F;
      const auto n = static_cast<int32_t>(sequence.pending_tokens(5).size());
      ASSERT_TRUE(sequence.kv().reserve(n).ok());
      sequence.kv().advance(n);
      sequence.on_step(logits);
    }
    ASSERT_EQ(sink_->last<Failed>(), nullptr);
    ASSERT_NE(sink_->last<Finished>(), nullptr);
    is_complete_ = sink_->last<Finished>()->reason != FinishReason::kLength;
    n_complete_ += is_complete_ ? 1 : 0;
  }

  size_t token_of(char c) const {
    return static_cast<size_t>(engine_.tokenizer->encode_text(std::string_view(&c, 1)).at(0));
  }
  size_t control(ControlToken token) const { return static_cast<size_t>(engine_.tokenizer->control_id(token).value()); }

  static void expect_fits(const std::string& text, const char* schema) {
    const Json value = Json::parse(text, nullptr, false);
    ASSERT_FALSE(value.is_discarded()) << text;
    const Json parsed = Json::parse(schema);
    EXPECT_EQ(test::schema_violation(parsed, value, parsed), "") << text;
  }

  test::TinyEngine engine_;
  RuleCompiler compiler_{*engine_.tokenizer};
  GenerateRequest request_;
  std::shared_ptr<RecordingSink> sink_;
  float dsml_bonus_ = 0.0F;
  bool is_complete_ = false;
  int n_complete_ = 0;
};

TEST_F(AnswerGrammarTest, AnAnswerFitsItsSchema) {
  for (const bool thinks : {false, true}) {
    request_.output.starts_in_thinking = thinks;
    use({.json_schema = kAnswer}, false);
    for (uint64_t seed = 1; seed <= 40; ++seed) {
      run(seed);
      if (is_complete_) expect_fits(sink_->text(), kAnswer);
    }
  }
  EXPECT_GT(n_complete_, 60);
}

TEST_F(AnswerGrammarTest, ARequiredCallIsMade) {
  const std::vector<ToolSignature> tools{{"weather", kWeather, true}, {"free", "{}", false}};
  for (const bool thinks : {false, true}) {
    request_.output.starts_in_thinking = thinks;
    use({.tools = tools, .tool_use = ToolUse::kRequired}, true);
    for (uint64_t seed = 1; seed <= 40; ++seed) {
      run(seed);
      EXPECT_EQ(sink_->text(), "");
      const auto begins = sink_->all<ToolCallBegin>();
      const auto ends = sink_->all<ToolCallEnd>();
      EXPECT_TRUE(!is_complete_ || !ends.empty());
      for (size_t i = 0; i < ends.size(); ++i) {
        ASSERT_TRUE(begins[i].name == "weather" || begins[i].name == "free") << begins[i].name;
        expect_fits(ends[i].arguments, begins[i].name == "weather" ? kWeather : R"({"type":"object"})");
      }
    }
  }
  EXPECT_GT(n_complete_, 40);
}

TEST_F(AnswerGrammarTest, ANamedCallIsThatToolsAndOnlyOne) {
  use({.tools = {{"a", "{}", false}, {"weather", kWeather, true}},
       .tool_use = ToolUse::kNamed,
       .tool_name = "weather",
       .parallel_calls = false},
      true);
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    run(seed);
    const auto begins = sink_->all<ToolCallBegin>();
    EXPECT_LE(begins.size(), 1U);
    for (const ToolCallBegin& begin : begins) EXPECT_EQ(begin.name, "weather");
    if (!is_complete_) continue;
    EXPECT_EQ(sink_->all<ToolCallEnd>().size(), 1U);
    EXPECT_EQ(sink_->last<Finished>()->reason, FinishReason::kToolCalls);
  }
  EXPECT_GT(n_complete_, 30);
}

TEST_F(AnswerGrammarTest, ACallThatTheModelOpensByItselfFitsToo) {
  dsml_bonus_ = 6.0F;
  use({.tools = {{"weather", kWeather, true}}}, true);
  size_t n_calls = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    run(seed);
    const auto ends = sink_->all<ToolCallEnd>();
    n_calls += ends.size();
    for (const ToolCallEnd& end : ends) expect_fits(end.arguments, kWeather);
    for (const ToolCallBegin& begin : sink_->all<ToolCallBegin>()) EXPECT_EQ(begin.name, "weather");
  }
  EXPECT_GT(n_calls, 10U);
}

TEST_F(AnswerGrammarTest, JsonOrACallWhereBothArePossible) {
  use({.tools = {{"weather", kWeather, true}}, .json_schema = kAnswer}, true);
  int n_texts = 0, n_calls = 0;
  for (uint64_t seed = 1; seed <= 60; ++seed) {
    run(seed);
    if (!is_complete_) continue;
    if (sink_->all<ToolCallEnd>().empty()) {
      expect_fits(sink_->text(), kAnswer);
      ++n_texts;
    } else {
      EXPECT_EQ(sink_->text(), "");
      ++n_calls;
    }
  }
  EXPECT_GT(n_texts, 0);
  EXPECT_GT(n_calls, 0);
}

TEST_F(AnswerGrammarTest, TheSameSeedGivesTheSameAnswer) {
  use({.json_schema = R"({"type":"object"})"}, false);
  run(5);
  const std::string first = sink_->text();
  run(6);
  EXPECT_NE(sink_->text(), first);
  run(5);
  EXPECT_EQ(sink_->text(), first);
}

TEST_F(AnswerGrammarTest, CompiledRulesAreKept) {
  const OutputRules rules{.json_schema = kAnswer};
  const auto first = compiler_.compile(rules, false).take_value();
  EXPECT_EQ(compiler_.compile(rules, false).take_value(), first);
  EXPECT_NE(compiler_.compile(rules, true).take_value(), first);
  EXPECT_EQ(compiler_.compile({}, false).take_value(), nullptr);
  EXPECT_NE(compiler_.compile({}, true).take_value(), nullptr);
}

TEST_F(AnswerGrammarTest, RulesThatCannotBeKeptAreNamed) {
  const auto error = [this](const OutputRules& rules, bool tools_enabled) {
    const auto compiled = compiler_.compile(rules, tools_enabled);
    return compiled.ok() ? std::string() : compiled.error().message;
  };
  EXPECT_NE(error({.tool_use = ToolUse::kRequired}, false).find("no tools"), std::string::npos);
  EXPECT_NE(error({.tool_use = ToolUse::kNamed, .tool_name = "x"}, true).find("'x'"), std::string::npos);
  EXPECT_NE(error({.tools = {{"t", R"({"type":"object","properties":{"a":{"not":{}}}})", true}}}, true)
                .find("tool 't': #/properties/a: the keyword 'not'"),
            std::string::npos);
  EXPECT_EQ(error({.tools = {{"t", R"({"properties":{"a":{"not":{}}}})", false}}}, true), "");
}

}  // namespace
}  // namespace ds4
