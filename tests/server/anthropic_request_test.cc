#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "chat/renderer.h"
#include "server/anthropic_messages.h"
#include "server/anthropic_signature.h"

namespace ds4 {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

ServedModel served() { return {.id = "ds4-mini", .name = "ds4-mini", .ctx_tokens = 4096, .default_max_tokens = 1000}; }

MessagesRequest parse_ok(std::string_view body) {
  auto parsed = parse_messages_request(std::string(body), served());
  if (const auto* error = std::get_if<ApiError>(&parsed)) {
    ADD_FAILURE() << error->message;
    return {};
  }
  return std::get<MessagesRequest>(std::move(parsed));
}

ApiError parse_error(std::string_view body) {
  auto parsed = parse_messages_request(std::string(body), served());
  if (const auto* error = std::get_if<ApiError>(&parsed)) return *error;
  ADD_FAILURE() << "accepted: " << body;
  return {};
}

// A request with one user message and these other fields.
std::string with(std::string_view fields) {
  return fmt::format(R"({{"messages":[{{"role":"user","content":"hi"}}]{}{}}})", fields.empty() ? "" : ",", fields);
}

std::string with_messages(std::string_view messages) { return fmt::format(R"({{"messages":[{}]}})", messages); }

// A round with one call, and this block as its answer.
std::string with_result(std::string_view block) {
  return with_messages(fmt::format(
      R"({{"role":"user","content":"q"}},
         {{"role":"assistant","content":[{{"type":"tool_use","id":"t1","name":"f","input":{{}}}}]}},
         {{"role":"user","content":[{}]}})",
      block));
}

constexpr std::string_view kTool = R"({"name":"f","description":"d","input_schema":{"type":"object"}})";

TEST(AnthropicRequestTest, FillsInTheDefaults) {
  const MessagesRequest request = parse_ok(with(""));
  EXPECT_EQ(request.model, "ds4-mini");
  EXPECT_EQ(request.max_tokens, 1000);
  EXPECT_EQ(request.sampling.temperature, 1.0F);
  EXPECT_FALSE(request.stream);
  EXPECT_FALSE(request.omits_thinking);
  EXPECT_EQ(request.render.thinking_mode, ThinkingMode::kThinking);
  EXPECT_EQ(request.rules.tool_use, ToolUse::kFree);
  EXPECT_TRUE(request.rules.parallel_calls);
  EXPECT_EQ(request.rules.max_reasoning_tokens, kUnlimitedTokens);
  ASSERT_THAT(request.conversation.messages, SizeIs(1));
  EXPECT_EQ(request.conversation.messages[0].content, "hi");
}

TEST(AnthropicRequestTest, ReadsEveryField) {
  const MessagesRequest request = parse_ok(with(
      R"("model":"m","max_tokens":5,"temperature":0,"top_p":0.5,"top_k":40,"seed":3,"stop_sequences":["a","","b"],
         "stream":true,"thinking":{"type":"enabled","budget_tokens":1024,"display":"omitted"},
         "output_config":{"effort":"max"},"metadata":{"user_id":"u"},"service_tier":"auto",
         "context_management":{"edits":[{"type":"clear_thinking_20251015","keep":"all"}]},"unknown":[1])"));
  EXPECT_EQ(request.model, "m");
  EXPECT_EQ(request.max_tokens, 5);
  EXPECT_EQ(request.sampling.temperature, 0.0F);
  EXPECT_EQ(request.sampling.top_p, 0.5F);
  EXPECT_EQ(request.sampling.top_k, 40);
  EXPECT_EQ(request.sampling.seed, 3U);
  EXPECT_THAT(request.stop_strings, ElementsAre("a", "b"));
  EXPECT_TRUE(request.stream);
  EXPECT_TRUE(request.omits_thinking);
  EXPECT_EQ(request.rules.max_reasoning_tokens, 1024);
  EXPECT_EQ(request.render.effort, ReasoningEffort::kMax);
}

TEST(AnthropicRequestTest, TakesNullForAbsent) {
  const MessagesRequest request = parse_ok(with(
      R"("model":null,"max_tokens":null,"system":null,"tools":null,"tool_choice":null,"thinking":null,"stream":null,
         "output_config":null,"output_format":null,"stop_sequences":null,"mcp_servers":null,"temperature":null)"));
  EXPECT_EQ(request.model, "ds4-mini");
  EXPECT_THAT(request.conversation.messages, SizeIs(1));
}

TEST(AnthropicRequestTest, DecidesWhetherToThink) {
  const auto thinks = [](std::string_view fields) {
    return parse_ok(with(fields)).render.thinking_mode == ThinkingMode::kThinking;
  };
  EXPECT_TRUE(thinks(R"("thinking":{"type":"enabled","budget_tokens":2000})"));
  EXPECT_TRUE(thinks(R"("thinking":{"type":"adaptive"})"));
  EXPECT_TRUE(thinks(R"("thinking":{"type":"adaptive","display":"omitted"},"output_config":{"effort":"high"})"));
  EXPECT_FALSE(thinks(R"("thinking":{"type":"disabled"})"));
  EXPECT_FALSE(thinks(R"("thinking":{"type":"disabled"},"output_config":{"effort":"high"})"));
  EXPECT_FALSE(thinks(R"("model":"deepseek-chat")"));
}

struct Refusal {
  const char* fields;
  const char* param;
  const char* message_part;
};

void PrintTo(const Refusal& refusal, std::ostream* out) { *out << refusal.fields; }

class AnthropicRefusalTest : public testing::TestWithParam<Refusal> {};

TEST_P(AnthropicRefusalTest, NamesTheField) {
  const ApiError error = parse_error(with(GetParam().fields));
  EXPECT_EQ(error.status, 400);
  EXPECT_EQ(error.param, GetParam().param);
  EXPECT_THAT(error.message, HasSubstr(GetParam().message_part));
}

INSTANTIATE_TEST_SUITE_P(
    Fields, AnthropicRefusalTest,
    testing::Values(
        Refusal{R"("max_tokens":"5")", "max_tokens", "an integer"}, Refusal{R"("max_tokens":-1)", "max_tokens", "-1"},
        Refusal{R"("system":5)", "system", "a string or an array"},
        Refusal{R"("system":[{"type":"image"}])", "system[0].type", "'image'"},
        Refusal{R"("thinking":{"type":"between_tools"})", "thinking.type", "'between_tools'"},
        Refusal{R"("thinking":{"type":"enabled","budget_tokens":"x"})", "thinking.budget_tokens", "an integer"},
        Refusal{R"("thinking":{"type":"adaptive","display":"x"})", "thinking.display", "'omitted'"},
        Refusal{R"("output_config":{"effort":"huge"})", "output_config.effort", "'huge'"},
        Refusal{R"("output_config":{"format":{"type":"regex"}})", "output_config.format.type", "'json_schema'"},
        Refusal{R"("output_config":{"format":{"type":"json_schema"}})", "output_config.format.schema", "missing"},
        Refusal{R"("mcp_servers":[{}])", "mcp_servers", "not supported"},
        Refusal{R"("tools":[5])", "tools[0]", "an object"},
        Refusal{R"("tools":[{"input_schema":{}}])", "tools[0].name", "missing"},
        Refusal{R"("tools":[{"name":"f"}])", "tools[0].input_schema", "missing"},
        Refusal{R"("tools":[{"name":"f","input_schema":"x"}])", "tools[0].input_schema", "an object"},
        Refusal{R"("tools":[{"type":"bash_20250124","name":"bash"}])", "tools[0].type", "'bash_20250124'"},
        Refusal{R"("tools":[{"type":"text_editor_20250728","name":"e"}])", "tools[0].type", "input_schema"},
        Refusal{R"("tool_choice":"any")", "tool_choice", "an object"},
        Refusal{R"("tool_choice":{})", "tool_choice.type", "missing"},
        Refusal{R"("tool_choice":{"type":"any"})", "tool_choice.type", "needs a tool"},
        Refusal{R"("tool_choice":{"type":"function"})", "tool_choice.type", "'function'"},
        Refusal{R"("tool_choice":{"type":"tool","name":"g"})", "tool_choice.name", "'g'"},
        Refusal{R"("tools":[{"type":"web_search_20250305","name":"g"}],"tool_choice":{"type":"tool","name":"g"})",
                "tool_choice.name", "'g'"}));

class AnthropicMessageRefusalTest : public testing::TestWithParam<Refusal> {};

TEST_P(AnthropicMessageRefusalTest, NamesTheField) {
  const ApiError error = parse_error(with_messages(GetParam().fields));
  EXPECT_EQ(error.param, GetParam().param);
  EXPECT_THAT(error.message, HasSubstr(GetParam().message_part));
}

INSTANTIATE_TEST_SUITE_P(
    Messages, AnthropicMessageRefusalTest,
    testing::Values(
        Refusal{R"(5)", "messages[0]", "found a number"}, Refusal{R"({"content":"x"})", "messages[0].role", "missing"},
        Refusal{R"({"role":"tool"})", "messages[0].role", "'tool'"},
        Refusal{R"({"role":"user","content":5})", "messages[0].content", "a string or an array"},
        Refusal{R"({"role":"user","content":[5]})", "messages[0].content[0]", "a block"},
        Refusal{R"({"role":"user","content":[{"type":"text"}]})", "messages[0].content[0].text", "missing"},
        Refusal{R"({"role":"user","content":[{"type":"image","source":{}}]})", "messages[0].content[0].type",
                "'image'"},
        Refusal{R"({"role":"user","content":[{"type":"document"}]})", "messages[0].content[0].type", "text only"},
        Refusal{R"({"role":"user","content":[{"type":"tool_use","name":"f"}]})", "messages[0].content[0].type",
                "does not belong"},
        Refusal{R"({"role":"user","content":[{"type":"tool_result","content":"x"}]})",
                "messages[0].content[0].tool_use_id", "missing"},
        Refusal{R"({"role":"user","content":[{"type":"tool_result","tool_use_id":"t9","content":"x"}]})",
                "messages[0].content[0].tool_use_id", "'t9'"},
        Refusal{R"({"role":"assistant","content":[{"type":"tool_use","input":{}}]},{"role":"user","content":"q"})",
                "messages[0].content[0].name", "missing"},
        Refusal{R"({"role":"assistant","content":[{"type":"server_tool_use"}]},{"role":"user","content":"q"})",
                "messages[0].content[0].type", "'server_tool_use'"},
        Refusal{R"({"role":"user","content":"q"},{"role":"assistant","content":[{"type":"tool_use","name":"f"}]})",
                "messages[1].content", "tool_result"},
        Refusal{R"({"role":"system","content":"s"})", "messages", "a user message"}));

TEST(AnthropicRequestTest, RefusesBodiesThatAreNoRequest) {
  EXPECT_THAT(parse_error("").message, HasSubstr("byte 0"));
  EXPECT_THAT(parse_error("[]").message, HasSubstr("found an array"));
  EXPECT_EQ(parse_error("{}").param, "messages");
  EXPECT_EQ(parse_error(R"({"messages":[]})").param, "messages");
  EXPECT_EQ(parse_error(R"({"messages":"hi"})").param, "messages");
}

TEST(AnthropicRequestTest, RefusesImagesInToolResults) {
  const ApiError error = parse_error(with_result(
      R"({"type":"tool_result","tool_use_id":"t1","content":[{"type":"text","text":"a"},{"type":"image"}]})"));
  EXPECT_EQ(error.param, "messages[2].content[0].content[1].type");
  EXPECT_THAT(error.message, HasSubstr("'image'"));
}

TEST(AnthropicRequestTest, ReadsSystemPromptsOfEveryForm) {
  const auto first = [](std::string_view fields) { return parse_ok(with(fields)).conversation.messages[0]; };
  EXPECT_EQ(first(R"("system":"s")").content, "s");
  EXPECT_EQ(first(R"("system":"s")").role, Role::kSystem);
  EXPECT_EQ(first(R"("system":[{"type":"text","text":"a","cache_control":{"type":"ephemeral"}},"b"])").content,
            "a\n\nb");
  EXPECT_EQ(first(R"("system":[])").role, Role::kUser);
  EXPECT_EQ(first(R"("system":[{"type":"text","text":"x-anthropic-billing-header: cc_version=2.1.197.ffc;"},
                              {"type":"text","text":"b"}])")
                .content,
            "b");
}

TEST(AnthropicRequestTest, KeepsSystemMessagesOfTheListInPlace) {
  const MessagesRequest request = parse_ok(
      R"({"system":"a","messages":[{"role":"system","content":[{"type":"text","text":"b"}]},{"role":"user","content":"c"},
         {"role":"system","content":"d"}]})");
  const std::vector<Message>& messages = request.conversation.messages;
  ASSERT_THAT(messages, SizeIs(3));
  EXPECT_EQ(messages[0].content, "a\n\nb");
  EXPECT_EQ(messages[2].role, Role::kUser);
  EXPECT_EQ(messages[2].content, "d");
}

TEST(AnthropicRequestTest, ReadsAToolRoundTrip) {
  const MessagesRequest request = parse_ok(with_messages(
      R"({"role":"user","content":"q"},
         {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"c2ln"},
           {"type":"redacted_thinking","data":"x"},{"type":"text","text":"Look:"},
           {"type":"tool_use","id":"t1","name":"f","input":{"z":12345678901234567890123,"a":1.50}},
           {"type":"tool_use","id":"t2","name":"g"}]},
         {"role":"user","content":[{"type":"text","text":"before"},
           {"type":"tool_result","tool_use_id":"t2","content":[{"type":"text","text":"x"},{"type":"text","text":"y"}]},
           {"type":"text","text":"between"},{"type":"text","text":"too"},
           {"type":"tool_result","tool_use_id":"t1","content":"z","is_error":true},
           {"type":"tool_result","tool_use_id":"t1","is_error":false}]})"));
  const std::vector<Message>& messages = request.conversation.messages;
  ASSERT_THAT(messages, SizeIs(7));
  EXPECT_EQ(messages[1].reasoning_content, "hm");
  EXPECT_EQ(messages[1].content, "Look:");
  ASSERT_THAT(messages[1].tool_calls, SizeIs(2));
  EXPECT_EQ(messages[1].tool_calls[0].id, "t1");
  EXPECT_EQ(messages[1].tool_calls[0].arguments, R"({"z": 12345678901234567890123, "a": 1.5})");
  EXPECT_EQ(messages[1].tool_calls[1].arguments, "{}");
  EXPECT_EQ(messages[2].content, "before");
  EXPECT_EQ(messages[3].role, Role::kTool);
  EXPECT_EQ(messages[3].tool_call_id, "t2");
  ASSERT_THAT(messages[3].parts, SizeIs(2));
  EXPECT_EQ(messages[4].content, "between\n\ntoo");
  EXPECT_EQ(messages[5].content, "[error] z");
  EXPECT_EQ(messages[6].content, "");
}

TEST(AnthropicRequestTest, MarksErrorsWithoutText) {
  const MessagesRequest request =
      parse_ok(with_result(R"({"type":"tool_result","tool_use_id":"t1","is_error":true,"content":[]})"));
  EXPECT_EQ(request.conversation.messages.back().content, "[error] ");
}

TEST(AnthropicRequestTest, TakesOmittedThinkingFromItsSignature) {
  const auto reasoning = [](std::string_view thinking, std::string_view signature) {
    return parse_ok(with_messages(fmt::format(
                        R"({{"role":"user","content":"q"}},{{"role":"assistant","content":[
                             {{"type":"thinking","thinking":"{}","signature":"{}"}}]}},{{"role":"user","content":"r"}})",
                        thinking, signature)))
        .conversation.messages[1]
        .reasoning_content;
  };
  EXPECT_EQ(reasoning("", sign_thinking("hm\n", SignatureKind::kText)), "hm\n");
  // What the client says counts.
  EXPECT_EQ(reasoning("other", sign_thinking("hm", SignatureKind::kText)), "other");
  EXPECT_EQ(reasoning("shown", "foreign"), "shown");
  EXPECT_EQ(reasoning("", "c2ln"), "");
  EXPECT_EQ(reasoning("", ""), "");
}

TEST(AnthropicRequestTest, ContinuesAnAssistantMessageAtTheEnd) {
  const MessagesRequest request = parse_ok(with_messages(
      R"({"role":"user","content":"q"},{"role":"assistant","content":"a"},{"role":"assistant","content":"b"})"));
  ASSERT_THAT(request.conversation.messages, SizeIs(2));
  EXPECT_EQ(request.conversation.messages[1].content, "a\n\nb");
  EXPECT_TRUE(request.conversation.messages[1].without_eos);
}

TEST(AnthropicRequestTest, KeepsTurnsWithoutContent) {
  const MessagesRequest request = parse_ok(with_messages(
      R"({"role":"user","content":[]},{"role":"assistant","content":null},{"role":"user","content":""})"));
  EXPECT_THAT(request.conversation.messages, SizeIs(3));
}

TEST(AnthropicRequestTest, ShowsToolsAsFunctionsWithNothingOfTheApi) {
  const MessagesRequest request = parse_ok(with(
      R"("tools":[{"cache_control":{"type":"ephemeral"},"input_schema":{"z":1,"a":{"max":90071992547409931234}},"name":"f",
          "eager_input_streaming":true,"defer_loading":false,"type":"custom","description":"d \"q\""},
         {"name":"g","input_schema":{"type":"object"}},
         {"type":"web_search_20250305","name":"web_search","max_uses":5},
         {"type":"code_execution_20250825","name":"code_execution"}])"));
  ASSERT_THAT(request.conversation.messages, SizeIs(2));
  EXPECT_THAT(
      request.conversation.messages[0].tools,
      ElementsAre(
          R"({"name": "f", "description": "d \"q\"", "parameters": {"z": 1, "a": {"max": 90071992547409931234}}})",
          R"({"name": "g", "parameters": {"type": "object"}})"));
  EXPECT_THAT(request.rules.tools, IsEmpty());
}

TEST(AnthropicRequestTest, MakesRulesOfTheToolChoice) {
  const auto rules = [](std::string_view choice) {
    return parse_ok(with(fmt::format(R"("tools":[{}],"tool_choice":{})", kTool, choice))).rules;
  };
  EXPECT_EQ(rules(R"({"type":"auto"})").tool_use, ToolUse::kFree);
  EXPECT_THAT(rules(R"({"type":"auto"})").tools, IsEmpty());
  EXPECT_FALSE(rules(R"({"type":"auto","disable_parallel_tool_use":true})").parallel_calls);
  const OutputRules any = rules(R"({"type":"any"})");
  EXPECT_EQ(any.tool_use, ToolUse::kRequired);
  ASSERT_THAT(any.tools, SizeIs(1));
  EXPECT_EQ(any.tools[0].name, "f");
  EXPECT_EQ(any.tools[0].parameters, R"({"type": "object"})");
  const OutputRules named = rules(R"({"type":"tool","name":"f","disable_parallel_tool_use":true})");
  EXPECT_EQ(named.tool_use, ToolUse::kNamed);
  EXPECT_EQ(named.tool_name, "f");
  EXPECT_FALSE(named.parallel_calls);
}

TEST(AnthropicRequestTest, HidesToolsWhenNoneMayBeCalled) {
  const MessagesRequest request = parse_ok(with(fmt::format(R"("tools":[{}],"tool_choice":{{"type":"none"}})", kTool)));
  EXPECT_THAT(request.conversation.messages, SizeIs(1));
  EXPECT_THAT(request.rules.tools, IsEmpty());
}

TEST(AnthropicRequestTest, HasSignaturesOfStrictTools) {
  const MessagesRequest request = parse_ok(
      with(fmt::format(R"("tools":[{},{{"name":"g","strict":true,"input_schema":{{"type":"object"}}}}])", kTool)));
  ASSERT_THAT(request.rules.tools, SizeIs(2));
  EXPECT_FALSE(request.rules.tools[0].strict);
  EXPECT_TRUE(request.rules.tools[1].strict);
}

TEST(AnthropicRequestTest, TakesTheSchemaOfTheAnswer) {
  for (const char* fields :
       {R"("output_config":{"format":{"type":"json_schema","schema":{"type":"object","description":"b"}}})",
        R"("output_format":{"type":"json_schema","schema":{"type":"object","description":"b"}})"}) {
    const MessagesRequest request = parse_ok(with(fields));
    EXPECT_EQ(request.rules.json_schema, R"({"type": "object", "description": "b"})");
    EXPECT_EQ(request.conversation.messages[0].role, Role::kSystem);
    EXPECT_EQ(request.conversation.messages[0].response_format, request.rules.json_schema);
    EXPECT_TRUE(render(request.conversation, request.render).ok());
  }
}

}  // namespace
}  // namespace ds4
