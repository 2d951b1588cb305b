// A prompt that does not fit, as each dialect says it. Clients recognise these forms and summarise; any other error
// ends their turn, or makes them ask again.

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/log.h"
#include "engine/sequence.h"
#include "server/recording_responder.h"
#include "server/routes.h"

namespace ds4 {
namespace {

using Json = nlohmann::ordered_json;

constexpr int32_t kCtxTokens = 65'536;
constexpr size_t kPromptTokens = 70'000;

// An engine to which every prompt is too long.
class FullGenerator final : public Generator {
 public:
  const ServedModel& model() const override { return model_; }
  Result<GenerateRequest> prepare(const Conversation&, const RenderOptions&) const override {
    TRY(check_prompt_fits(kPromptTokens, kCtxTokens));
    return GenerateRequest{};
  }
  Result<void> submit(GenerateRequest) override { return make_error(ErrorCode::kInternal, "nothing is to be run"); }
  Result<size_t> count_prompt_tokens(const Conversation&, const RenderOptions&) const override { return kPromptTokens; }

 private:
  ServedModel model_{.id = "m", .name = "m", .ctx_tokens = kCtxTokens};
};

class ContextOverflowTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { set_log_level(LogLevel::kError); }
  static void TearDownTestSuite() { set_log_level(LogLevel::kInfo); }

  std::shared_ptr<test::RecordingResponder> post(std::string target, std::string body) {
    auto responder = std::make_shared<test::RecordingResponder>();
    HttpRequest request;
    request.method = "POST";
    request.target = std::move(target);
    request.body = std::move(body);
    routes_.handle(std::move(request), responder);
    EXPECT_TRUE(responder->has_sent) << "an answer in one piece, before any stream";
    return responder;
  }

  FullGenerator generator_;
  Routes routes_{generator_};
};

TEST_F(ContextOverflowTest, ChatCompletionsSayItAsOpenAiDoes) {
  for (const char* stream : {"false", "true"}) {
    const auto responder = post("/v1/chat/completions",
                                fmt::format(R"({{"stream":{},"messages":[{{"role":"user","content":"x"}}]}})", stream));
    EXPECT_EQ(responder->whole.status, 400);
    const Json error = Json::parse(responder->whole.body)["error"];
    EXPECT_EQ(error["code"], "context_length_exceeded");
    EXPECT_EQ(error["type"], "invalid_request_error");
    EXPECT_EQ(error["param"], "messages");
    EXPECT_EQ(error["n_prompt_tokens"], kPromptTokens);
    EXPECT_EQ(error["n_ctx"], kCtxTokens);
    // The words that clients look for, with the number.
    EXPECT_THAT(error["message"].get<std::string>(), testing::HasSubstr("maximum context length is 65536 tokens"));
    EXPECT_THAT(error["message"].get<std::string>(), testing::HasSubstr("70000 tokens"));
  }
}

TEST_F(ContextOverflowTest, MessagesSayItAsAnthropicDoes) {
  for (const char* stream : {"false", "true"}) {
    const auto responder =
        post("/v1/messages",
             fmt::format(R"({{"max_tokens":9,"stream":{},"messages":[{{"role":"user","content":"x"}}]}})", stream));
    EXPECT_EQ(responder->whole.status, 400);
    const Json body = Json::parse(responder->whole.body);
    EXPECT_EQ(body["type"], "error");
    EXPECT_EQ(body["error"]["type"], "invalid_request_error");
    // Claude Code reads both numbers of this sentence; it must be the whole message.
    EXPECT_EQ(body["error"]["message"], "prompt is too long: 70000 tokens > 65535 maximum");
  }
}

TEST_F(ContextOverflowTest, ResponsesSayItInTheStreamAndAsAnError) {
  const auto whole = post("/v1/responses", R"({"input":"x"})");
  EXPECT_EQ(whole->whole.status, 400);
  const Json error = Json::parse(whole->whole.body)["error"];
  EXPECT_EQ(error["code"], "context_length_exceeded");
  EXPECT_EQ(error["param"], "input");
  EXPECT_THAT(error["message"].get<std::string>(), testing::HasSubstr("maximum context length is 65536 tokens"));

  // Codex takes a 400 for a plain failure, and this event for what it is.
  const auto streamed = post("/v1/responses", R"({"input":"x","stream":true})");
  EXPECT_EQ(streamed->whole.status, 200);
  EXPECT_EQ(streamed->whole.content_type, "text/event-stream");
  const std::string& events = streamed->whole.body;
  ASSERT_TRUE(events.starts_with("event: response.created\n")) << events;
  const size_t last = events.rfind("event: ");
  ASSERT_TRUE(events.substr(last).starts_with("event: response.failed\ndata: ")) << events.substr(last);
  const Json failed = Json::parse(events.substr(events.find('{', last)), nullptr, false);
  EXPECT_EQ(failed["type"], "response.failed");
  EXPECT_EQ(failed["response"]["status"], "failed");
  EXPECT_EQ(failed["response"]["error"]["code"], "context_length_exceeded");
  EXPECT_THAT(failed["response"]["error"]["message"].get<std::string>(),
              testing::HasSubstr("maximum context length is 65536 tokens"));
}

TEST_F(ContextOverflowTest, CountingIsNoError) {
  const auto responder = post("/v1/messages/count_tokens", R"({"messages":[{"role":"user","content":"x"}]})");
  EXPECT_EQ(responder->whole.status, 200);
  EXPECT_EQ(Json::parse(responder->whole.body)["input_tokens"], kPromptTokens);
}

}  // namespace
}  // namespace ds4
