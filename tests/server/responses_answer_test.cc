#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "base/rng.h"
#include "chat/output_parser.h"
#include "server/open_answer.h"
#include "server/responses_fixture.h"

namespace ds4 {
namespace {

using test::EventAccumulator;
using test::Json;
using test::KeepingResponder;
using testing::ElementsAre;
using testing::HasSubstr;

const Usage kUsage{.prompt_tokens = 10, .completion_tokens = 7, .reasoning_tokens = 3, .cached_tokens = 4};

constexpr const char* kTools = R"([
  {"type":"function","name":"ls","parameters":{"type":"object"}},
  {"type":"custom","name":"apply_patch","description":"d"},
  {"type":"namespace","name":"mcp__files__","description":"d","tools":[{"type":"function","name":"read","parameters":{}}]},
  {"type":"tool_search","execution":"client","description":"d","parameters":{}},
  {"type":"web_search"}])";

class ResponsesAnswerTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { set_log_level(LogLevel::kError); }
  static void TearDownTestSuite() { set_log_level(LogLevel::kInfo); }

  ResponsesPlan plan(const std::string& more = "") {
    const std::string body = R"({"model":"m","input":"hi","tools":)" + std::string(kTools) + more + "}";
    const ServedModel served{.id = "m", .name = "m", .ctx_tokens = 4096};
    auto parsed = parse_responses_request(body, served, *memory_);
    if (const auto* error = std::get_if<ApiError>(&parsed)) ADD_FAILURE() << error->message;
    ResponsesPlan plan = std::get<ResponsesRequest>(parsed).plan;
    plan.id = "resp_0123456789abcdef01234567";
    plan.created_s = 1700000000;
    return plan;
  }

  // Every event on its own, as an engine with one token per step sends them.
  std::vector<Json> stream(OutputEvents events, const std::string& more = "") {
    const auto responder = std::make_shared<KeepingResponder>();
    const auto sink = test::open_answer(make_responses_stream(plan(more), memory_, responder), responder);
    for (OutputEvent& event : events) sink->on_events({std::move(event)});
    EXPECT_TRUE(responder->has_ended);
    return test::parse_events(responder->bytes);
  }

  Json answer(OutputEvents events, const std::string& more = "") {
    const auto responder = std::make_shared<KeepingResponder>();
    const auto sink = test::open_answer(make_responses_answer(plan(more), memory_, responder), responder);
    sink->on_events(std::move(events));
    EXPECT_TRUE(responder->has_ended);
    return Json::parse(responder->bytes, nullptr, false);
  }

  // The events build what the terminal one says; also checks their order.
  static Json accumulate(const std::vector<Json>& events) {
    EventAccumulator accumulator;
    for (const Json& event : events) accumulator.add(event);
    Json response = accumulator.last["response"];
    EXPECT_EQ(events.back(), accumulator.last);
    EXPECT_EQ(nlohmann::json(accumulator.output), nlohmann::json(response["output"]));
    return response;
  }

  static std::vector<std::string> types(const std::vector<Json>& events) {
    std::vector<std::string> names;
    for (const Json& event : events) names.push_back(event["type"].get<std::string>().substr(9));
    return names;
  }

  std::shared_ptr<ResponsesMemory> memory_ = std::make_shared<ResponsesMemory>();
};

OutputEvents call(size_t index, const std::string& name, const std::vector<std::string>& fragments) {
  OutputEvents events{ToolCallBegin{index, name, fmt::format("call_{}", index)}};
  std::string whole;
  for (const std::string& fragment : fragments) {
    events.push_back(ToolCallArgumentsDelta{index, fragment});
    whole += fragment;
  }
  events.push_back(ToolCallEnd{index, whole});
  return events;
}

OutputEvents joined(std::vector<OutputEvents> lists) {
  OutputEvents all;
  for (OutputEvents& list : lists) std::move(list.begin(), list.end(), std::back_inserter(all));
  return all;
}

TEST_F(ResponsesAnswerTest, StreamsReasoningThenTextInTheProtocolsOrder) {
  const std::vector<Json> events =
      stream({ReasoningDelta{"h"}, ReasoningDelta{"m"}, TextDelta{"Hi"}, Finished{FinishReason::kStop, kUsage}});
  EXPECT_THAT(types(events),
              ElementsAre("created", "in_progress", "output_item.added", "content_part.added", "reasoning_text.delta",
                          "reasoning_text.delta", "reasoning_text.done", "content_part.done", "output_item.done",
                          "output_item.added", "content_part.added", "output_text.delta", "output_text.done",
                          "content_part.done", "output_item.done", "completed"));
  const Json response = accumulate(events);
  EXPECT_EQ(response["status"], "completed");
  EXPECT_EQ(response["output"][0]["content"], Json::parse(R"([{"type":"reasoning_text","text":"hm"}])"));
  EXPECT_EQ(response["output"][0]["summary"], Json::array());
  EXPECT_EQ(response["output"][1]["content"],
            Json::parse(R"([{"type":"output_text","text":"Hi","annotations":[],"logprobs":[]}])"));
  EXPECT_EQ(response["usage"],
            Json::parse(R"({"input_tokens":10,"input_tokens_details":{"cached_tokens":4,"cache_write_tokens":6},
                "output_tokens":7,"output_tokens_details":{"reasoning_tokens":3},"total_tokens":17})"));
}

TEST_F(ResponsesAnswerTest, HasEveryMemberThatTheSdkRequires) {
  const Json response =
      answer({TextDelta{"x"}, Finished{FinishReason::kStop, kUsage}},
             R"(,"metadata":{"a":"b"},"temperature":0.5,"max_output_tokens":99,"instructions":"Be kind")");
  for (const char* key : {"access_programs",
                          "background",
                          "completed_at",
                          "created_at",
                          "error",
                          "id",
                          "incomplete_details",
                          "instructions",
                          "max_output_tokens",
                          "metadata",
                          "model",
                          "object",
                          "output",
                          "parallel_tool_calls",
                          "previous_response_id",
                          "reasoning",
                          "status",
                          "store",
                          "temperature",
                          "text",
                          "tool_choice",
                          "tools",
                          "top_p",
                          "truncation",
                          "usage"}) {
    EXPECT_TRUE(response.contains(key)) << key;
  }
  EXPECT_EQ(response["metadata"]["a"], "b");
  EXPECT_EQ(response["temperature"], 0.5);
  EXPECT_EQ(response["max_output_tokens"], 99);
  EXPECT_EQ(response["tools"].size(), 5U);
  EXPECT_EQ(response["tools"][0]["strict"], false);
  EXPECT_EQ(response["text"], Json::parse(R"({"format":{"type":"text"}})"));
  EXPECT_TRUE(response["completed_at"].is_number());
}

TEST_F(ResponsesAnswerTest, GivesTheReasoningAsSummaryWhenAsked) {
  const std::vector<Json> events =
      stream({ReasoningDelta{"hm"}, Finished{FinishReason::kStop, kUsage}}, R"(,"reasoning":{"summary":"auto"})");
  EXPECT_THAT(types(events), testing::IsSupersetOf({"reasoning_summary_part.added", "reasoning_summary_text.delta",
                                                    "reasoning_summary_text.done", "reasoning_summary_part.done"}));
  EXPECT_EQ(accumulate(events)["output"][0]["summary"], Json::parse(R"([{"type":"summary_text","text":"hm"}])"));
}

TEST_F(ResponsesAnswerTest, SealsReasoningWhenAsked) {
  const Json response = answer({ReasoningDelta{"hm"}, Finished{FinishReason::kStop, kUsage}},
                               R"(,"include":["reasoning.encrypted_content"])");
  const std::string sealed = response["output"][0]["encrypted_content"];
  EXPECT_EQ(sealed.find("hm"), std::string::npos);
  EXPECT_EQ(memory_->sealer.open(sealed), "hm");
}

TEST_F(ResponsesAnswerTest, StreamsFunctionArgumentsAsTheyCome) {
  const std::vector<Json> events = stream(joined({{TextDelta{"Looking."}},
                                                  call(0, "ls", {R"({"path": ")", "a", R"("})"}),
                                                  call(1, "mcp__files__read", {"{}"}),
                                                  {Finished{FinishReason::kToolCalls, kUsage}}}));
  const Json output = accumulate(events)["output"];
  ASSERT_EQ(output.size(), 3U);
  EXPECT_EQ(output[1]["type"], "function_call");
  EXPECT_EQ(output[1]["call_id"], "call_0");
  EXPECT_EQ(output[1]["arguments"], R"({"path": "a"})");
  EXPECT_FALSE(output[1].contains("namespace"));
  EXPECT_EQ(output[2]["name"], "read");
  EXPECT_EQ(output[2]["namespace"], "mcp__files__");
  EXPECT_THAT(output[2]["id"].get<std::string>(), testing::MatchesRegex("fc_[0-9a-f]{28}"));
}

TEST_F(ResponsesAnswerTest, StreamsTheRawTextOfCustomTools) {
  const std::vector<Json> events =
      stream(joined({call(0, "apply_patch", {R"({"input": ")", R"(*** Begin\n\u00)", R"(41 \"q\")", R"( ü"})"}),
                     {Finished{FinishReason::kToolCalls, kUsage}}}));
  const Json item = accumulate(events)["output"][0];
  EXPECT_EQ(item["type"], "custom_tool_call");
  EXPECT_EQ(item["input"], "*** Begin\nA \"q\" ü");
  EXPECT_FALSE(item.contains("arguments"));
}

TEST_F(ResponsesAnswerTest, TakesWhatThereIsOfACustomToolWithOtherArguments) {
  EXPECT_EQ(answer(joined({call(0, "apply_patch", {R"({"patch": "x\n"})"}), {Finished{}}}))["output"][0]["input"],
            "x\n");
  EXPECT_EQ(answer(joined({call(0, "apply_patch", {R"({"a": 1, "b": 2})"}), {Finished{}}}))["output"][0]["input"],
            R"({"a": 1, "b": 2})");
  EXPECT_EQ(answer(joined({call(0, "apply_patch", {"{}"}), {Finished{}}}))["output"][0]["input"], "{}");
}

TEST_F(ResponsesAnswerTest, ReturnsToolSearchesAsObjects) {
  const Json item =
      accumulate(stream(joined({call(0, "tool_search", {R"({"query": "x"})"}), {Finished{}}})))["output"][0];
  EXPECT_EQ(item["type"], "tool_search_call");
  EXPECT_EQ(item["execution"], "client");
  EXPECT_EQ(item["arguments"], Json::parse(R"({"query":"x"})"));
}

TEST_F(ResponsesAnswerTest, SaysWhatTheLimitCutOff) {
  const std::vector<Json> events = stream({TextDelta{"Hal"}, Finished{FinishReason::kLength, kUsage}});
  const Json response = accumulate(events);
  EXPECT_EQ(types(events).back(), "incomplete");
  EXPECT_EQ(response["status"], "incomplete");
  EXPECT_EQ(response["incomplete_details"], Json::parse(R"({"reason":"max_output_tokens"})"));
  EXPECT_EQ(response["output"][0]["status"], "incomplete");
  EXPECT_TRUE(response["completed_at"].is_null());
}

TEST_F(ResponsesAnswerTest, NeverSaysThatACutOffCallIsDone) {
  for (const FinishReason reason : {FinishReason::kLength, FinishReason::kStop}) {
    const std::vector<Json> events =
        stream(joined({call(0, "ls", {"{}"}),
                       {ToolCallBegin{1, "apply_patch", "call_1"}, ToolCallArgumentsDelta{1, R"({"input": "rm)"},
                        Finished{reason, kUsage}}}));
    EventAccumulator accumulator;
    for (const Json& event : events) accumulator.add(event);
    EXPECT_EQ(accumulator.n_done, 1U);
    const Json item = accumulator.last["response"]["output"][1];
    EXPECT_EQ(item["status"], "incomplete");
    EXPECT_EQ(item["input"], "rm");
    EXPECT_EQ(accumulator.output[1]["input"], "rm");
  }
}

TEST_F(ResponsesAnswerTest, EndsWithTheErrorOfAFailure) {
  const std::vector<Json> events = stream({TextDelta{"x"}, Failed{make_error(ErrorCode::kInternal, "device lost")}});
  EXPECT_EQ(types(events).back(), "failed");
  EXPECT_EQ(events.back()["response"]["status"], "failed");
  EXPECT_EQ(events.back()["response"]["error"], Json::parse(R"({"code":"server_error","message":"device lost"})"));
  EXPECT_EQ(types(stream({Finished{FinishReason::kCancelled, {}}})).back(), "failed");
  const Json error = answer({Failed{make_error(ErrorCode::kInternal, "device lost")}});
  EXPECT_EQ(error["error"]["message"], "device lost");
}

TEST_F(ResponsesAnswerTest, SaysWhyAPromptDoesNotFit) {
  const std::vector<Json> events = test::parse_events(failed_responses_stream(
      plan(), {.status = 400, .message = "too long", .param = "input", .code = "context_length_exceeded"}));
  EXPECT_THAT(types(events), ElementsAre("created", "in_progress", "failed"));
  EXPECT_EQ(events.back()["response"]["error"]["code"], "context_length_exceeded");
}

TEST_F(ResponsesAnswerTest, SaysThatALongPromptIsBeingComputed) {
  const auto count = [this](size_t n_tokens) {
    OutputEvents events;
    for (size_t done = 512; done <= n_tokens; done += 512) events.push_back(PrefillProgress{done, n_tokens});
    events.push_back(Finished{});
    const std::vector<std::string> names = types(stream(std::move(events)));
    return std::count(names.begin(), names.end(), "in_progress");
  };
  EXPECT_EQ(count(1024), 1);
  EXPECT_EQ(count(5120), 3);
}

TEST_F(ResponsesAnswerTest, PutsLogprobsWhereTheirTextIs) {
  const auto token = [](const std::string& bytes) {
    return TokenLogprobs{.chosen = {.token_id = 1, .bytes = bytes, .logprob = -0.5F},
                         .top = {{.token_id = 2, .bytes = "\xC3", .logprob = -3.0F}}};
  };
  const std::vector<Json> events =
      stream({token("hm"), ReasoningDelta{"hm"}, token("H"), token("i"), TextDelta{"Hi"}, token(""), Finished{}});
  const Json part = accumulate(events)["output"][1]["content"][0];
  ASSERT_EQ(part["logprobs"].size(), 2U);
  EXPECT_EQ(part["logprobs"][1]["token"], "i");
  EXPECT_EQ(part["logprobs"][1]["bytes"], Json::parse("[105]"));
  EXPECT_EQ(part["logprobs"][1]["top_logprobs"][0]["bytes"], Json::parse("[195]"));
}

TEST_F(ResponsesAnswerTest, StoresBeforeTheClientKnows) {
  const Json response = answer(joined({{ReasoningDelta{"hm"}}, call(0, "ls", {"{}"}), {Finished{}}}));
  const auto stored = memory_->store.find(response["id"].get<std::string>());
  ASSERT_NE(stored, nullptr);
  EXPECT_EQ(Json::parse(stored->json), response);
  ASSERT_EQ(stored->output.size(), 2U);
  EXPECT_EQ(Json::parse(stored->output[1]->json), response["output"][1]);
  EXPECT_EQ(stored->input.size(), 1U);
  answer({TextDelta{"x"}, Finished{}}, R"(,"store":false)");
  EXPECT_EQ(memory_->store.n_responses(), 1U);
}

// However the model's bytes are cut, the response is the same, and its events build it.
TEST_F(ResponsesAnswerTest, DoesNotDependOnCuts) {
  const Markup markup = spelled_markup();
  const std::string tag = markup.tag_opener;
  const std::string close = markup.tag_closer;
  const std::string block = "\n\n" + markup.block_opener + "\n" + tag + "invoke name=\"apply_patch\">\n" + tag +
                            "parameter name=\"input\" string=\"true\">a \"quoted\" \\ line\n\tünd 😀</x>" + close +
                            "parameter>\n" + close + "invoke>\n" + tag + "invoke name=\"ls\">\n" + tag +
                            "parameter name=\"n\" string=\"false\">[1, {\"a\": null}]" + close + "parameter>\n" + tag +
                            "parameter name=\"s\" string=\"true\">é" + close + "parameter>\n" + close + "invoke>\n" +
                            tag + "invoke name=\"tool_search\">\n" + close + "invoke>\n" + close + "tool_calls>";
  const std::string text = "Thinking ünd so 😀</think>The \"answer\"\n\nis 42." + block;
  const auto run = [&](const std::vector<size_t>& cuts) {
    const auto responder = std::make_shared<KeepingResponder>();
    const auto sink = test::open_answer(make_responses_stream(plan(), memory_, responder), responder);
    OutputParser parser({.starts_in_thinking = true, .tools_enabled = true});
    size_t at = 0;
    for (const size_t cut : cuts) {
      sink->on_events(parser.push_text(std::string_view(text).substr(at, cut - at)));
      at = cut;
    }
    sink->on_events(parser.push_text(std::string_view(text).substr(at)));
    OutputEvents last = parser.finish(false);
    last.push_back(Finished{parser.finish_reason(), kUsage});
    sink->on_events(std::move(last));
    Json response = accumulate(test::parse_events(responder->bytes));
    response["completed_at"] = nullptr;
    return response.dump();
  };
  const std::string whole = run({});
  const Json output = Json::parse(whole)["output"];
  ASSERT_EQ(output.size(), 5U) << output.dump(1);
  EXPECT_EQ(output[2]["input"], "a \"quoted\" \\ line\n\tünd 😀</x>");
  EXPECT_EQ(output[3]["arguments"], R"({"n": [1, {"a": null}], "s": "é"})");
  std::vector<size_t> every_byte;
  for (size_t i = 1; i < text.size(); ++i) every_byte.push_back(i);
  EXPECT_EQ(run(every_byte), whole);
  for (uint64_t seed = 0; seed < 40; ++seed) {
    Xorshift64Star rng(seed + 1);
    std::vector<size_t> cuts;
    for (size_t i = 1; i < text.size(); ++i) {
      if (rng.next() % 9 == 0) cuts.push_back(i);
    }
    EXPECT_EQ(run(cuts), whole);
  }
}

}  // namespace
}  // namespace ds4
