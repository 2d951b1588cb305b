#include "chat/sampled_calls.h"

#include <gtest/gtest.h>

#include "chat/markup.h"
#include "chat/output_parser.h"

namespace ds4 {
namespace {

const OutputParserOptions kTokens{.tools_enabled = true, .require_control_tokens = true};

// In pieces: "D" stands for the marker, "/" for </think>, "." for the end of sentence, all else is text.
std::optional<SampledCalls> sample(const OutputParserOptions& options, const std::vector<std::string>& pieces,
                                   bool hit_limit = false) {
  OutputParser parser(options);
  for (const std::string& piece : pieces) {
    if (piece == "D") {
      parser.push_control(ControlToken::kDsml);
    } else if (piece == "/") {
      parser.push_control(ControlToken::kThinkEnd);
    } else if (piece == ".") {
      parser.push_control(ControlToken::kEos);
    } else {
      parser.push_text(piece);
    }
  }
  parser.finish(hit_limit);
  return parser.take_sampled_calls();
}

std::string spell(const std::optional<SampledCalls>& sampled) {
  return sampled ? spell_controls(sampled->text) : "nothing";
}

TEST(SampledCallsTest, HasEveryByteFromTheSeparatorToTheClosersToken) {
  const auto sampled = sample(kTokens, {"Hi. \n", "\n", "\n<", "D", "tool_calls", "> ", "<", "D", "invoke name=\"f\"",
                                        ">", "</", "D", "invoke>", "\n</", "D", "tool_calls", ">\n\n", "ignored"});
  EXPECT_EQ(spell(sampled),
            "\n\n\n<｜DSML｜tool_calls> <｜DSML｜invoke name=\"f\"></｜DSML｜invoke>\n</｜DSML｜tool_calls>\n\n");
  EXPECT_FALSE(sampled->ends_reasoning);
}

TEST(SampledCallsTest, KnowsWhetherTheBlockEndedTheReasoning) {
  OutputParserOptions options = kTokens;
  options.starts_in_thinking = true;
  const std::vector<std::string> block{"\n<",       "D", "tool_calls><", "D", "invoke name=\"f\"></", "D",
                                       "invoke></", "D", "tool_calls>"};
  std::vector<std::string> pieces{"hm"};
  pieces.insert(pieces.end(), block.begin(), block.end());
  EXPECT_TRUE(sample(options, pieces)->ends_reasoning);
  pieces.insert(pieces.begin() + 1, "/");
  EXPECT_FALSE(sample(options, pieces)->ends_reasoning);
}

TEST(SampledCallsTest, IsThereOnlyWhenEveryCallWasPassedOn) {
  const std::vector<std::string> call{"<", "D", "tool_calls><", "D", "invoke name=\"f\"></", "D", "invoke>"};
  const auto then = [&call](std::vector<std::string> more, bool hit_limit = false) {
    more.insert(more.begin(), call.begin(), call.end());
    return sample(kTokens, more, hit_limit).has_value();
  };
  EXPECT_TRUE(then({"</", "D", "tool_calls>"}));
  EXPECT_TRUE(then({"."}));
  EXPECT_TRUE(then({"\n"}, true));
  EXPECT_FALSE(then({"\n<", "D", "invoke name=\"g\">", "."}));
  EXPECT_FALSE(then({"\n<", "D", "invoke name=\"g", "."}));
  EXPECT_FALSE(then({"\n<", "D", "parameter name=\"g\">", "."}));
  EXPECT_FALSE(sample(kTokens, {"<", "D", "tool_calls></", "D", "tool_calls>"}).has_value());
  EXPECT_FALSE(sample(kTokens, {"text", "."}).has_value());
}

TEST(SampledCallsTest, IsNotThereWhenMarkersWereSpelt) {
  OutputParserOptions options = kTokens;
  const std::string spelt = "<｜DSML｜tool_calls><｜DSML｜invoke name=\"f\"></｜DSML｜invoke></｜DSML｜tool_calls>";
  EXPECT_FALSE(sample(options, {spelt}).has_value());
  options.require_control_tokens = false;
  EXPECT_FALSE(sample(options, {spelt}).has_value());
}

// One call of "f" with these parameters.
SampledCalls calling_f(std::string_view parameters) {
  const Markup markup = token_markup();
  return {.text = markup.block_opener + markup.tag_opener + "invoke name=\"f\">" + std::string(parameters) +
                  markup.tag_closer + "invoke>" + markup.tag_closer + "tool_calls>"};
}

std::string parameter(std::string_view key, std::string_view value, bool is_string) {
  const Markup markup = token_markup();
  return markup.tag_opener + "parameter name=\"" + std::string(key) + "\" string=\"" + (is_string ? "true" : "false") +
         "\">" + std::string(value) + markup.parameter_closer;
}

bool says(const SampledCalls& sampled, std::string arguments) {
  const ToolCall call{.id = {}, .name = "f", .arguments = std::move(arguments)};
  return says_the_same(sampled, std::span(&call, 1));
}

TEST(SampledCallsTest, TakesJsonInAnySpelling) {
  const SampledCalls sampled = calling_f(parameter("a", "1.0", false) + parameter("b", "ä/\"", true) +
                                         parameter("c", "[{\"x\": 1, \"y\": null}, 2e3]", false));
  EXPECT_TRUE(says(sampled, R"({"a": 1.0, "b": "ä/\"", "c": [{"x": 1, "y": null}, 2e3]})"));
  EXPECT_TRUE(says(sampled, R"({"c":[{"y":null,"x":1.00},2000],"b":"\u00e4\/\u0022","a":1})"));
  EXPECT_FALSE(says(sampled, R"({"a": 1.0, "b": "ä/\"", "c": [2e3, {"x": 1, "y": null}]})"));
  EXPECT_FALSE(says(sampled, R"({"a": 1.0, "b": "ä/\"", "c": [{"x": 1}, 2e3]})"));
  EXPECT_FALSE(says(sampled, R"({"a": "1.0", "b": "ä/\"", "c": [{"x": 1, "y": null}, 2e3]})"));
  EXPECT_FALSE(says(sampled, R"({"a": 1.5, "b": "ä/\"", "c": [{"x": 1, "y": null}, 2e3]})"));
  EXPECT_FALSE(says(sampled, R"({"a": 1.0, "z": "ä/\"", "c": [{"x": 1, "y": null}, 2e3]})"));
  EXPECT_FALSE(says(sampled, "{}"));
  EXPECT_FALSE(says(sampled, "no JSON"));
}

TEST(SampledCallsTest, TakesRoundedIntegersForWhatTheyWere) {
  const SampledCalls sampled = calling_f(parameter("n", "12345678901234567890123", false));
  EXPECT_TRUE(says(sampled, R"({"n":1.2345678901234568e22})"));
  EXPECT_FALSE(says(sampled, R"({"n":1.2345678901e22})"));
  EXPECT_FALSE(says(calling_f(parameter("n", "true", false)), R"({"n":false})"));
}

TEST(SampledCallsTest, ComesBackFromStorage) {
  for (const bool ends_reasoning : {false, true}) {
    SampledCalls sampled = calling_f(parameter("a", "<think>\n", true));
    sampled.text.insert(0, "\n\n\n");
    sampled.ends_reasoning = ends_reasoning;
    const Result<SampledCalls> decoded = decode_sampled_calls(encode(sampled));
    ASSERT_TRUE(decoded.ok()) << decoded.error().message;
    EXPECT_EQ(decoded.value(), sampled);
  }
}

}  // namespace
}  // namespace ds4
