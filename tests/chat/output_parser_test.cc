#include "chat/output_parser.h"

#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "base/utf8.h"
#include "chat/parsed_output.h"
#include "chat/python_json.h"
#include "chat/vectors.h"

namespace ds4 {
namespace {

using test::Call;
using test::find;
using test::invoke;
using test::kBlock;
using test::kBlockEnd;
using test::Output;
using test::parameter;
using test::parse;
using test::parse_content;
using test::parse_whole;
using test::Stream;
using test::text_of;

Stream stream_of(const JsonValue& golden_case) {
  constexpr std::string_view kEos = control_token_text(ControlToken::kEos);
  Stream stream{text_of(golden_case, "text"), false};
  if (stream.text.ends_with(kEos)) stream = {stream.text.substr(0, stream.text.size() - kEos.size()), true};
  return stream;
}

OutputParserOptions options_of(const JsonValue& golden_case) {
  return {.starts_in_thinking = text_of(golden_case, "thinking") == "true", .tools_enabled = true};
}

std::string_view finish_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop: return "stop";
    case FinishReason::kLength: return "length";
    case FinishReason::kToolCalls: return "tool_calls";
    case FinishReason::kCancelled: return "cancelled";
  }
  return "";
}

void expect_calls(const Output& output, const JsonValue& expected, const std::string& name) {
  const std::vector<JsonValue>& golden_calls = find(expected, "tool_calls")->items;
  const std::vector<Call> calls = output.complete_calls();
  ASSERT_EQ(calls.size(), golden_calls.size()) << name;
  for (size_t i = 0; i < calls.size(); ++i) {
    EXPECT_EQ(calls[i].name, text_of(golden_calls[i], "name")) << name;
    EXPECT_EQ(*calls[i].arguments, text_of(golden_calls[i], "arguments")) << name;
  }
}

// A block without any call is text here, where the vectors lose it.
std::string expected_content(const JsonValue& expected, const std::string& name) {
  if (name != "invoke_without_name") return text_of(expected, "content");
  return "\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke>\n<｜DSML｜parameter name=\"a\" "
         "string=\"true\">x</｜DSML｜parameter>\n"
         "</｜DSML｜invoke>\n</｜DSML｜tool_calls>";
}

void expect_golden(const Output& output, const JsonValue& expected, const std::string& name) {
  EXPECT_EQ(output.reasoning, text_of(expected, "reasoning")) << name;
  EXPECT_EQ(output.content, expected_content(expected, name)) << name;
  expect_calls(output, expected, name);
  if (find(expected, "finish") != nullptr) {
    EXPECT_EQ(finish_name(output.finish), text_of(expected, "finish")) << name;
  }
}

class ParseGolden : public testing::Test {
 protected:
  std::vector<JsonValue> cases_ = test::load_cases("parse.json");
};

TEST_F(ParseGolden, TolerantResults) {
  ASSERT_EQ(cases_.size(), 65u);
  for (const JsonValue& golden_case : cases_) {
    const Output output = parse_whole(options_of(golden_case), stream_of(golden_case));
    expect_golden(output, *find(golden_case, "tolerant"), text_of(golden_case, "name"));
  }
}

TEST_F(ParseGolden, BlocksInReasoningStayTextWhenAsked) {
  for (const JsonValue& golden_case : cases_) {
    OutputParserOptions options = options_of(golden_case);
    options.dsml_ends_reasoning = false;
    const JsonValue* expected = find(golden_case, "tolerant_ignore_in_reasoning");
    if (expected == nullptr) expected = find(golden_case, "tolerant");
    expect_golden(parse_whole(options, stream_of(golden_case)), *expected, text_of(golden_case, "name"));
  }
}

TEST_F(ParseGolden, WellFormedOutputGivesTheOfficialResult) {
  size_t n_compared = 0;
  for (const JsonValue& golden_case : cases_) {
    const JsonValue& strict = *find(golden_case, "strict");
    const bool is_plain =
        find(golden_case, "tags")->items.empty() || text_of(golden_case, "name") == "arguments_wrapper";
    if (!is_plain || find(strict, "error") != nullptr) continue;
    expect_golden(parse_whole(options_of(golden_case), stream_of(golden_case)), strict, text_of(golden_case, "name"));
    ++n_compared;
  }
  EXPECT_GE(n_compared, 20u);
}

TEST_F(ParseGolden, AnyChunkingGivesTheSameTotals) {
  std::mt19937 random(11);
  for (const JsonValue& golden_case : cases_) {
    for (const bool in_reasoning : {true, false}) {
      OutputParserOptions options = options_of(golden_case);
      options.dsml_ends_reasoning = in_reasoning;
      options.stop_strings = {"never there", "x y z"};
      const Stream stream = stream_of(golden_case);
      const Output whole = parse_whole(options, stream);
      EXPECT_EQ(parse(options, stream, [] { return size_t{1}; }), whole) << text_of(golden_case, "name");
      for (int i = 0; i < 30; ++i) {
        EXPECT_EQ(parse(options, stream, [&] { return size_t{1} + random() % 12; }), whole);
      }
    }
  }
}

TEST_F(ParseGolden, EveryPrefixShowsAPrefixOfTheResult) {
  for (const JsonValue& golden_case : cases_) {
    const Stream stream = stream_of(golden_case);
    const Output whole = parse_whole(options_of(golden_case), stream);
    OutputParser parser(options_of(golden_case));
    Output so_far;
    for (const char byte : stream.text) {
      so_far.add(parser.push_text({&byte, 1}));
      ASSERT_TRUE(whole.reasoning.starts_with(so_far.reasoning)) << text_of(golden_case, "name");
      ASSERT_TRUE(whole.content.starts_with(so_far.content)) << text_of(golden_case, "name");
    }
  }
}

TEST_F(ParseGolden, StreamedFragmentsAreTheArguments) {
  for (const JsonValue& golden_case : cases_) {
    const Output output = parse_whole(options_of(golden_case), stream_of(golden_case));
    for (const Call& call : output.complete_calls()) {
      if (text_of(golden_case, "name") == "duplicate_param") {
        EXPECT_EQ(call.streamed, "{\"a\": \"1\", \"a\": \"2\"}");
        EXPECT_EQ(dump_json(parse_json(call.streamed).value()), *call.arguments);
      } else {
        EXPECT_EQ(call.streamed, *call.arguments) << text_of(golden_case, "name");
      }
    }
  }
}

// How many bytes of a buffer come out at once, as raw bytes.
size_t emitted_bytes(const JsonValue& golden_case, std::string_view buffer) {
  const std::string mode = text_of(golden_case, "mode");
  OutputParser parser(
      {.starts_in_thinking = mode == "reasoning", .tools_enabled = text_of(golden_case, "has_tools") == "true"});
  const std::string before = fmt::format("{}<｜DSML｜invoke name=\"f\"><｜DSML｜parameter name=\"k\">", kBlock);
  (void)parser.push_text(mode == "param" ? before : mode == "reasoning" ? "x" : "");
  Output output;
  for (const OutputEvent& event : parser.push_text(buffer)) {
    if (const auto* delta = std::get_if<ToolCallArgumentsDelta>(&event)) {
      return parse_json("\"" + delta->json_fragment + "\"").value().text.size();
    }
    output.add({event});
  }
  return output.reasoning.size() + output.content.size();
}

TEST(HoldBack, GoldenCases) {
  const std::vector<JsonValue> cases = test::load_cases("holdback.json");
  ASSERT_EQ(cases.size(), 115u);
  for (const JsonValue& golden_case : cases) {
    const std::string hex = text_of(golden_case, "buffer_hex");
    std::string buffer;
    for (size_t i = 0; i < hex.size(); i += 2) buffer += static_cast<char>(std::stoi(hex.substr(i, 2), nullptr, 16));
    EXPECT_EQ(std::to_string(emitted_bytes(golden_case, buffer)), text_of(golden_case, "emit_bytes"))
        << text_of(golden_case, "mode") << " " << text_of(golden_case, "has_tools") << " " << buffer;
  }
}

TEST(HoldBack, StartOfReasoningWaitsForARepeatedThink) {
  OutputParser parser({.starts_in_thinking = true});
  EXPECT_TRUE(parser.push_text("<th").empty());
  EXPECT_EQ(parser.push_text("is"), (OutputEvents{ReasoningDelta{"<this"}}));
}

TEST(StopStrings, EndTheContentAndAreNotShown) {
  const Output output = parse_content("one two three", {"two"});
  EXPECT_EQ(output.content, "one ");
  EXPECT_EQ(output.finish, FinishReason::kStop);
  EXPECT_EQ(parse_content("abc", {"c", "bc", "abc"}).content, "");
  EXPECT_EQ(parse_content("abc", {"abcd", "b"}).content, "a");
  EXPECT_EQ(parse_content("abab", {"abc", ""}).content, "abab");
}

TEST(StopStrings, AreNotSearchedInReasoningOrCalls) {
  const std::string call = invoke("f", parameter("a", "stop"));
  const Output output = parse_whole({.starts_in_thinking = true, .tools_enabled = true, .stop_strings = {"stop"}},
                                    {fmt::format("stop</think>go{}{}{}", kBlock, call, kBlockEnd)});
  EXPECT_EQ(output.reasoning, "stop");
  EXPECT_EQ(output.content, "go");
  ASSERT_EQ(output.calls.size(), 1u);
  EXPECT_EQ(output.calls[0].arguments, "{\"a\": \"stop\"}");
}

TEST(StopStrings, BeforeABlockPreventTheCalls) {
  const Output output = parse_content(fmt::format("a STOP\n\n{}{}{}", kBlock, invoke("f", ""), kBlockEnd), {"STOP"});
  EXPECT_EQ(output.content, "a ");
  EXPECT_TRUE(output.calls.empty());
}

TEST(StopStrings, HoldBackNoMoreThanTheirBeginning) {
  OutputParser parser({.stop_strings = {"END", "\n\n"}});
  EXPECT_EQ(parser.push_text("text E"), (OutputEvents{TextDelta{"text "}}));
  EXPECT_EQ(parser.push_text("N"), OutputEvents{});
  EXPECT_EQ(parser.push_text("T"), (OutputEvents{TextDelta{"ENT"}}));
  EXPECT_EQ(parser.push_text("\n"), OutputEvents{});
  EXPECT_FALSE(parser.done());
  EXPECT_EQ(parser.push_text("\n"), OutputEvents{});
  EXPECT_TRUE(parser.done());
  EXPECT_EQ(parser.push_text("more"), OutputEvents{});
  EXPECT_EQ(parser.finish(true), OutputEvents{});
  EXPECT_EQ(parser.finish_reason(), FinishReason::kStop);
  EXPECT_EQ(parser.matched_stop_string(), "\n\n");
}

TEST(StopStrings, TheOneThatEndsFirstIsTold) {
  OutputParser parser({.stop_strings = {"never", "bcd", "cd", "ef"}});
  (void)parser.push_text("abcdef");
  (void)parser.finish(false);
  EXPECT_EQ(parser.matched_stop_string(), "bcd") << "of two that end together, the longer";
  OutputParser without({.stop_strings = {"never"}});
  (void)without.push_text("abcdef");
  (void)without.finish(false);
  EXPECT_EQ(without.matched_stop_string(), "");
}

TEST(StopStrings, AnyChunkingGivesTheSameTotals) {
  std::mt19937 random(5);
  for (int round = 0; round < 2000; ++round) {
    const auto letters = [&random](size_t n) {
      std::string text;
      for (size_t i = 0; i < n; ++i) text += "ab\n"[random() % 3];
      return text;
    };
    OutputParserOptions options{.tools_enabled = round % 2 == 0};
    for (int i = 0; i < 3; ++i) options.stop_strings.push_back(letters(1 + random() % 5));
    const Stream stream{letters(random() % 20), round % 3 == 0};
    const Output whole = parse_whole(options, stream);
    ASSERT_EQ(parse(options, stream, [] { return size_t{1}; }), whole) << stream.text;
    ASSERT_EQ(parse(options, stream, [&] { return size_t{1} + random() % 4; }), whole) << stream.text;
  }
}

TEST(ControlTokens, QuotedMarkupStaysTextWhenTokensAreRequired) {
  OutputParser parser({.starts_in_thinking = true, .tools_enabled = true, .require_control_tokens = true});
  Output output;
  output.add(parser.push_text("</think> and <｜DSML｜tool_calls>"));
  EXPECT_TRUE(parser.in_reasoning());
  output.add(parser.push_control(ControlToken::kThinkEnd));
  EXPECT_FALSE(parser.in_reasoning());
  output.add(parser.push_text("say </think><｜DSML｜tool_calls>\n\n<"));
  output.add(parser.push_control(ControlToken::kDsml));
  output.add(parser.push_text("tool_calls>\n<"));
  output.add(parser.push_control(ControlToken::kDsml));
  output.add(parser.push_text("invoke name=\"f\">\n<"));
  output.add(parser.push_control(ControlToken::kDsml));
  output.add(parser.push_text("parameter name=\"a\" string=\"true\">"));
  output.add(parser.push_text("x</｜DSML｜parameter>"));
  output.add(parser.push_control(ControlToken::kDsml));
  output.add(parser.push_text("y</"));
  output.add(parser.push_control(ControlToken::kDsml));
  output.add(parser.push_text("parameter>\n</"));
  output.add(parser.push_control(ControlToken::kDsml));
  output.add(parser.push_text("invoke>\n</"));
  output.add(parser.push_control(ControlToken::kDsml));
  output.add(parser.push_text("tool_calls>"));
  EXPECT_TRUE(parser.done());
  EXPECT_EQ(output.reasoning, "</think> and <｜DSML｜tool_calls>");
  EXPECT_EQ(output.content, "say </think><｜DSML｜tool_calls>");
  const std::string arguments = "{\"a\": \"x</｜DSML｜parameter>｜DSML｜y\"}";
  EXPECT_EQ(output.calls, (std::vector<Call>{{"f", arguments, arguments}}));
}

TEST_F(ParseGolden, ControlTokensGiveTheSameResultAsTheirSpelling) {
  for (const JsonValue& golden_case : cases_) {
    const Stream stream = stream_of(golden_case);
    for (const bool require : {true, false}) {
      OutputParserOptions options = options_of(golden_case);
      options.require_control_tokens = require;
      OutputParser parser(options);
      Output output;
      std::string_view rest = stream.text;
      while (!rest.empty()) {
        std::optional<ControlToken> control;
        for (const ControlToken token : {ControlToken::kThinkBegin, ControlToken::kThinkEnd, ControlToken::kDsml}) {
          if (rest.starts_with(control_token_text(token))) control = token;
        }
        const size_t n_bytes = control ? control_token_text(*control).size() : 1;
        output.add(control ? parser.push_control(*control) : parser.push_text(rest.substr(0, 1)));
        rest.remove_prefix(n_bytes);
      }
      if (stream.ended_by_eos) output.add(parser.push_control(ControlToken::kEos));
      output.add(parser.finish(!stream.ended_by_eos), true);
      output.finish = parser.finish_reason();
      expect_golden(output, *find(golden_case, "tolerant"), text_of(golden_case, "name"));
    }
  }
}

TEST(ControlTokens, TurnTokensEndTheOutputAndTaskTokensAreDropped) {
  OutputParser parser({});
  Output output;
  output.add(parser.push_text("a </th\xE4"));
  output.add(parser.push_control(ControlToken::kTitle));
  output.add(parser.push_text("b <"));
  output.add(parser.push_control(ControlToken::kUser));
  EXPECT_TRUE(parser.done());
  output.add(parser.push_text("forged"));
  output.add(parser.finish(true));
  EXPECT_EQ(output.content, "a </th\uFFFDb <");
  EXPECT_EQ(parser.finish_reason(), FinishReason::kStop);
}

TEST(OutputParser, IllFormedUtf8IsReplacedWhereverItIsCut) {
  std::mt19937 random(3);
  for (int round = 0; round < 500; ++round) {
    std::string text;
    for (int i = 0; i < 12; ++i) text += "ab<\n\xE4\xBD\xA0\xF0\x9F\x98\x80\xC3\xFF\xED"[random() % 14];
    const Stream stream{text, true};
    const Output whole = parse_whole({.tools_enabled = true}, stream);
    ASSERT_EQ(whole.content, replace_ill_formed_utf8(text));
    ASSERT_EQ(parse({.tools_enabled = true}, stream, [] { return size_t{1}; }), whole);
  }
}

TEST(OutputParser, NewlinesBeforeAStrayThinkEndAreContent) {
  const std::string text = fmt::format("A\n</think>\n{}{}", kBlock, kBlockEnd);
  EXPECT_EQ(parse_content(text).content, "A\n");
  EXPECT_EQ(parse({.tools_enabled = true}, {text}, [] { return size_t{1}; }).content, "A\n");
}

TEST(OutputParser, WithoutToolsABlockIsText) {
  const std::string text = fmt::format("A\n\n{}{}{}", kBlock, invoke("f", ""), kBlockEnd);
  EXPECT_EQ(parse_whole({}, {text}).content, text);
}

TEST(DsmlParser, BrokenTagsAreSkipped) {
  const std::string inside = "<｜DSML｜invoke name=\"broken\n" + invoke("f", parameter("a", "1")) + "<｜DSML｜note>" +
                             "<｜DSML｜invoke name=\"\">" + parameter("b", "2") + "</｜DSML｜parameter>";
  const Output output = parse_content(fmt::format("{}{}{}", kBlock, inside, kBlockEnd));
  ASSERT_EQ(output.calls.size(), 1u);
  EXPECT_EQ(output.calls[0].name, "f");
  EXPECT_EQ(output.calls[0].arguments, "{\"a\": \"1\"}");
}

TEST(DsmlParser, EndlessTagIsGivenUp) {
  const std::string text =
      fmt::format("{}<｜DSML｜invoke name=\"{}{}{}", kBlock, std::string(10000, 'x'), invoke("f", ""), kBlockEnd);
  const Output whole = parse_content(text);
  ASSERT_EQ(whole.calls.size(), 1u);
  EXPECT_EQ(whole.calls[0].name, "f");
  EXPECT_EQ(parse({.tools_enabled = true}, {text}, [] { return size_t{7}; }), whole);
}

TEST(DsmlParser, QuotedAngleBracketAndSpacedAttributes) {
  const std::string inside =
      "<｜DSML｜parameter string = \"false\"  name = \"a>b\" >[1]</｜DSML｜parameter><｜DSML｜parameter x=\"name=\">z"
      "</｜DSML｜parameter>";
  const Output output = parse_content(fmt::format("{}{}{}", kBlock, invoke("f", inside), kBlockEnd));
  ASSERT_EQ(output.calls.size(), 1u);
  EXPECT_EQ(output.calls[0].arguments, "{\"a>b\": [1]}");
}

TEST(DsmlParser, StringValuesStreamOthersWait) {
  OutputParser parser({.tools_enabled = true});
  (void)parser.push_text(std::string(kBlock) + "<｜DSML｜invoke name=\"f\">");
  EXPECT_EQ(parser.push_text("<｜DSML｜parameter name=\"a\" string=\"true\">li"),
            (OutputEvents{ToolCallBegin{0, "f"}, ToolCallArgumentsDelta{0, "{\"a\": \"li"}}));
  EXPECT_EQ(parser.push_text("ne\n\xE4\xBD"), (OutputEvents{ToolCallArgumentsDelta{0, "ne\\n"}}));
  EXPECT_EQ(parser.push_text("\xA0</｜DSML｜parameter>"), (OutputEvents{ToolCallArgumentsDelta{0, "你\""}}));
  EXPECT_EQ(parser.push_text("<｜DSML｜parameter name=\"b\" string=\"false\">{\"x\":"), OutputEvents{});
  EXPECT_EQ(parser.push_text(" 1.50}</｜DSML｜parameter>"),
            (OutputEvents{ToolCallArgumentsDelta{0, ", \"b\": {\"x\": 1.50}"}}));
  EXPECT_EQ(
      parser.push_text("</｜DSML｜invoke>"),
      (OutputEvents{ToolCallArgumentsDelta{0, "}"}, ToolCallEnd{0, "{\"a\": \"line\\n你\", \"b\": {\"x\": 1.50}}"}}));
}

TEST(DsmlParser, RepeatedParameterKeepsPlaceAndTakesLastValue) {
  const std::string inside = parameter("a", "1", false) + parameter("b", "2") + parameter("a", "NaN", false);
  const Output output = parse_content(fmt::format("{}{}{}", kBlock, invoke("f", inside), kBlockEnd));
  ASSERT_EQ(output.calls.size(), 1u);
  EXPECT_EQ(output.calls[0].arguments, "{\"a\": \"NaN\", \"b\": \"2\"}");
  EXPECT_EQ(dump_json(parse_json(output.calls[0].streamed).value()), *output.calls[0].arguments);
}

// Random sequences of markup and text: the events must not depend on the cuts, and the stream must be the result.
TEST(DsmlParser, RandomMarkupIsCutInvariant) {
  const std::vector<std::string> pieces{"<｜DSML｜",
                                        "</｜DSML｜",
                                        "tool_calls>",
                                        "invoke",
                                        "parameter",
                                        " name=\"a\"",
                                        " name=\"b\"",
                                        " string=\"false\"",
                                        ">",
                                        "<",
                                        "\"",
                                        "\n",
                                        "1",
                                        "{}",
                                        "é",
                                        "</think>",
                                        "<think>",
                                        "</｜DSML｜parameter>",
                                        "</｜DSML｜invoke>",
                                        "<｜DSML｜invoke name=\"f\">",
                                        "<｜DSML｜parameter name=\"k\">",
                                        "\xF0\x9F"};
  std::mt19937 random(17);
  for (int round = 0; round < 3000; ++round) {
    Stream stream{random() % 2 ? std::string(kBlock) : "", random() % 2 == 0};
    for (size_t i = random() % 25; i > 0; --i) stream.text += pieces[random() % pieces.size()];
    const OutputParserOptions options{.starts_in_thinking = random() % 3 == 0, .tools_enabled = true};
    const Output whole = parse_whole(options, stream);
    ASSERT_EQ(parse(options, stream, [] { return size_t{1}; }), whole) << stream.text;
    ASSERT_EQ(parse(options, stream, [&] { return size_t{1} + random() % 9; }), whole) << stream.text;
    for (const Call& call : whole.complete_calls()) {
      ASSERT_TRUE(parse_json(*call.arguments, JsonDialect::kStandard).ok()) << *call.arguments;
      ASSERT_EQ(dump_json(parse_json(call.streamed).value()), dump_json(parse_json(*call.arguments).value()));
    }
  }
}

TEST(OutputParserTest, TellsWhetherItStandsInABlockOrMayBe) {
  OutputParser parser({.tools_enabled = true, .require_control_tokens = true});
  parser.push_text("a <b");
  EXPECT_EQ(parser.pending_block_bytes(), 0U);
  parser.push_text(" <");
  EXPECT_EQ(parser.pending_block_bytes(), 1U);
  parser.push_control(ControlToken::kDsml);
  EXPECT_EQ(parser.pending_block_bytes(), 2U);
  parser.push_text("tool");
  EXPECT_EQ(parser.pending_block_bytes(), 6U);
  EXPECT_FALSE(parser.in_block());
  parser.push_text("_calls>");
  EXPECT_EQ(parser.pending_block_bytes(), 0U);
  EXPECT_TRUE(parser.in_block());

  OutputParser without_tools({.require_control_tokens = true});
  without_tools.push_text("<");
  without_tools.push_control(ControlToken::kDsml);
  EXPECT_EQ(without_tools.pending_block_bytes(), 0U);
}

}  // namespace
}  // namespace ds4
