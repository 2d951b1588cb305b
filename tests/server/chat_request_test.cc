#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "chat/renderer.h"
#include "server/json_fields.h"
#include "server/openai_chat.h"

namespace ds4 {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::SizeIs;

ServedModel served() { return {.id = "ds4-mini", .name = "ds4-mini", .ctx_tokens = 4096, .default_max_tokens = 1000}; }

std::variant<ChatRequest, ApiError> parse(std::string_view body) {
  return parse_chat_request(std::string(body), served());
}

ChatRequest parse_ok(std::string_view body) {
  auto parsed = parse(body);
  if (const auto* error = std::get_if<ApiError>(&parsed)) {
    ADD_FAILURE() << error->message;
    return {};
  }
  return std::get<ChatRequest>(std::move(parsed));
}

ApiError parse_error(std::string_view body) {
  auto parsed = parse(body);
  if (const auto* error = std::get_if<ApiError>(&parsed)) return *error;
  ADD_FAILURE() << "accepted: " << body;
  return {};
}

// A request with one user message and these other fields.
std::string with(std::string_view fields) {
  return fmt::format(R"({{"messages":[{{"role":"user","content":"hi"}}]{}{}}})", fields.empty() ? "" : ",", fields);
}

std::string with_messages(std::string_view messages) { return fmt::format(R"({{"messages":[{}]}})", messages); }

constexpr std::string_view kWeatherTool =
    R"({"type":"function","function":{"name":"get_weather","parameters":{"type":"object","properties":{}}}})";

TEST(ChatRequestTest, FillsInTheDefaults) {
  const ChatRequest request = parse_ok(with(""));
  EXPECT_EQ(request.model, "ds4-mini");
  EXPECT_EQ(request.max_tokens, 1000);
  EXPECT_EQ(request.sampling.temperature, 1.0F);
  EXPECT_EQ(request.sampling.top_p, 1.0F);
  EXPECT_EQ(request.sampling.min_p, 0.05F);
  EXPECT_EQ(request.sampling.top_k, 0);
  EXPECT_FALSE(request.sampling.seed.has_value());
  EXPECT_EQ(request.n_top_logprobs, -1);
  EXPECT_FALSE(request.stream);
  EXPECT_FALSE(request.include_usage);
  EXPECT_EQ(request.render.thinking_mode, ThinkingMode::kThinking);
  ASSERT_THAT(request.conversation.messages, SizeIs(1));
  EXPECT_EQ(request.conversation.messages[0].role, Role::kUser);
  EXPECT_EQ(request.conversation.messages[0].content, "hi");
}

TEST(ChatRequestTest, ReadsEveryField) {
  const ChatRequest request = parse_ok(with(
      R"("model":"m","max_tokens":5,"max_completion_tokens":7,"temperature":0,"top_p":0.5,"min_p":0,"top_k":40,"seed":-3,
         "stop":["a","","b"],"stream":true,"stream_options":{"include_usage":true},"logprobs":true,"top_logprobs":3)"));
  EXPECT_EQ(request.model, "m");
  EXPECT_EQ(request.max_tokens, 7);
  EXPECT_EQ(request.sampling.temperature, 0.0F);
  EXPECT_EQ(request.sampling.top_p, 0.5F);
  EXPECT_EQ(request.sampling.min_p, 0.0F);
  EXPECT_EQ(request.sampling.top_k, 40);
  EXPECT_EQ(request.sampling.seed, static_cast<uint64_t>(-3));
  EXPECT_THAT(request.stop_strings, ElementsAre("a", "b"));
  EXPECT_TRUE(request.stream);
  EXPECT_TRUE(request.include_usage);
  EXPECT_EQ(request.n_top_logprobs, 3);
}

TEST(ChatRequestTest, TakesNullForAbsentEverywhere) {
  const ChatRequest request = parse_ok(with(
      R"("model":null,"max_tokens":null,"max_completion_tokens":null,"temperature":null,"top_p":null,"min_p":null,"top_k":null,
         "seed":null,"stop":null,"stream":null,"stream_options":null,"logprobs":null,"top_logprobs":null,"tools":null,
         "tool_choice":null,"thinking":null,"think":null,"reasoning_effort":null,"n":null,"response_format":null,
         "presence_penalty":null,"frequency_penalty":null,"logit_bias":null,"modalities":null,"audio":null,"functions":null)"));
  EXPECT_EQ(request.model, "ds4-mini");
  EXPECT_EQ(request.max_tokens, 1000);
  const ChatRequest message = parse_ok(with_messages(
      R"({"role":"user","content":null,"name":null},{"role":"assistant","content":null,"reasoning_content":null,"tool_calls":null,
         "function_call":null,"refusal":null,"audio":null,"prefix":null},{"role":"user","content":"x"})"));
  EXPECT_EQ(message.conversation.messages[0].content, "");
}

TEST(ChatRequestTest, IgnoresUnknownFields) {
  parse_ok(with(
      R"("user":"u","metadata":{"a":[1]},"store":true,"parallel_tool_calls":true,"service_tier":7,"made_up":{"x":null})"));
}

TEST(ChatRequestTest, AcceptsTheHarmlessValuesOfUnsupportedFields) {
  parse_ok(with(R"("n":1,"presence_penalty":0,"frequency_penalty":0.0,"logit_bias":{},"response_format":{"type":"text"},
                   "modalities":["text"],"functions":[],"tool_choice":"auto","tools":[],"top_logprobs":0)"));
}

TEST(ChatRequestTest, ClampsWhatIsMoreThanEnough) {
  EXPECT_EQ(parse_ok(with(R"("max_tokens":99999999999)")).max_tokens, kUnlimitedTokens);
  EXPECT_EQ(parse_ok(with(R"("max_tokens":1e3)")).max_tokens, 1000);
  EXPECT_EQ(parse_ok(with(R"("max_tokens":0)")).max_tokens, 0);
  EXPECT_EQ(parse_ok(with(R"("top_k":-1)")).sampling.top_k, 0);
  EXPECT_GT(parse_ok(with(R"("top_p":0)")).sampling.top_p, 0.0F);
  EXPECT_EQ(parse_ok(with(R"("seed":9223372036854775807)")).sampling.seed, uint64_t{9223372036854775807U});
}

struct Refusal {
  std::string_view fields;
  std::string_view param;
  std::string_view message_part;
};

class ChatRequestRefusalTest : public testing::TestWithParam<Refusal> {};

TEST_P(ChatRequestRefusalTest, NamesTheField) {
  const ApiError error = parse_error(with(GetParam().fields));
  EXPECT_EQ(error.status, 400);
  EXPECT_EQ(error.param, GetParam().param);
  EXPECT_THAT(error.message, HasSubstr(GetParam().message_part));
}

INSTANTIATE_TEST_SUITE_P(
    Fields, ChatRequestRefusalTest,
    testing::Values(
        Refusal{R"("model":5)", "model", "expected a string, found a number"},
        Refusal{R"("temperature":"hot")", "temperature", "expected a number, found a string"},
        Refusal{R"("temperature":2.5)", "temperature", "from 0 to 2, found 2.5"},
        Refusal{R"("temperature":-1)", "temperature", "found -1"},
        Refusal{R"("temperature":1e999)", "temperature", "from 0 to 2"},
        Refusal{R"("temperature":true)", "temperature", "found true"}, Refusal{R"("top_p":3)", "top_p", "from 0 to 1"},
        Refusal{R"("min_p":1.5)", "min_p", "from 0 to 1"}, Refusal{R"("top_k":1.5)", "top_k", "an integer"},
        Refusal{R"("top_k":-2)", "top_k", "found -2"}, Refusal{R"("seed":9223372036854775808)", "seed", "an integer"},
        Refusal{R"("seed":"1")", "seed", "found a string"}, Refusal{R"("max_tokens":-1)", "max_tokens", "found -1"},
        Refusal{R"("max_completion_tokens":{})", "max_completion_tokens", "found an object"},
        Refusal{R"("stop":5)", "stop", "found a number"}, Refusal{R"("stop":["a",1])", "stop[1]", "found a number"},
        Refusal{R"("stop":["1","2","3","4","5","6","7","8","9","10","11","12","13","14","15","16","17"])", "stop",
                "16"},
        Refusal{R"("stream":"yes")", "stream", "true or false"},
        Refusal{R"("stream_options":[])", "stream_options", "an object"},
        Refusal{R"("stream_options":{"include_usage":1})", "stream_options.include_usage", "true or false"},
        Refusal{R"("logprobs":2)", "logprobs", "true or false"},
        Refusal{R"("top_logprobs":2)", "top_logprobs", "logprobs: true"},
        Refusal{R"("logprobs":true,"top_logprobs":21)", "top_logprobs", "from 0 to 20"},
        Refusal{R"("n":17)", "n", "from 1 to 16"}, Refusal{R"("n":0)", "n", "found 0"},
        Refusal{R"("presence_penalty":2.5)", "presence_penalty", "from -2 to 2"},
        Refusal{R"("frequency_penalty":"x")", "frequency_penalty", "a number"},
        Refusal{R"("repetition_penalty":0)", "repetition_penalty", "found 0"},
        Refusal{R"("logit_bias":{"5":101})", "logit_bias.5", "from -100 to 100"},
        Refusal{R"("logit_bias":{"x":1})", "logit_bias.x", "id of a token"},
        Refusal{R"("logit_bias":[])", "logit_bias", "an object"},
        Refusal{R"("response_format":{"type":"xml"})", "response_format.type", "'xml'"},
        Refusal{R"("response_format":{"type":"json_schema"})", "response_format.json_schema", "missing"},
        Refusal{R"("response_format":{"type":"json_schema","json_schema":{}})", "response_format.json_schema.schema",
                "missing"},
        Refusal{R"("response_format":{"type":"json_schema","json_schema":{"schema":{"items":{"not":{}}}}})",
                "response_format.json_schema.schema", "#/items: the keyword 'not' is not supported"},
        Refusal{R"("modalities":["text","audio"])", "modalities", "text only"},
        Refusal{R"("audio":{"voice":"x"})", "audio", "text only"},
        Refusal{R"("functions":[{"name":"f"}])", "functions", "tools"}, Refusal{R"("tools":{})", "tools", "an array"},
        Refusal{R"("tools":[7])", "tools[0]", "an object"},
        Refusal{R"("tools":[{"type":"web_search"}])", "tools[0].type", "'function'"},
        Refusal{R"("tools":[{"type":"function"}])", "tools[0].function", "missing"},
        Refusal{R"("tools":[{"type":"function","function":{}}])", "tools[0].function.name", "missing"},
        Refusal{R"("tools":[{"type":"function","function":{"name":3}}])", "tools[0].function.name", "a string"},
        Refusal{R"("tool_choice":"required")", "tool_choice", "there are no tools"},
        Refusal{R"("tool_choice":"maybe")", "tool_choice", "'maybe'"},
        Refusal{R"("tool_choice":{"type":"function","function":{"name":"f"}})", "tool_choice.function.name",
                "none of the tools"},
        Refusal{R"("tool_choice":{"type":"allowed_tools","allowed_tools":{"tools":[]}})",
                "tool_choice.allowed_tools.tools", "at least one"},
        Refusal{R"("tools":[{"function":{"name":"f","strict":true,"parameters":{"properties":{"a":{"not":1}}}}}])",
                "tools[0].function.parameters", "#/properties/a: the keyword 'not'"},
        Refusal{R"("parallel_tool_calls":1)", "parallel_tool_calls", "true or false"},
        Refusal{R"("thinking_budget":"x")", "thinking_budget", "an integer"},
        Refusal{R"("thinking":{"type":"enabled","budget_tokens":-1})", "thinking.budget_tokens", "found -1"},
        Refusal{R"("thinking":"yes")", "thinking", "true or false"},
        Refusal{R"("thinking":{"type":"maybe"})", "thinking.type", "'maybe'"},
        Refusal{R"("think":1)", "think", "true or false"},
        Refusal{R"("reasoning_effort":"huge")", "reasoning_effort", "'huge'"},
        Refusal{R"("reasoning_effort":3)", "reasoning_effort", "a string"}));

class ChatMessageRefusalTest : public testing::TestWithParam<Refusal> {};

TEST_P(ChatMessageRefusalTest, NamesTheField) {
  const ApiError error = parse_error(with_messages(GetParam().fields));
  EXPECT_EQ(error.param, GetParam().param);
  EXPECT_THAT(error.message, HasSubstr(GetParam().message_part));
}

INSTANTIATE_TEST_SUITE_P(
    Messages, ChatMessageRefusalTest,
    testing::Values(
        Refusal{R"(5)", "messages[0]", "found a number"}, Refusal{R"({})", "messages[0].role", "missing"},
        Refusal{R"({"role":1})", "messages[0].role", "a string"},
        Refusal{R"({"role":"wizard"})", "messages[0].role", "'wizard'"},
        Refusal{R"({"role":"user","content":5})", "messages[0].content", "a string or an array"},
        Refusal{R"({"role":"user","content":{}})", "messages[0].content", "found an object"},
        Refusal{R"({"role":"user","content":["a",5]})", "messages[0].content[1]", "a part"},
        Refusal{R"({"role":"user","content":[{"type":"image_url","image_url":{"url":"x"}}]})",
                "messages[0].content[0].type", "'image_url'"},
        Refusal{R"({"role":"user","content":[{"type":"input_audio"}]})", "messages[0].content[0].type", "text only"},
        Refusal{R"({"role":"tool","content":[{"type":"file"}]})", "messages[0].content[0].type", "'file'"},
        Refusal{R"({"role":"user","content":[{"type":"text"}]})", "messages[0].content[0].text", "missing"},
        Refusal{R"({"role":"user","content":[{"type":"text","text":1}]})", "messages[0].content[0].text", "a string"},
        Refusal{R"({"role":"assistant","content":"x"})", "messages[0].prefix", "prefix: true"},
        Refusal{R"({"role":"assistant","content":"x","prefix":true},{"role":"user","content":"y"})",
                "messages[0].prefix", "only the last"},
        Refusal{R"({"role":"assistant","tool_calls":{}},{"role":"user"})", "messages[0].tool_calls", "an array"},
        Refusal{R"({"role":"assistant","tool_calls":[1]},{"role":"user"})", "messages[0].tool_calls[0]", "an object"},
        Refusal{R"({"role":"assistant","tool_calls":[{"type":"custom"}]},{"role":"user"})",
                "messages[0].tool_calls[0].function", "only function calls"},
        Refusal{R"({"role":"assistant","tool_calls":[{"function":{"arguments":"{}"}}]},{"role":"user"})",
                "messages[0].tool_calls[0].function.name", "missing"},
        Refusal{R"({"role":"tool","tool_call_id":5,"content":"x"})", "messages[0].tool_call_id", "a string"}));

TEST(ChatRequestTest, RefusesBodiesThatAreNoRequest) {
  EXPECT_THAT(parse_error("").message, HasSubstr("byte 0"));
  EXPECT_THAT(parse_error("{\"messages\":[}").message, HasSubstr("byte 13"));
  EXPECT_THAT(parse_error("[]").message, HasSubstr("found an array"));
  EXPECT_THAT(parse_error("{} x").message, HasSubstr("the end"));
  EXPECT_THAT(parse_error(std::string(100'000, '[')).message, HasSubstr("deep"));
  EXPECT_THAT(parse_error("[" + std::string(kMaxJsonValues, ',') + "]").message, HasSubstr("JSON values"));
  EXPECT_EQ(parse_error("{}").param, "messages");
  EXPECT_EQ(parse_error(R"({"messages":[]})").param, "messages");
  EXPECT_EQ(parse_error(R"({"messages":null})").param, "messages");
  EXPECT_EQ(parse_error(R"({"messages":"hi"})").param, "messages");
}

TEST(ChatRequestTest, NamesAllProblemsAndTheFirstAsParam) {
  const ApiError error = parse_error(with(R"("temperature":"hot","top_p":3)"));
  EXPECT_EQ(error.param, "temperature");
  EXPECT_THAT(error.message, HasSubstr("top_p: expected a number from 0 to 1"));
  std::string many;
  for (int i = 0; i < 100; ++i) many += "1,";
  EXPECT_THAT(parse_error(with_messages(many + "1")).message, HasSubstr("and 93 more problems"));
}

TEST(ChatRequestTest, JoinsLeadingSystemMessagesAndKeepsLaterOnesInPlace) {
  const ChatRequest request = parse_ok(with_messages(
      R"({"role":"system","content":"a"},{"role":"developer","content":[{"type":"text","text":"b"}]},{"role":"user","content":"c"},
         {"role":"system","content":"d"})"));
  const std::vector<Message>& messages = request.conversation.messages;
  ASSERT_THAT(messages, SizeIs(3));
  EXPECT_EQ(messages[0].role, Role::kSystem);
  EXPECT_EQ(messages[0].content, "a\n\nb");
  EXPECT_EQ(messages[2].role, Role::kUser);
  EXPECT_EQ(messages[2].content, "d");
}

constexpr std::string_view kBillingHeader = "x-anthropic-billing-header: cc_version=2.1.100.7b4; cch=eb6c6;";

TEST(ChatRequestTest, DropsVolatileTextFromSystemMessagesOnly) {
  const std::string body = with_messages(fmt::format(
      R"({{"role":"developer","content":[{{"type":"text","text":"{0}"}},{{"type":"text","text":"a"}}]}},
         {{"role":"user","content":"{0}"}},{{"role":"assistant","content":"{0}"}},{{"role":"system","content":"{0}"}},
         {{"role":"tool","content":"{0}"}})",
      kBillingHeader));
  const ChatRequest request = parse_ok(body);
  EXPECT_TRUE(request.dropped_text.any());
  const std::vector<Message>& messages = request.conversation.messages;
  ASSERT_THAT(messages, SizeIs(4));
  EXPECT_EQ(messages[0].content, "a");
  for (size_t i = 1; i < 4; ++i) EXPECT_EQ(messages[i].content, kBillingHeader) << i;

  ServedModel keeps = served();
  keeps.keeps_volatile_text = true;
  const auto kept = std::get<ChatRequest>(parse_chat_request(body, keeps));
  EXPECT_TRUE(kept.dropped_text.none());
  ASSERT_THAT(kept.conversation.messages, SizeIs(5));
  EXPECT_EQ(kept.conversation.messages[0].content, fmt::format("{}\n\na", kBillingHeader));
}

TEST(ChatRequestTest, TakesASystemMessageOfVolatileTextForAbsent) {
  const ChatRequest request = parse_ok(with_messages(
      fmt::format(R"({{"role":"system","content":"{}"}},{{"role":"user","content":"q"}})", kBillingHeader)));
  ASSERT_THAT(request.conversation.messages, SizeIs(1));
  EXPECT_EQ(request.conversation.messages[0].role, Role::kUser);
  // One that is empty in itself is none of our business.
  EXPECT_THAT(
      parse_ok(with_messages(R"({"role":"system","content":""},{"role":"user","content":"q"})")).conversation.messages,
      SizeIs(2));
}

TEST(ChatRequestTest, JoinsTextParts) {
  const ChatRequest request = parse_ok(
      with_messages(R"({"content":[{"type":"text","text":"a","cache_control":{}},"b",{"text":"c"}],"role":"user"})"));
  EXPECT_EQ(request.conversation.messages[0].content, "a\n\nb\n\nc");
}

TEST(ChatRequestTest, MergesConsecutiveAssistantMessages) {
  const ChatRequest request = parse_ok(with_messages(
      R"({"role":"user","content":"q"},{"role":"assistant","content":"a"},
         {"role":"assistant","content":"b","tool_calls":[{"id":"1","function":{"name":"f","arguments":""}}]},
         {"role":"tool","tool_call_id":"1","content":"r"})"));
  ASSERT_THAT(request.conversation.messages, SizeIs(3));
  EXPECT_EQ(request.conversation.messages[1].content, "a\n\nb");
  EXPECT_THAT(request.conversation.messages[1].tool_calls, SizeIs(1));
}

TEST(ChatRequestTest, ContinuesAnAssistantMessageThatIsAPrefix) {
  const ChatRequest request =
      parse_ok(with_messages(R"({"role":"user","content":"q"},{"role":"assistant","content":"Once","prefix":true})"));
  EXPECT_TRUE(request.conversation.messages.back().without_eos);
}

TEST(ChatRequestTest, ReadsAToolRoundTrip) {
  const ChatRequest request = parse_ok(with_messages(
      R"({"role":"user","content":"q"},
         {"role":"assistant","content":null,"reasoning_content":"hm","tool_calls":[
           {"id":"call_1","type":"function","function":{"name":"f","arguments":"{\"n\": 12345678901234567890123}"}},
           {"id":"call_2","type":"function","function":{"name":"g","arguments":{"x":1.50}}}]},
         {"role":"tool","tool_call_id":"call_2","content":[{"type":"text","text":"x"},{"type":"text","text":"y"}]},
         {"role":"function","name":"f","content":"z"})"));
  const std::vector<Message>& messages = request.conversation.messages;
  ASSERT_THAT(messages, SizeIs(4));
  EXPECT_EQ(messages[1].reasoning_content, "hm");
  ASSERT_THAT(messages[1].tool_calls, SizeIs(2));
  EXPECT_EQ(messages[1].tool_calls[0].id, "call_1");
  EXPECT_EQ(messages[1].tool_calls[0].arguments, "{\"n\": 12345678901234567890123}");
  EXPECT_EQ(messages[1].tool_calls[1].name, "g");
  EXPECT_EQ(messages[2].role, Role::kTool);
  EXPECT_EQ(messages[2].tool_call_id, "call_2");
  ASSERT_THAT(messages[2].parts, SizeIs(2));
  EXPECT_EQ(messages[2].parts[1].text, "y");
  EXPECT_EQ(messages[3].content, "z");
}

TEST(ChatRequestTest, KeepsTheArgumentsOfACallThatWasCutOff) {
  const ChatRequest request = parse_ok(with_messages(
      R"({"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{\"path\": \"a"}}]},{"role":"user","content":"?"})"));
  EXPECT_TRUE(render(request.conversation, request.render).ok());
  EXPECT_EQ(request.conversation.messages[0].tool_calls[0].arguments, R"("{\"path\": \"a")");
}

TEST(ChatRequestTest, KeepsKeyOrderAndDigitsOfToolSchemas) {
  const ChatRequest request =
      parse_ok(with(R"("tools":[{"function":{"name":"f","z":1,"a":{"max":90071992547409931234}},"type":"function"}])"));
  ASSERT_THAT(request.conversation.messages, SizeIs(2));
  EXPECT_EQ(request.conversation.messages[0].role, Role::kSystem);
  EXPECT_THAT(request.conversation.messages[0].tools,
              ElementsAre(R"({"name": "f", "z": 1, "a": {"max": 90071992547409931234}})"));
}

TEST(ChatRequestTest, AttachesToolsToTheSystemMessage) {
  const ChatRequest request = parse_ok(
      fmt::format(R"({{"tools":[{}],"messages":[{{"role":"system","content":"s"}},{{"role":"user","content":"q"}}]}})",
                  kWeatherTool));
  ASSERT_THAT(request.conversation.messages, SizeIs(2));
  EXPECT_EQ(request.conversation.messages[0].content, "s");
  EXPECT_THAT(request.conversation.messages[0].tools, SizeIs(1));
}

TEST(ChatRequestTest, HidesToolsWhenNoneMayBeCalled) {
  const ChatRequest request = parse_ok(with(fmt::format(R"("tool_choice":"none","tools":[{}])", kWeatherTool)));
  ASSERT_THAT(request.conversation.messages, SizeIs(1));
}

constexpr std::string_view kTwoTools =
    R"("tools":[{"type":"function","function":{"name":"a","strict":true,"parameters":{"type":"object"}}},
                {"type":"function","function":{"name":"b","parameters":{"not":"looked at"}}}])";

TEST(ChatRequestTest, ToolsAndChoicesBecomeRules) {
  const auto rules = [](std::string_view fields) {
    return parse_ok(with(fmt::format("{}{}", kTwoTools, fields))).rules;
  };
  const OutputRules free = rules("");
  ASSERT_THAT(free.tools, SizeIs(2));
  EXPECT_TRUE(free.tools[0].strict);
  EXPECT_FALSE(free.tools[1].strict);
  EXPECT_EQ(free.tool_use, ToolUse::kFree);
  EXPECT_TRUE(free.parallel_calls);
  EXPECT_FALSE(rules(R"(,"parallel_tool_calls":false)").parallel_calls);
  EXPECT_EQ(rules(R"(,"tool_choice":"required")").tool_use, ToolUse::kRequired);
  const OutputRules named = rules(R"(,"tool_choice":{"type":"function","function":{"name":"b"}})");
  EXPECT_EQ(named.tool_use, ToolUse::kNamed);
  EXPECT_EQ(named.tool_name, "b");
  const OutputRules allowed = rules(
      R"(,"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"required",
           "tools":[{"type":"function","function":{"name":"b"}}]}})");
  ASSERT_THAT(allowed.tools, SizeIs(1));
  EXPECT_EQ(allowed.tools[0].name, "b");
  EXPECT_EQ(allowed.tool_use, ToolUse::kRequired);
  EXPECT_THAT(rules(R"(,"tool_choice":"none")").tools, SizeIs(0));
}

TEST(ChatRequestTest, ResponseFormatsBecomeSchemas) {
  EXPECT_EQ(parse_ok(with(R"("response_format":{"type":"text"})")).rules.json_schema, "");
  EXPECT_EQ(parse_ok(with(R"("response_format":{"type":"json_object"})")).rules.json_schema, R"({"type": "object"})");
  const ChatRequest request = parse_ok(
      with(R"("response_format":{"type":"json_schema","json_schema":{"name":"n","schema":{"type":"integer"}}})"));
  EXPECT_EQ(request.rules.json_schema, R"({"type": "integer"})");
  EXPECT_EQ(request.conversation.messages[0].response_format, R"({"type": "integer"})");
}

TEST(ChatRequestTest, PenaltiesBiasesAndBudgetsArePassedOn) {
  const ChatRequest request =
      parse_ok(with(R"("presence_penalty":0.5,"frequency_penalty":-0.25,"repetition_penalty":1.5,
      "logit_bias":{"7":-100,"12":2.5},"thinking":{"type":"enabled","budget_tokens":64})"));
  EXPECT_EQ(request.sampling.presence_penalty, 0.5F);
  EXPECT_EQ(request.sampling.frequency_penalty, -0.25F);
  EXPECT_EQ(request.sampling.repetition_penalty, 1.5F);
  ASSERT_THAT(request.sampling.logit_bias, SizeIs(2));
  EXPECT_EQ(request.sampling.logit_bias[1].token, 12);
  EXPECT_EQ(request.sampling.logit_bias[1].value, 2.5F);
  EXPECT_EQ(request.rules.max_reasoning_tokens, 64);
  EXPECT_EQ(parse_ok(with(R"("thinking_budget":5)")).rules.max_reasoning_tokens, 5);
  EXPECT_EQ(parse_ok(with(R"("thinking_budget":-1)")).rules.max_reasoning_tokens, kUnlimitedTokens);
}

TEST(ChatRequestTest, DecidesWhetherToThink) {
  const auto thinks = [](std::string_view fields) {
    return parse_ok(with(fields)).render.thinking_mode == ThinkingMode::kThinking;
  };
  EXPECT_TRUE(thinks(""));
  EXPECT_FALSE(thinks(R"("thinking":false)"));
  EXPECT_FALSE(thinks(R"("thinking":{"type":"disabled"})"));
  EXPECT_FALSE(thinks(R"("thinking":{"type":"disabled"},"reasoning_effort":"max")"));
  EXPECT_FALSE(thinks(R"("think":false)"));
  EXPECT_FALSE(thinks(R"("reasoning_effort":"none")"));
  EXPECT_FALSE(thinks(R"("thinking":true,"reasoning_effort":"none")"));
  EXPECT_FALSE(thinks(R"("model":"deepseek-chat")"));
  EXPECT_FALSE(thinks(R"("model":"deepseek-chat","reasoning_effort":"high")"));
  EXPECT_TRUE(thinks(R"("model":"deepseek-chat","thinking":{"type":"enabled"})"));
  EXPECT_TRUE(thinks(R"("model":"deepseek-chat","thinking":{"type":"adaptive"})"));
  EXPECT_TRUE(thinks(R"("model":"deepseek-reasoner")"));
  EXPECT_FALSE(thinks(R"("model":"deepseek-reasoner","think":false)"));

  ServedModel silent = served();
  silent.thinks_by_default = false;
  const auto thinks_there = [&](std::string_view fields) {
    const auto parsed = parse_chat_request(with(fields), silent);
    return std::get<ChatRequest>(parsed).render.thinking_mode == ThinkingMode::kThinking;
  };
  EXPECT_FALSE(thinks_there(""));
  EXPECT_TRUE(thinks_there(R"("reasoning_effort":"low")"));
  EXPECT_TRUE(thinks_there(R"("model":"deepseek-reasoner")"));
}

TEST(ChatRequestTest, MapsEffortNamesToLevels) {
  const auto effort = [](std::string_view name) {
    return parse_ok(with(fmt::format(R"("reasoning_effort":"{}")", name))).render.effort;
  };
  for (const char* name : {"none", "minimal", "low", "medium"})
    EXPECT_EQ(effort(name), ReasoningEffort::kDefault) << name;
  EXPECT_EQ(effort("high"), ReasoningEffort::kHigh);
  for (const char* name : {"xhigh", "max"}) EXPECT_EQ(effort(name), ReasoningEffort::kMax) << name;
}

TEST(ChatRequestTest, RepairsIllFormedText) {
  const ChatRequest request = parse_ok(with_messages("{\"role\":\"user\",\"content\":\"a\xFF\\ud800b\\u0000c\"}"));
  EXPECT_EQ(request.conversation.messages[0].content, std::string("a\xEF\xBF\xBD\xEF\xBF\xBD"
                                                                  "b\0c",
                                                                  10));
}

TEST(ChatRequestTest, AcceptsAndRendersWhatRealClientsSend) {
  size_t n_files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(DS4_SOURCE_DIR "/tests/vectors/clients")) {
    std::ifstream file(entry.path());
    std::stringstream body;
    body << file.rdbuf();
    const ChatRequest request = parse_ok(body.str());
    EXPECT_FALSE(request.conversation.messages.empty()) << entry.path();
    const auto rendered = render(request.conversation, request.render);
    EXPECT_TRUE(rendered.ok()) << entry.path() << ": " << rendered.error().message;
    ++n_files;
  }
  EXPECT_EQ(n_files, 5U);
}

}  // namespace
}  // namespace ds4
