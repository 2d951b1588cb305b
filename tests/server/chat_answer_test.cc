#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "server/open_answer.h"
#include "server/openai_chat.h"
#include "server/recording_responder.h"

namespace ds4 {
namespace {

using Json = nlohmann::ordered_json;
using test::RecordingResponder;
using testing::MatchesRegex;
using testing::SizeIs;

class ChatAnswerTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { set_log_level(LogLevel::kError); }
  static void TearDownTestSuite() { set_log_level(LogLevel::kInfo); }

  static ChatAnswerInfo info() {
    return {
        .id = "chatcmpl-1", .model = "m", .system_fingerprint = "fp_1", .created_s = 1700000000, .include_usage = true};
  }

  // Every event on its own, as an engine with one token per step sends them.
  void stream(OutputEvents events, const ChatAnswerInfo& answer) {
    const auto sink = test::open_answer(make_chat_stream(answer, responder_), responder_);
    for (OutputEvent& event : events) sink->on_events({std::move(event)});
  }
  Json answer(OutputEvents events) {
    const auto sink = test::open_answer(make_chat_answer(info(), responder_), responder_);
    sink->on_events(std::move(events));
    EXPECT_TRUE(responder_->has_sent);
    return Json::parse(responder_->whole.body, nullptr, false);
  }

  std::shared_ptr<RecordingResponder> responder_ = std::make_shared<RecordingResponder>();
};

const Usage kUsage{.prompt_tokens = 10, .completion_tokens = 7, .reasoning_tokens = 3, .cached_tokens = 4};

OutputEvents text_events() {
  return {PrefillProgress{5, 10}, ReasoningDelta{"hm"}, TextDelta{"Hell"}, TextDelta{"o\n\"x\""},
          Finished{FinishReason::kStop, kUsage}};
}

OutputEvents tool_events() {
  return {TextDelta{"Looking."},
          ToolCallBegin{0, "ls", "call_a"},
          ToolCallArgumentsDelta{0, R"({"path": ")"},
          ToolCallArgumentsDelta{0, R"(a"})"},
          ToolCallEnd{0, R"({"path": "a"})"},
          ToolCallBegin{1, "now", "call_b"},
          ToolCallArgumentsDelta{1, "{}"},
          ToolCallEnd{1, "{}"},
          Finished{FinishReason::kToolCalls, kUsage}};
}

TokenLogprobs token(const std::string& bytes, float logprob) {
  return {
      .chosen = {.token_id = 1, .bytes = bytes, .logprob = logprob},
      .top = {{.token_id = 1, .bytes = bytes, .logprob = logprob}, {.token_id = 2, .bytes = "\xC3", .logprob = -3.0F}}};
}

TEST_F(ChatAnswerTest, StreamsExactlyTheseBytes) {
  ChatAnswerInfo plain = info();
  plain.include_usage = false;
  stream({TextDelta{"Hi"}, Finished{FinishReason::kLength, kUsage}}, plain);
  const std::string envelope =
      R"(data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m","system_fingerprint":"fp_1","choices":)";
  EXPECT_EQ(responder_->stream,
            envelope +
                R"([{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]})" +
                "\n\n" + envelope + R"([{"index":0,"delta":{"content":"Hi"},"logprobs":null,"finish_reason":null}]})" +
                "\n\n" + envelope + R"([{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}]})" +
                "\n\ndata: [DONE]\n\n");
  EXPECT_TRUE(responder_->has_ended);
  EXPECT_EQ(responder_->whole.content_type, "text/event-stream");
  EXPECT_THAT(responder_->comment, MatchesRegex(": .*\n\n"));
}

TEST_F(ChatAnswerTest, StreamsReasoningThenContentThenUsage) {
  stream(text_events(), info());
  const std::vector<std::string> payloads = responder_->payloads();
  ASSERT_THAT(payloads, SizeIs(7));
  EXPECT_EQ(Json::parse(payloads[0])["choices"][0]["delta"]["role"], "assistant");
  EXPECT_TRUE(Json::parse(payloads[0])["usage"].is_null());
  EXPECT_EQ(Json::parse(payloads[1])["choices"][0]["delta"], Json({{"reasoning_content", "hm"}}));
  EXPECT_EQ(Json::parse(payloads[2])["choices"][0]["delta"], Json({{"content", "Hell"}}));
  EXPECT_EQ(Json::parse(payloads[3])["choices"][0]["delta"]["content"], "o\n\"x\"");
  EXPECT_EQ(Json::parse(payloads[4])["choices"][0]["finish_reason"], "stop");
  const Json usage = Json::parse(payloads[5]);
  EXPECT_EQ(usage["choices"], Json::array());
  EXPECT_EQ(
      usage["usage"].dump(),
      R"({"prompt_tokens":10,"completion_tokens":7,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":4},)"
      R"("completion_tokens_details":{"reasoning_tokens":3}})");
  EXPECT_EQ(payloads[6], "[DONE]");
}

TEST_F(ChatAnswerTest, StreamsToolCallsInFragments) {
  stream(tool_events(), info());
  std::vector<Json> calls;
  for (const std::string& payload : responder_->payloads()) {
    const Json json = Json::parse(payload, nullptr, false);
    if (json.is_object() && !json["choices"].empty() && json["choices"][0]["delta"].contains("tool_calls")) {
      calls.push_back(json["choices"][0]["delta"]["tool_calls"]);
    }
  }
  ASSERT_THAT(calls, SizeIs(5));
  EXPECT_EQ(calls[0][0]["id"], "call_a");
  EXPECT_EQ(calls[0][0]["index"], 0);
  EXPECT_EQ(calls[0][0]["type"], "function");
  EXPECT_EQ(calls[0][0]["function"], Json({{"name", "ls"}, {"arguments", ""}}));
  EXPECT_EQ(calls[1][0], Json({{"index", 0}, {"function", {{"arguments", R"({"path": ")"}}}}));
  EXPECT_EQ(calls[2][0]["function"]["arguments"], R"(a"})");
  EXPECT_EQ(calls[3][0]["index"], 1);
  EXPECT_EQ(calls[3][0]["id"], "call_b");
}

TEST_F(ChatAnswerTest, EndsAFailedStreamWithAnErrorEvent) {
  stream({TextDelta{"Hi"}, Failed{make_error(ErrorCode::kInternal, "device lost")}}, info());
  EXPECT_THAT(responder_->stream,
              testing::EndsWith("event: error\ndata: {\"error\":{\"message\":\"device "
                                "lost\",\"type\":\"server_error\",\"param\":null,\"code\":null}}\n\n"));
  EXPECT_TRUE(responder_->has_ended);
}

TEST_F(ChatAnswerTest, TellsAClientOfACancelledStream) {
  stream({Finished{FinishReason::kCancelled, kUsage}}, info());
  EXPECT_THAT(responder_->payloads().back(), testing::HasSubstr(R"("code":"cancelled")"));
  EXPECT_TRUE(responder_->has_ended);
}

TEST_F(ChatAnswerTest, StreamsLogprobsWithTheTextTheyBecame) {
  stream({token("h", -0.5F), ReasoningDelta{"h"}, token("</think>", -1.0F), token("\xC3", -2.0F), token("\xA4", -3.0F),
          TextDelta{"\xC3\xA4"}, token("<call>", -1.0F), ToolCallBegin{0, "f"}, token("!", -4.0F), TextDelta{"!"},
          Finished{FinishReason::kStop, kUsage}},
         info());
  const std::vector<std::string> payloads = responder_->payloads();
  const Json reasoning = Json::parse(payloads[1])["choices"][0]["logprobs"];
  EXPECT_TRUE(reasoning["content"].is_null());
  EXPECT_EQ(reasoning["reasoning_content"][0]["token"], "h");
  const Json content = Json::parse(payloads[2])["choices"][0]["logprobs"]["content"];
  ASSERT_THAT(content, SizeIs(3));
  EXPECT_EQ(content[1]["token"], "\xEF\xBF\xBD");
  EXPECT_EQ(content[1]["bytes"], Json::array({0xC3}));
  EXPECT_EQ(content[1]["logprob"], -2.0);
  EXPECT_EQ(content[1]["top_logprobs"][1]["logprob"], -3.0);
  EXPECT_THAT(Json::parse(payloads[4])["choices"][0]["logprobs"]["content"], SizeIs(1));
}

TEST_F(ChatAnswerTest, AnswersInOnePiece) {
  const Json json = answer(text_events());
  EXPECT_EQ(responder_->whole.status, 200);
  EXPECT_EQ(responder_->whole.content_type, "application/json");
  EXPECT_EQ(
      json.dump(),
      R"({"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"m","system_fingerprint":"fp_1","choices":[)"
      R"({"index":0,"message":{"role":"assistant","content":"Hello\n\"x\"","refusal":null,"reasoning_content":"hm"},)"
      R"("logprobs":null,"finish_reason":"stop"}],"usage":{"prompt_tokens":10,"completion_tokens":7,"total_tokens":17,)"
      R"("prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":3}}})");
}

TEST_F(ChatAnswerTest, AnswersWithToolCalls) {
  const Json choice = answer(tool_events())["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "tool_calls");
  EXPECT_EQ(choice["message"]["content"], "Looking.");
  const Json calls = choice["message"]["tool_calls"];
  ASSERT_THAT(calls, SizeIs(2));
  EXPECT_EQ(calls[0]["id"], "call_a");
  EXPECT_EQ(calls[1]["id"], "call_b");
  EXPECT_EQ(calls[0]["function"], Json({{"name", "ls"}, {"arguments", R"({"path": "a"})"}}));
  EXPECT_EQ(calls[1]["function"]["name"], "now");
}

TEST_F(ChatAnswerTest, HasNullContentWhenOnlyToolsWereCalled) {
  EXPECT_TRUE(answer({ToolCallBegin{0, "f"}, ToolCallEnd{0, R"({"n": 123456789012345678901234567890})"},
                      Finished{FinishReason::kToolCalls, kUsage}})["choices"][0]["message"]["content"]
                  .is_null());
  EXPECT_THAT(responder_->whole.body, testing::HasSubstr(R"({\"n\": 123456789012345678901234567890})"));
}

TEST_F(ChatAnswerTest, DropsACallThatWasCutOff) {
  const Json choice = answer({ToolCallBegin{0, "f"}, ToolCallArgumentsDelta{0, "{\"a"},
                              Finished{FinishReason::kLength, kUsage}})["choices"][0];
  EXPECT_EQ(choice["finish_reason"], "length");
  EXPECT_FALSE(choice["message"].contains("tool_calls"));
  EXPECT_EQ(choice["message"]["content"], "");
}

TEST_F(ChatAnswerTest, AnswersWithLogprobs) {
  const Json logprobs = answer({token("h", -0.5F), ReasoningDelta{"h"}, token("a", -1.0F), TextDelta{"a"},
                                token("", -2.0F), Finished{FinishReason::kStop, kUsage}})["choices"][0]["logprobs"];
  ASSERT_THAT(logprobs["content"], SizeIs(1));
  EXPECT_EQ(logprobs["content"][0]["token"], "a");
  EXPECT_THAT(logprobs["reasoning_content"], SizeIs(1));
}

TEST_F(ChatAnswerTest, AnswersFailuresWithTheirStatus) {
  answer({TextDelta{"half"}, Failed{make_error(ErrorCode::kOutOfMemory, "no pages left")}});
  EXPECT_EQ(responder_->whole.status, 503);
  EXPECT_EQ(responder_->whole.headers[0].name, "Retry-After");
  responder_ = std::make_shared<RecordingResponder>();
  answer({Finished{FinishReason::kCancelled, kUsage}});
  EXPECT_EQ(responder_->whole.status, 503);
}

TEST(ApiErrorTest, HasTheShapeThatClientsExpect) {
  EXPECT_EQ(
      openai_error_json({.status = 400,
                         .message = "a \"b\"",
                         .param = "messages",
                         .code = "context_length_exceeded",
                         .n_prompt_tokens = 5000,
                         .n_ctx = 4096}),
      R"({"error":{"message":"a \"b\"","type":"invalid_request_error","param":"messages","code":"context_length_exceeded",)"
      R"("n_prompt_tokens":5000,"n_ctx":4096}})");
  EXPECT_EQ(openai_error_response({.status = 429, .message = "busy"}).headers[0].name, "Retry-After");
  EXPECT_THAT(openai_error_json({.status = 429, .message = "busy"}), testing::HasSubstr("rate_limit_error"));
}

TEST(ApiNamesTest, MakesModelIdsWithoutSpaces) {
  EXPECT_EQ(model_id_from_name("DeepSeek V4 Flash"), "deepseek-v4-flash");
  EXPECT_EQ(model_id_from_name("ds4-mini"), "ds4-mini");
  EXPECT_EQ(model_id_from_name("a / b_1.2 "), "a-b_1.2");
  EXPECT_EQ(model_id_from_name(""), "deepseek-v4-flash");
  EXPECT_THAT(random_id("x-", 4), MatchesRegex("x-[0-9a-f]{8}"));
  EXPECT_NE(random_id("x-"), random_id("x-"));
}

}  // namespace
}  // namespace ds4
