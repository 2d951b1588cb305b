#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "chat/renderer.h"
#include "gguf/reader.h"
#include "server/anthropic_messages.h"
#include "server/anthropic_signature.h"
#include "server/engine_server.h"
#include "support/message_accumulator.h"

namespace ds4 {
namespace {

using Json = nlohmann::ordered_json;
using test::MessageAccumulator;
using testing::HasSubstr;
using testing::MatchesRegex;

constexpr const char* kModel = DS4_SOURCE_DIR "/models/ds4-mini.gguf";
constexpr const char* kQuestion = "What is the weather in Paris?";

// The whole way over HTTP with the trained model, which calls the tool that it is asked to.
class AnthropicServerTest : public test::EngineServerTest {
 protected:
  AnthropicServerTest() { start(test::trained_engine()); }

  ClientResponse post(std::string_view path, const Json& body) { return EngineServerTest::post(path, body.dump()); }
  ClientResponse ask(std::string_view method, std::string_view path, std::string_view headers = "") {
    HttpClient client(server_->port());
    client.send(fmt::format("{} {} HTTP/1.1\r\nHost: x\r\n{}\r\n", method, path, headers));
    return client.read_response();
  }
  // The message that the events of a stream make.
  Json stream(Json body) {
    body["stream"] = true;
    HttpClient client(server_->port());
    client.send(post_request("/v1/messages?beta=true", body.dump()));
    EXPECT_EQ(client.read_head().header("Content-Type"), "text/event-stream");
    std::string events;
    for (std::string event = client.read_event(); !event.empty(); event = client.read_event()) events += event + "\n\n";
    const MessageAccumulator accumulated(events);
    EXPECT_EQ(accumulated.problem(), "") << events;
    return accumulated.message();
  }

  static Json request(const Json& messages) {
    return {{"model", "m"},
            {"max_tokens", 300},
            {"temperature", 0},
            {"thinking", {{"type", "adaptive"}}},
            {"tools", Json::array({tool()})},
            {"messages", messages}};
  }
  // Few tokens: whole answers must come before the client of the tests gives up, whatever the build.
  static Json short_request() {
    return {{"model", "m"}, {"max_tokens", 8}, {"temperature", 0}, {"messages", Json::array({question()})}};
  }
  static Json tool() {
    return {{"name", "get_weather"},
            {"description", "Get the current weather for a city."},
            {"input_schema",
             {{"type", "object"},
              {"properties", {{"city", {{"type", "string"}, {"description", "City name"}}}}},
              {"required", {"city"}}}},
            {"cache_control", {{"type", "ephemeral"}}}};
  }
  static Json question() { return {{"role", "user"}, {"content", kQuestion}}; }
  static Json block_of(const Json& message, std::string_view type) {
    for (const Json& block : message["content"]) {
      if (block["type"] == type) return block;
    }
    ADD_FAILURE() << "no " << type << " in " << message;
    return {};
  }
  // The next request of a client that returns the message as it got it, and without the cache mark of the tool.
  static Json follow_up(const Json& first) {
    const Json result = {
        {"type", "tool_result"}, {"tool_use_id", block_of(first, "tool_use")["id"]}, {"content", "21 degrees, sunny"}};
    Json body = request(Json::array({question(),
                                     {{"role", "assistant"}, {"content", first["content"]}},
                                     {{"role", "user"}, {"content", Json::array({result})}}}));
    body["tools"][0].erase("cache_control");
    return body;
  }
  static int prompt_tokens(const Json& message) {
    return message["usage"]["input_tokens"].get<int>() + message["usage"]["cache_read_input_tokens"].get<int>();
  }
};

TEST_F(AnthropicServerTest, CallsAToolAndComputesNothingOfThatTurnAgain) {
  const Json first = stream(request(Json::array({question()})));
  EXPECT_THAT(first["id"].get<std::string>(), MatchesRegex("msg_[0-9a-f]{24}"));
  EXPECT_EQ(first["stop_reason"], "tool_use");
  const Json call = block_of(first, "tool_use");
  EXPECT_THAT(call["id"].get<std::string>(), MatchesRegex("toolu_[0-9a-f]{32}"));
  EXPECT_EQ(call["input"], Json({{"city", "Paris"}}));

  const Json second = stream(follow_up(first));
  EXPECT_EQ(second["stop_reason"], "end_turn");
  EXPECT_EQ(generator_->replay_statistics().n_canonical, 0U);
  // All but the token that was sampled last, which was not run.
  const int first_tokens = prompt_tokens(first) + first["usage"]["output_tokens"].get<int>();
  EXPECT_GE(second["usage"]["cache_read_input_tokens"].get<int>(), first_tokens - 1);
}

TEST_F(AnthropicServerTest, ComputesNothingAgainOfThinkingThatItOmitted) {
  Json body = request(Json::array({question()}));
  body["thinking"]["display"] = "omitted";
  const Json first = stream(body);
  const Json thinking = block_of(first, "thinking");
  EXPECT_EQ(thinking["thinking"], "");
  EXPECT_NE(signed_thinking(thinking["signature"].get<std::string>()).value_or(""), "");
  const Json second = stream(follow_up(first));
  const int first_tokens = prompt_tokens(first) + first["usage"]["output_tokens"].get<int>();
  EXPECT_GE(second["usage"]["cache_read_input_tokens"].get<int>(), first_tokens - 1);
}

TEST_F(AnthropicServerTest, AnswersInOnePieceWhatItStreams) {
  const ClientResponse response = post("/v1/messages?beta=true", short_request());
  EXPECT_EQ(response.status, 200);
  EXPECT_THAT(response.header("request-id"), MatchesRegex("req_[0-9a-f]{24}"));
  Json whole = Json::parse(response.body, nullptr, false);
  Json streamed = stream(short_request());
  EXPECT_EQ(prompt_tokens(whole), prompt_tokens(streamed));
  for (Json* message : {&whole, &streamed}) {
    for (const char* key : {"id", "usage"}) message->erase(key);
    for (Json& block : (*message)["content"]) block.erase("id");
  }
  EXPECT_EQ(whole, streamed);
}

TEST_F(AnthropicServerTest, CountsTokens) {
  Json body = short_request();
  const Json message = Json::parse(post("/v1/messages", body).body, nullptr, false);
  body.erase("max_tokens");
  const ClientResponse counted = post("/v1/messages/count_tokens", body);
  EXPECT_EQ(counted.body, fmt::format("{{\"input_tokens\":{}}}\n", prompt_tokens(message)));
  EXPECT_THAT(post("/v1/messages/count_tokens?beta=true", body).body, HasSubstr("\"context_management\":null"));

  // A prompt that does not fit is counted, too.
  body["messages"][0]["content"] = std::string(20'000, 'x') + " y";
  const ClientResponse large = post("/v1/messages/count_tokens", body);
  EXPECT_EQ(large.status, 200);
  const int n_tokens = Json::parse(large.body, nullptr, false)["input_tokens"];
  EXPECT_GT(n_tokens, 1024);
  const ClientResponse refused = post("/v1/messages", body);
  EXPECT_EQ(refused.status, 400);
  const Json error = Json::parse(refused.body, nullptr, false);
  EXPECT_EQ(error["type"], "error");
  EXPECT_EQ(error["error"]["type"], "invalid_request_error");
  EXPECT_EQ(error["error"]["message"], fmt::format("prompt is too long: {} tokens > 1023 maximum", n_tokens));
  EXPECT_EQ(error["request_id"], refused.header("request-id"));
}

TEST_F(AnthropicServerTest, NamesTheFieldThatIsWrong) {
  Json body = request(Json::array({{{"role", "user"}, {"content", Json::array({{{"type", "image"}}})}}}));
  for (const char* path : {"/v1/messages", "/v1/messages/count_tokens"}) {
    const ClientResponse response = post(path, body);
    EXPECT_EQ(response.status, 400);
    EXPECT_THAT(Json::parse(response.body, nullptr, false)["error"]["message"].get<std::string>(),
                HasSubstr("messages[0].content[0].type: 'image'"));
  }
}

TEST_F(AnthropicServerTest, ListsTheModelInTheFormOfTheClientsApi) {
  constexpr std::string_view kVersion = "Anthropic-Version: 2023-06-01\r\n";
  const Json list = Json::parse(ask("GET", "/v1/models", kVersion).body, nullptr, false);
  EXPECT_EQ(list["has_more"], false);
  EXPECT_EQ(list["first_id"], "ds4-mini");
  EXPECT_EQ(list["last_id"], "ds4-mini");
  ASSERT_EQ(list["data"].size(), 1U);
  const Json& model = list["data"][0];
  EXPECT_EQ(model["type"], "model");
  EXPECT_EQ(model["id"], "ds4-mini");
  EXPECT_TRUE(model.contains("display_name"));
  EXPECT_THAT(model["created_at"].get<std::string>(),
              MatchesRegex("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z"));
  EXPECT_EQ(model["max_input_tokens"], 1024);
  EXPECT_EQ(Json::parse(ask("GET", "/v1/models/deepseek-chat", kVersion).body, nullptr, false)["id"], "deepseek-chat");
  const ClientResponse unknown = ask("GET", "/v1/models/gpt", kVersion);
  EXPECT_EQ(unknown.status, 404);
  EXPECT_EQ(Json::parse(unknown.body, nullptr, false)["error"]["type"], "not_found_error");
  EXPECT_EQ(Json::parse(ask("GET", "/v1/models").body, nullptr, false)["object"], "list");
}

TEST_F(AnthropicServerTest, AnswersOtherPathsAndMethodsInTheSameForm) {
  const ClientResponse method = ask("GET", "/v1/messages");
  EXPECT_EQ(method.status, 405);
  EXPECT_EQ(Json::parse(method.body, nullptr, false)["error"]["type"], "invalid_request_error");
  const ClientResponse path = ask("POST", "/v1/messages/batches", "Content-Length: 0\r\n");
  EXPECT_EQ(path.status, 404);
  EXPECT_EQ(Json::parse(path.body, nullptr, false)["error"]["type"], "not_found_error");
  EXPECT_FALSE(Json::parse(ask("GET", "/v1/messagesque").body, nullptr, false).contains("type"));
}

std::string capture(const std::string& name) {
  std::ifstream file(fmt::format("{}/tests/vectors/anthropic_clients/{}.json", DS4_SOURCE_DIR, name));
  std::stringstream body;
  body << file.rdbuf();
  return body.str();
}

struct CapturedPrompt {
  std::string text;
  std::vector<int32_t> tokens;
};

CapturedPrompt prompt_of(const std::string& name, const Tokenizer& tokenizer) {
  const ServedModel served{.id = "m", .name = "m", .ctx_tokens = 4096};
  auto parsed = parse_messages_request(capture(name), served);
  if (const auto* error = std::get_if<ApiError>(&parsed)) {
    ADD_FAILURE() << name << ": " << error->message;
    return {};
  }
  const auto& request = std::get<MessagesRequest>(parsed);
  const Result<RenderedPrompt> rendered = render(request.conversation, request.render);
  if (!rendered.ok()) {
    ADD_FAILURE() << name << ": " << rendered.error().message;
    return {};
  }
  return {rendered.value().to_text(), tokenizer.encode(rendered.value().segments)};
}

TEST(AnthropicCaptureTest, SecondTurnsBeginWithTheWholeFirstPrompt) {
  const auto file = GgufFile::open(kModel);
  ASSERT_TRUE(file.ok()) << file.error().message;
  const auto tokenizer = load_tokenizer(*file.value());
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.error().message;
  for (const std::string client : {"claude_code", "ai_sdk_anthropic", "anthropic_sdk"}) {
    const CapturedPrompt first = prompt_of(client + "_1", *tokenizer.value());
    const CapturedPrompt second = prompt_of(client + "_2", *tokenizer.value());
    ASSERT_GT(first.tokens.size(), 10U) << client;
    ASSERT_GT(second.tokens.size(), first.tokens.size()) << client;
    EXPECT_TRUE(std::equal(first.tokens.begin(), first.tokens.end(), second.tokens.begin())) << client;
    EXPECT_THAT(first.text, testing::EndsWith("<｜Assistant｜><think>")) << client;
  }
  EXPECT_GT(prompt_of("anthropic_sdk_3", *tokenizer.value()).tokens.size(), 0U);
}

TEST(AnthropicCaptureTest, ClaudeCodesPromptIsWhatTheSpecificationDemands) {
  const auto file = GgufFile::open(kModel);
  ASSERT_TRUE(file.ok()) << file.error().message;
  const auto tokenizer = load_tokenizer(*file.value());
  const std::string text = prompt_of("claude_code_2", *tokenizer.value()).text;
  // The billing line is dropped, tools are functions, the note stays behind the question, the call is followed by its
  // result.
  EXPECT_THAT(text, testing::StartsWith(
                        "<｜begin▁of▁sentence｜>You are a Claude agent, built on Anthropic's Claude Agent SDK."));
  EXPECT_THAT(text, testing::Not(HasSubstr("x-anthropic-billing-header")));
  EXPECT_THAT(text, testing::Not(HasSubstr("cache_control")));
  EXPECT_THAT(text, testing::Not(HasSubstr("input_schema")));
  EXPECT_THAT(text, HasSubstr("{\"name\": \"Bash\", \"description\": \"Executes a bash command"));
  EXPECT_THAT(text, HasSubstr("Say hi and run echo\n\nAvailable agent types for the Agent tool:"));
  EXPECT_THAT(text, HasSubstr("<｜Assistant｜><think>I should think about it.</think>\n\n<｜DSML｜tool_calls>"));
  EXPECT_THAT(text, testing::EndsWith("<｜User｜><tool_result>tool-ok</tool_result><｜Assistant｜><think>"));
}

}  // namespace
}  // namespace ds4
