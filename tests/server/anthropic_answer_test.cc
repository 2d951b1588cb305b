#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "chat/output_parser.h"
#include "server/anthropic_messages.h"
#include "server/anthropic_signature.h"
#include "server/open_answer.h"
#include "server/recording_responder.h"
#include "support/message_accumulator.h"

namespace ds4 {
namespace {

using Json = nlohmann::ordered_json;
using test::MessageAccumulator;
using test::RecordingResponder;
using testing::EndsWith;
using testing::HasSubstr;
using testing::SizeIs;
using testing::StartsWith;

const Usage kUsage{.prompt_tokens = 10, .completion_tokens = 7, .reasoning_tokens = 3, .cached_tokens = 4};

OutputEvents tool_events() {
  return {ReasoningDelta{"h"},
          ReasoningDelta{"m"},
          TextDelta{"Loo"},
          TextDelta{"king."},
          ToolCallBegin{0, "ls", "toolu_a"},
          ToolCallArgumentsDelta{0, R"({"path": ")"},
          ToolCallArgumentsDelta{0, R"(a"})"},
          ToolCallEnd{0, R"({"path": "a"})"},
          ToolCallBegin{1, "now", "toolu_b"},
          ToolCallArgumentsDelta{1, "{}"},
          ToolCallEnd{1, "{}"},
          Finished{FinishReason::kToolCalls, kUsage}};
}

class AnthropicAnswerTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { set_log_level(LogLevel::kError); }
  static void TearDownTestSuite() { set_log_level(LogLevel::kInfo); }

  static MessageInfo info() {
    return {.id = "msg_1", .request_id = "req_1", .model = "m", .prompt_tokens = 10, .max_tokens = 7};
  }

  // Every event on its own, as an engine with one token per step sends them.
  std::string stream(OutputEvents events, const MessageInfo& message = info()) {
    responder_ = std::make_shared<RecordingResponder>();
    const auto sink = test::open_answer(make_message_stream(message, responder_), responder_);
    for (OutputEvent& event : events) sink->on_events({std::move(event)});
    EXPECT_TRUE(responder_->has_ended);
    return responder_->stream;
  }
  Json streamed(OutputEvents events, const MessageInfo& message = info()) {
    const MessageAccumulator accumulated(stream(std::move(events), message));
    EXPECT_EQ(accumulated.problem(), "") << responder_->stream;
    return accumulated.message();
  }
  std::string answer(OutputEvents events, const MessageInfo& message = info()) {
    responder_ = std::make_shared<RecordingResponder>();
    const auto sink = test::open_answer(make_message_answer(message, responder_), responder_);
    sink->on_events(std::move(events));
    EXPECT_TRUE(responder_->has_sent);
    return responder_->whole.body;
  }
  Json answered(OutputEvents events, const MessageInfo& message = info()) {
    return Json::parse(answer(std::move(events), message), nullptr, false);
  }

  std::shared_ptr<RecordingResponder> responder_;
};

TEST_F(AnthropicAnswerTest, StreamsExactlyTheseBytes) {
  const std::string start =
      R"({"id":"msg_1","type":"message","role":"assistant","model":"m","content":[],"stop_reason":null,"stop_sequence":null,)"
      R"("stop_details":null,"container":null,"diagnostics":null,"usage":{"input_tokens":10,"cache_creation_input_tokens":0,)"
      R"("cache_read_input_tokens":0,"output_tokens":0,"output_tokens_details":{"thinking_tokens":0},"server_tool_use":null,)"
      R"("cache_creation":{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0},"service_tier":"standard",)"
      R"("inference_geo":null,"speed":null}})";
  EXPECT_EQ(
      stream({TextDelta{"Hi"}, Finished{FinishReason::kStop, kUsage}}),
      "event: message_start\ndata: {\"type\":\"message_start\",\"message\":" + start + "}\n\n" +
          "event: ping\ndata: {\"type\":\"ping\"}\n\n" +
          "event: content_block_start\ndata: "
          R"({"type":"content_block_start","index":0,"content_block":{"type":"text","text":"","citations":null}})" +
          "\n\nevent: content_block_delta\ndata: "
          R"({"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}})" +
          "\n\nevent: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n" +
          "event: message_delta\ndata: "
          R"({"type":"message_delta","delta":{"stop_reason":"end_turn","stop_sequence":null,"stop_details":null,)"
          R"("container":null},"usage":{"input_tokens":6,"cache_creation_input_tokens":0,"cache_read_input_tokens":4,)"
          R"("output_tokens":7,"output_tokens_details":{"thinking_tokens":3},"server_tool_use":null}})" +
          "\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
  EXPECT_EQ(responder_->whole.content_type, "text/event-stream");
  EXPECT_EQ(responder_->comment, "event: ping\ndata: {\"type\":\"ping\"}\n\n");
  EXPECT_EQ(responder_->whole.headers.back().name, "request-id");
  EXPECT_EQ(responder_->whole.headers.back().value, "req_1");
}

TEST_F(AnthropicAnswerTest, StreamsThinkingTextAndTools) {
  const Json message = streamed(tool_events());
  ASSERT_THAT(message["content"], SizeIs(4));
  EXPECT_EQ(message["content"][0]["thinking"], "hm");
  EXPECT_TRUE(signs_thinking(message["content"][0]["signature"].get<std::string>(), "hm"));
  EXPECT_EQ(message["content"][1], Json({{"type", "text"}, {"text", "Looking."}, {"citations", nullptr}}));
  EXPECT_EQ(message["content"][2].dump(),
            R"({"type":"tool_use","id":"toolu_a","name":"ls","input":{"path":"a"},"caller":{"type":"direct"}})");
  EXPECT_EQ(message["content"][3]["id"], "toolu_b");
  EXPECT_EQ(message["content"][3]["input"], Json::object());
  EXPECT_EQ(message["stop_reason"], "tool_use");
  EXPECT_EQ(message["usage"]["output_tokens"], 7);
}

TEST_F(AnthropicAnswerTest, StreamsArgumentsAsTheyCome) {
  const std::string bytes = stream(tool_events());
  EXPECT_THAT(bytes, HasSubstr(R"("index":2,"delta":{"type":"input_json_delta","partial_json":"{\"path\": \""})"));
  EXPECT_THAT(bytes, HasSubstr(R"("index":2,"delta":{"type":"input_json_delta","partial_json":"a\"}"})"));
}

TEST_F(AnthropicAnswerTest, AnswersInOnePieceWhatItStreams) {
  EXPECT_EQ(answered(tool_events()), streamed(tool_events()));
  answer(tool_events());
  EXPECT_EQ(responder_->whole.status, 200);
  EXPECT_EQ(responder_->whole.content_type, "application/json");
  EXPECT_EQ(responder_->whole.headers[0].value, "req_1");
}

TEST_F(AnthropicAnswerTest, KeepsNumbersAndKeyOrderOfToolInput) {
  const std::string input = R"({"z": 1.50, "a": 123456789012345678901234567890, "z2": {"b": 1e2}})";
  EXPECT_THAT(
      answer({ToolCallBegin{0, "f", "toolu_a"}, ToolCallEnd{0, input}, Finished{FinishReason::kToolCalls, kUsage}}),
      HasSubstr("\"input\":" + input));
}

TEST_F(AnthropicAnswerTest, HidesThinkingThatTheClientWantsOmitted) {
  MessageInfo omits = info();
  omits.omits_thinking = true;
  const Json message = streamed(tool_events(), omits);
  EXPECT_EQ(message["content"][0]["thinking"], "");
  EXPECT_EQ(signed_thinking(message["content"][0]["signature"].get<std::string>()), "hm");
  EXPECT_THAT(responder_->stream, testing::Not(HasSubstr("thinking_delta")));
  EXPECT_EQ(answered(tool_events(), omits), message);
}

TEST_F(AnthropicAnswerTest, HasTheFieldsOfTheBetaTypesWhenAsked) {
  MessageInfo beta = info();
  beta.is_beta = true;
  const Json message = streamed(tool_events(), beta);
  EXPECT_TRUE(message.contains("context_management"));
  EXPECT_TRUE(message["usage"].contains("iterations"));
  EXPECT_TRUE(message["usage"].contains("fallback_credit"));
  EXPECT_EQ(answered(tool_events(), beta), message);
  EXPECT_THAT(stream(tool_events(), beta), HasSubstr(R"("estimated_tokens":null)"));
}

TEST_F(AnthropicAnswerTest, SaysWhyItStopped) {
  const auto reason = [this](Finished finished) {
    const OutputEvents events{TextDelta{"a"}, std::move(finished)};
    const Json message = streamed(events);
    EXPECT_EQ(answered(events), message);
    return message["stop_reason"].get<std::string>() + " " + message["stop_sequence"].dump();
  };
  Usage below_limit = kUsage;
  below_limit.completion_tokens = 6;
  EXPECT_EQ(reason({FinishReason::kStop, kUsage}), "end_turn null");
  EXPECT_EQ(reason({FinishReason::kStop, kUsage, {}, "\"x\""}), R"(stop_sequence "\"x\"")");
  EXPECT_EQ(reason({FinishReason::kLength, kUsage}), "max_tokens null");
  EXPECT_EQ(reason({FinishReason::kLength, below_limit}), "model_context_window_exceeded null");
  EXPECT_EQ(reason({FinishReason::kToolCalls, kUsage}), "tool_use null");
}

TEST_F(AnthropicAnswerTest, NeverLacksTextAndTools) {
  for (const OutputEvents& events :
       {OutputEvents{Finished{}}, OutputEvents{ReasoningDelta{"hm"}, Finished{FinishReason::kLength, kUsage}}}) {
    const Json message = streamed(events);
    EXPECT_EQ(message["content"].back()["type"], "text");
    EXPECT_EQ(message["content"].back()["text"], "");
    EXPECT_EQ(answered(events), message);
  }
}

TEST_F(AnthropicAnswerTest, EndsACallThatWasCutOff) {
  const OutputEvents events{ToolCallBegin{0, "f", "toolu_a"}, ToolCallArgumentsDelta{0, "{\"a"},
                            Finished{FinishReason::kLength, kUsage}};
  const Json message = streamed(events);
  EXPECT_EQ(message["stop_reason"], "max_tokens");
  EXPECT_EQ(message["content"][0]["input"], "{\"a");
  // In one piece it is left out.
  const Json whole = answered(events);
  ASSERT_THAT(whole["content"], SizeIs(1));
  EXPECT_EQ(whole["content"][0]["type"], "text");
  EXPECT_EQ(whole["stop_reason"], "max_tokens");
}

TEST_F(AnthropicAnswerTest, EndsAFailedStreamWithAnErrorEvent) {
  EXPECT_THAT(stream({TextDelta{"Hi"}, Failed{make_error(ErrorCode::kInternal, "device lost")}}),
              EndsWith("event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"api_error\",\"message\":"
                       "\"device lost\"},\"request_id\":\"req_1\"}\n\n"));
  EXPECT_THAT(stream({Finished{FinishReason::kCancelled, kUsage}}), HasSubstr(R"("type":"overloaded_error")"));
}

TEST_F(AnthropicAnswerTest, AnswersFailuresWithTheirStatus) {
  EXPECT_THAT(answer({TextDelta{"half"}, Failed{make_error(ErrorCode::kInternal, "device lost")}}),
              StartsWith(R"({"type":"error","error":{"type":"api_error",)"));
  EXPECT_EQ(responder_->whole.status, 500);
  answer({Finished{FinishReason::kCancelled, kUsage}});
  EXPECT_EQ(responder_->whole.status, 529);
  EXPECT_EQ(responder_->whole.headers.back().name, "Retry-After");
}

// What the model writes, cut into pieces of any size, gives the same message.
TEST_F(AnthropicAnswerTest, DoesNotDependOnHowTheModelsBytesAreCut) {
  const std::string call =
      "<｜DSML｜invoke name=\"f\"><｜DSML｜parameter name=\"a\" string=\"true\">x\"y\n你</｜DSML｜parameter>"
      "<｜DSML｜parameter name=\"b\" string=\"false\">{\"n\": 1.50}</｜DSML｜parameter></｜DSML｜invoke>";
  const std::vector<std::string> outputs{
      "Let me see… <b>\n</think>Sure: 你好 <x>\n\n<｜DSML｜tool_calls>" + call + call + "</｜DSML｜tool_calls>",
      "unfinished thought",
      "</think>only STOP text",
      "t</think>a \xF0\x9F b",
      "",
      "t\n\n<｜DSML｜tool_calls>" + call + "</｜DSML｜tool_calls>",
  };
  std::mt19937 random(5);
  for (const std::string& output : outputs) {
    const auto run = [&](const std::function<size_t()>& piece) {
      OutputParser parser({.starts_in_thinking = true, .tools_enabled = true, .stop_strings = {"STOP"}});
      OutputEvents all;
      const auto keep = [&all](OutputEvents events) {
        for (OutputEvent& event : events) {
          if (auto* begin = std::get_if<ToolCallBegin>(&event)) begin->id = fmt::format("toolu_{}", begin->index);
          all.push_back(std::move(event));
        }
      };
      for (size_t at = 0; at < output.size();) {
        const size_t n = std::min(piece(), output.size() - at);
        keep(parser.push_text(std::string_view(output).substr(at, n)));
        at += n;
      }
      keep(parser.finish(false));
      all.emplace_back(Finished{parser.finish_reason(), kUsage, {}, parser.matched_stop_string()});
      const Json message = streamed(all);
      EXPECT_EQ(answered(all), message) << output;
      return message;
    };
    const Json whole = run([] { return size_t{1} << 20; });
    EXPECT_EQ(run([] { return size_t{1}; }), whole);
    for (int round = 0; round < 20; ++round) EXPECT_EQ(run([&] { return 1 + random() % 9; }), whole) << output;
  }
}

TEST(AnthropicErrorTest, HasTheShapeThatClientsExpect) {
  EXPECT_EQ(anthropic_error_json({.status = 400,
                                  .message = "whatever",
                                  .param = "messages",
                                  .code = "context_length_exceeded",
                                  .n_prompt_tokens = 5000,
                                  .n_ctx = 4096},
                                 "req_1"),
            R"({"type":"error","error":{"type":"invalid_request_error","message":"prompt is too long: 5000 tokens > )"
            R"(4095 maximum","n_prompt_tokens":5000,"n_ctx":4096},"request_id":"req_1"})");
  const auto type = [](int status) {
    const Json json = Json::parse(anthropic_error_json({.status = status, .message = "a \"b\""}, "r"), nullptr, false);
    EXPECT_EQ(json["error"]["message"], "a \"b\"");
    return json["error"]["type"].get<std::string>();
  };
  EXPECT_EQ(type(400), "invalid_request_error");
  EXPECT_EQ(type(401), "authentication_error");
  EXPECT_EQ(type(403), "permission_error");
  EXPECT_EQ(type(404), "not_found_error");
  EXPECT_EQ(type(405), "invalid_request_error");
  EXPECT_EQ(type(413), "request_too_large");
  EXPECT_EQ(type(429), "rate_limit_error");
  EXPECT_EQ(type(500), "api_error");
  EXPECT_EQ(type(503), "overloaded_error");
}

TEST(AnthropicErrorTest, TellsBusyClientsWhenToComeBack) {
  const HttpResponse busy = anthropic_error_response(to_api_error(make_error(ErrorCode::kBusy, "64 wait"), ""));
  EXPECT_EQ(busy.status, 529);
  EXPECT_EQ(busy.headers.back().name, "Retry-After");
  EXPECT_THAT(busy.headers.front().value, testing::MatchesRegex("req_[0-9a-f]{24}"));
  EXPECT_EQ(Json::parse(busy.body, nullptr, false)["request_id"], busy.headers.front().value);
}

}  // namespace
}  // namespace ds4
