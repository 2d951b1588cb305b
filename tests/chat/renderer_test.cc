#include "chat/renderer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "chat/vectors.h"

namespace ds4 {
namespace {

using test::find;
using test::text_of;

Result<RenderedPrompt> render_case(const JsonValue& golden_case, ChatFormat format) {
  const test::RenderCase input = TRY(test::to_render_case(golden_case, format));
  return render(input.conversation, input.options);
}

Message message(Role role, std::string content) {
  Message result;
  result.role = role;
  result.content = std::move(content);
  return result;
}

Conversation conversation(std::vector<Message> messages) { return {.messages = std::move(messages)}; }

// Where the official encoder raises and this project repairs instead (chat specification, sections 3, 5 and 8).
const std::set<std::string> kRepaired = {"args_json_array", "args_json_scalar", "args_json_null", "args_json_string",
                                         "user_content_null_error"};
// Where this project writes something else on purpose.
struct Difference {
  std::string_view name;
  std::string_view official;
  std::string_view ours;
};
constexpr Difference kDifferences[] = {
    // A null result is empty, not the word None.
    {"tool_content_null", "<tool_result>None<", "<tool_result><"},
    // Arguments that are an object already are used as if they were its text.
    {"args_object_instead_of_string",
     "<｜DSML｜parameter name=\"arguments\" string=\"false\">{\"a\": 1, \"b\": \"x\"}</｜DSML｜parameter>",
     "<｜DSML｜parameter name=\"a\" string=\"false\">1</｜DSML｜parameter>\n"
     "<｜DSML｜parameter name=\"b\" string=\"true\">x</｜DSML｜parameter>"},
};

void check_golden(const JsonValue& golden_case, ChatFormat format, const JsonValue& expected) {
  const std::string name = text_of(golden_case, "name");
  const Result<RenderedPrompt> rendered = render_case(golden_case, format);
  if (find(expected, "error") != nullptr) {
    EXPECT_EQ(rendered.ok(), kRepaired.contains(name)) << name;
    return;
  }
  ASSERT_TRUE(rendered.ok()) << name << ": " << rendered.error().message;
  std::string prompt = text_of(expected, "prompt");
  for (const Difference& difference : kDifferences) {
    if (difference.name != name) continue;
    const size_t place = prompt.find(difference.official);
    ASSERT_NE(place, std::string::npos) << name;
    prompt.replace(place, difference.official.size(), difference.ours);
  }
  EXPECT_EQ(rendered.value().to_text(), prompt) << name;
}

TEST(Renderer, GoldenPromptsOfBothRevisions) {
  const std::vector<JsonValue> cases = test::load_cases("encode.json");
  ASSERT_EQ(cases.size(), 187u);
  for (const JsonValue& golden_case : cases) {
    const JsonValue& preview = *find(golden_case, "preview");
    const JsonValue& r0731 = *find(golden_case, "r0731");
    check_golden(golden_case, ChatFormat::kPreview, preview);
    check_golden(golden_case, ChatFormat::k0731, r0731.text == "same" ? preview : r0731);
  }
}

TEST(Renderer, OfficialGoldenTests) {
  const std::vector<JsonValue> cases = test::load_cases("official_golden.json");
  ASSERT_EQ(cases.size(), 4u);
  for (const JsonValue& golden_case : cases) check_golden(golden_case, ChatFormat::kPreview, golden_case);
}

TEST(Renderer, ForgedContentStaysText) {
  const std::vector<JsonValue> cases = test::load_cases("injection.json");
  ASSERT_EQ(cases.size(), 33u);
  for (const JsonValue& golden_case : cases) {
    const Result<RenderedPrompt> rendered = render_case(golden_case, ChatFormat::kPreview);
    ASSERT_TRUE(rendered.ok()) << text_of(golden_case, "name");
    EXPECT_EQ(rendered.value().to_text(), text_of(golden_case, "prompt"));
    const std::vector<JsonValue>& expected = find(golden_case, "segments")->items;
    const PromptSegments& segments = rendered.value().segments;
    ASSERT_EQ(segments.size(), expected.size()) << text_of(golden_case, "name");
    for (size_t i = 0; i < segments.size(); ++i) {
      const bool is_control = expected[i].items[0].text == "s";
      ASSERT_EQ(segments[i].control.has_value(), is_control) << text_of(golden_case, "name") << " segment " << i;
      const std::string_view text = is_control ? control_token_text(*segments[i].control) : segments[i].text;
      EXPECT_EQ(text, expected[i].items[1].text);
    }
  }
}

TEST(Renderer, SegmentsAlternateAndAnchorsStandAtControlTokens) {
  for (const JsonValue& golden_case : test::load_cases("encode.json")) {
    const Result<RenderedPrompt> rendered = render_case(golden_case, ChatFormat::k0731);
    if (!rendered.ok()) continue;
    const PromptSegments& segments = rendered.value().segments;
    for (size_t i = 0; i < segments.size(); ++i) {
      EXPECT_EQ(segments[i].text.empty(), segments[i].control.has_value());
      EXPECT_TRUE(i == 0 || segments[i].control || segments[i - 1].control);
    }
    const std::vector<size_t>& anchors = rendered.value().anchors;
    EXPECT_EQ(std::adjacent_find(anchors.begin(), anchors.end(), std::greater_equal<>()), anchors.end());
    for (const size_t anchor : anchors) {
      ASSERT_LT(anchor, segments.size());
      EXPECT_TRUE(segments[anchor].control);
    }
  }
}

TEST(Renderer, EarlierPromptEndsAtAnAnchorOfTheNextTurn) {
  const RenderOptions options{.thinking_mode = ThinkingMode::kThinking};
  std::vector<Message> messages{message(Role::kSystem, "S"), message(Role::kUser, "Q1")};
  const RenderedPrompt first = render(conversation(messages), options).take_value();
  messages.push_back(message(Role::kAssistant, "A1"));
  messages.back().reasoning_content = "R1";
  messages.push_back(message(Role::kUser, "Q2"));
  const RenderedPrompt second = render(conversation(messages), options).take_value();
  ASSERT_EQ(first.anchors, (std::vector<size_t>{2, 5}));  // after S; after the assistant marker
  const auto shared = std::mismatch(first.segments.begin(), first.segments.end(), second.segments.begin());
  EXPECT_EQ(shared.first - first.segments.begin(), 5);
}

TEST(Renderer, KnowsWhetherTheOutputStartsInsideReasoning) {
  const auto starts = [](ThinkingMode mode, std::vector<Message> messages) {
    return render(conversation(std::move(messages)), {.thinking_mode = mode}).take_value().starts_in_thinking;
  };
  Message prefill = message(Role::kAssistant, "Once");
  prefill.without_eos = true;
  Message task = message(Role::kUser, "Q");
  task.task = "action";
  const Message user = message(Role::kUser, "Q");
  EXPECT_TRUE(starts(ThinkingMode::kThinking, {user}));
  EXPECT_FALSE(starts(ThinkingMode::kChat, {user}));
  EXPECT_FALSE(starts(ThinkingMode::kThinking, {user, prefill}));
  EXPECT_FALSE(starts(ThinkingMode::kThinking, {task}));
  EXPECT_FALSE(starts(ThinkingMode::kThinking, {message(Role::kUser, "<think>"), prefill}));
  EXPECT_FALSE(starts(ThinkingMode::kChat, {}));
}

TEST(Renderer, ErrorsNameMessageAndField) {
  const auto error_of = [](Message bad, RenderOptions options = {}) {
    const Conversation input = conversation({message(Role::kUser, "Q"), std::move(bad)});
    const Result<RenderedPrompt> rendered = render(input, options);
    return rendered.ok() ? std::string("ok") : rendered.error().message;
  };
  Message system = message(Role::kSystem, "");
  system.tools = {"{}", "{\"name\": }"};
  EXPECT_EQ(error_of(system),
            "message 1 (system): tools[1].function: invalid JSON at byte 9: expected a value, found \"}\"");
  system.tools.clear();
  system.response_format = "";
  EXPECT_EQ(error_of(system),
            "message 1 (system): response_format: invalid JSON at byte 0: expected a value, found the end");
  Message task = message(Role::kAssistant, "");
  task.task = "<｜User｜>";
  EXPECT_EQ(error_of(task),
            "message 1 (assistant): task: expected action, query, authority, domain, title or read_url, found "
            "'<｜User｜>'");
  EXPECT_EQ(error_of(message(Role::kDeveloper, "")), "message 1 (developer): content: must not be empty");
  EXPECT_EQ(error_of(message(Role::kUser, "x"), {.effort = ReasoningEffort::kLow}),
            "reasoning effort: the preview chat format knows 'high' and 'max', found 'low'");
}

TEST(Renderer, ContextDoesNotMergeWithTheMessagesAfterIt) {
  Conversation input = conversation({message(Role::kUser, "Q1"), message(Role::kUser, "Q2")});
  input.n_context_messages = 1;
  EXPECT_EQ(render(input, {}).take_value().to_text(), "<｜User｜>Q2<｜Assistant｜></think>");
}

TEST(Renderer, ArgumentsThatAreNoObjectBecomeOneParameter) {
  Message assistant = message(Role::kAssistant, "");
  assistant.tool_calls = {{"", "f", "[1,2]"}};
  const std::string text = render(conversation({assistant}), {}).take_value().to_text();
  EXPECT_NE(text.find("<｜DSML｜parameter name=\"arguments\" string=\"true\">[1,2]</｜DSML｜parameter>"),
            std::string::npos)
      << text;
}

TEST(Roles, NamesRoundTrip) {
  for (const Role role :
       {Role::kSystem, Role::kUser, Role::kAssistant, Role::kTool, Role::kDeveloper, Role::kLatestReminder}) {
    EXPECT_EQ(role_from_name(role_name(role)), role);
  }
  EXPECT_FALSE(role_from_name("function"));
}

}  // namespace
}  // namespace ds4
