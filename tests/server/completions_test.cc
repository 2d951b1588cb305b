#include <memory>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "server/choices.h"
#include "server/engine_server.h"
#include "server/openai_completions.h"
#include "server/recording_responder.h"

namespace ds4 {
namespace {

using Json = nlohmann::ordered_json;
using testing::ElementsAre;
using testing::HasSubstr;

std::variant<CompletionRequest, ApiError> parse(std::string body) {
  return parse_completion_request(std::move(body), {.id = "m", .name = "m", .ctx_tokens = 4096});
}

CompletionRequest accepted(std::string body) {
  auto parsed = parse(std::move(body));
  const auto* error = std::get_if<ApiError>(&parsed);
  EXPECT_EQ(error, nullptr) << error->message;
  return error == nullptr ? std::get<CompletionRequest>(parsed) : CompletionRequest{};
}

std::string refused_param(std::string body) {
  auto parsed = parse(std::move(body));
  const auto* error = std::get_if<ApiError>(&parsed);
  return error == nullptr ? "accepted" : error->param;
}

TEST(CompletionRequestTest, TakesPromptsOfEveryForm) {
  EXPECT_THAT(accepted(R"({"prompt":"a"})").prompts, ElementsAre(RawPrompt("a")));
  EXPECT_THAT(accepted(R"({"prompt":["a",""]})").prompts, ElementsAre(RawPrompt("a"), RawPrompt("")));
  EXPECT_THAT(accepted(R"({"prompt":[1,2]})").prompts, ElementsAre(RawPrompt(std::vector<int32_t>{1, 2})));
  EXPECT_THAT(accepted(R"({"prompt":[[1],[2]]})").prompts,
              ElementsAre(RawPrompt(std::vector<int32_t>{1}), RawPrompt(std::vector<int32_t>{2})));
}

TEST(CompletionRequestTest, HasTheDefaultsOfTheApi) {
  const CompletionRequest request = accepted(R"({"prompt":"a","suffix":null,"logit_bias":{},"user":"u"})");
  EXPECT_EQ(request.max_tokens, 16);
  EXPECT_EQ(request.n, 1);
  EXPECT_EQ(request.n_top_logprobs, -1);
  EXPECT_FALSE(request.echo || request.stream || request.include_usage);
}

TEST(CompletionRequestTest, ReadsItsOwnFields) {
  const CompletionRequest request = accepted(
      R"({"prompt":"a","max_tokens":0,"n":2,"best_of":2,"logprobs":3,"stop":["x"],"stream":true,
          "stream_options":{"include_usage":true}})");
  EXPECT_EQ(request.max_tokens, 0);
  EXPECT_EQ(request.n, 2);
  EXPECT_EQ(request.n_top_logprobs, 3);
  EXPECT_THAT(request.stop_strings, ElementsAre("x"));
  EXPECT_TRUE(request.stream && request.include_usage);
}

TEST(CompletionRequestTest, ReadsPenaltiesAndBiases) {
  const CompletionRequest request = accepted(
      R"({"prompt":"a","presence_penalty":0.5,"frequency_penalty":-1,"repetition_penalty":2,"logit_bias":{"7":-100}})");
  EXPECT_EQ(request.sampling.presence_penalty, 0.5F);
  EXPECT_EQ(request.sampling.frequency_penalty, -1.0F);
  EXPECT_EQ(request.sampling.repetition_penalty, 2.0F);
  ASSERT_EQ(request.sampling.logit_bias.size(), 1U);
  EXPECT_EQ(request.sampling.logit_bias[0].token, 7);
}

TEST(CompletionRequestTest, NamesWhatItRefuses) {
  EXPECT_EQ(refused_param("{}"), "prompt");
  EXPECT_EQ(refused_param(R"({"prompt":{}})"), "prompt");
  EXPECT_EQ(refused_param(R"({"prompt":[]})"), "prompt");
  EXPECT_EQ(refused_param(R"({"prompt":["a",1]})"), "prompt[1]");
  EXPECT_EQ(refused_param(R"({"prompt":[1,-2]})"), "prompt[1]");
  EXPECT_EQ(refused_param(R"({"prompt":[1,2.5]})"), "prompt[1]");
  EXPECT_EQ(refused_param(R"({"prompt":"a","suffix":"b"})"), "suffix");
  EXPECT_EQ(refused_param(R"({"prompt":"a","best_of":3})"), "best_of");
  EXPECT_EQ(refused_param(R"({"prompt":"a","n":17})"), "n");
  EXPECT_EQ(refused_param(R"({"prompt":"a","logprobs":21})"), "logprobs");
  EXPECT_EQ(refused_param(R"({"prompt":"a","logprobs":1,"echo":true})"), "logprobs");
  EXPECT_EQ(refused_param(R"({"prompt":"a","frequency_penalty":3})"), "frequency_penalty");
  EXPECT_EQ(refused_param(R"({"prompt":"a","presence_penalty":"x"})"), "presence_penalty");
  EXPECT_EQ(refused_param(R"({"prompt":"a","logit_bias":{"7":101}})"), "logit_bias.7");
}

class CompletionAnswerTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { set_log_level(LogLevel::kError); }
  static void TearDownTestSuite() { set_log_level(LogLevel::kInfo); }

  void make(bool stream, std::vector<std::string> echos, int32_t n = 1) {
    gate_ = std::make_shared<AnswerGate>(
        make_completion_answer(
            {.id = "cmpl-1", .model = "m", .stream = stream, .include_usage = true, .n = n, .echos = std::move(echos)},
            responder_),
        responder_);
  }
  Json body() const { return Json::parse(responder_->whole.body, nullptr, false); }

  static TokenLogprobs token(const char* bytes) {
    return {.chosen = {1, bytes, -0.5F}, .top = {{1, bytes, -0.5F}, {2, "z", -1.0F}}};
  }

  std::shared_ptr<test::RecordingResponder> responder_ = std::make_shared<test::RecordingResponder>();
  std::shared_ptr<AnswerGate> gate_;
};

TEST_F(CompletionAnswerTest, WaitsForAllChoices) {
  make(false, {"", "", "", ""}, 2);
  gate_->begin();
  for (const size_t i : {3U, 0U, 2U}) {
    gate_->choice(i)->on_events(
        {TextDelta{std::to_string(i)}, Finished{FinishReason::kLength, {.prompt_tokens = 5, .completion_tokens = 1}}});
    EXPECT_EQ(responder_->whole.body, "");
  }
  gate_->choice(1)->on_events({Finished{FinishReason::kStop, {.prompt_tokens = 5, .cached_tokens = 5}}});
  ASSERT_EQ(body()["choices"].size(), 4U);
  EXPECT_EQ(body()["choices"][3]["text"], "3");
  EXPECT_EQ(body()["choices"][1]["finish_reason"], "stop");
  EXPECT_EQ(body()["usage"]["prompt_tokens"], 10);  // two prompts
  EXPECT_EQ(body()["usage"]["completion_tokens"], 3);
}

TEST_F(CompletionAnswerTest, KeepsWhatComesBeforeItBegins) {
  make(true, {"<", ""});
  gate_->choice(1)->on_events({TextDelta{"early"}});
  EXPECT_EQ(responder_->stream, "");
  gate_->begin();
  EXPECT_LT(responder_->stream.find(R"("text":"<","index":0)"), responder_->stream.find(R"("text":"early","index":1)"));
}

TEST_F(CompletionAnswerTest, StreamsToTheEnd) {
  make(true, {""});
  gate_->begin();
  gate_->choice(0)->on_events({TextDelta{"a"}});
  gate_->choice(0)->on_events({Finished{FinishReason::kStop, {.prompt_tokens = 2, .completion_tokens = 1}}});
  EXPECT_TRUE(responder_->has_ended);
  EXPECT_THAT(responder_->stream, HasSubstr(R"("finish_reason":"stop")"));
  EXPECT_THAT(responder_->stream, HasSubstr(R"("choices":[],"usage":{"prompt_tokens":2)"));
  EXPECT_THAT(responder_->stream, testing::EndsWith("data: [DONE]\n\n"));
}

TEST_F(CompletionAnswerTest, LeavesOutTheLogprobsOfTextThatWasCutOff) {
  make(false, {"é"});
  gate_->begin();
  gate_->choice(0)->on_events({token("ab"), token("\xC3"), token("\xA4"), token("stop")});
  gate_->choice(0)->on_events({TextDelta{"abä"}, Finished{}});
  const Json logprobs = body()["choices"][0]["logprobs"];
  EXPECT_EQ(logprobs["tokens"].size(), 3U);
  EXPECT_EQ(logprobs["text_offset"], Json({1, 3, 3}));
  EXPECT_EQ(logprobs["top_logprobs"][0]["z"], -1.0);
}

TEST_F(CompletionAnswerTest, OneFailureEndsAll) {
  make(false, {"", ""});
  gate_->begin();
  gate_->choice(0)->on_events({Failed{make_error(ErrorCode::kInternal, "broken")}});
  EXPECT_EQ(responder_->whole.status, 500);
  EXPECT_TRUE(*responder_->flag);
  responder_->whole = {};
  gate_->choice(1)->on_events({Finished{FinishReason::kCancelled, {}}});
  EXPECT_EQ(responder_->whole.body, "");
}

// Over a real engine: random weights, so only the form of the answers is known.
class CompletionServerTest : public test::EngineServerTest {
 protected:
  CompletionServerTest() { start(test::tiny_engine(256), {.max_waiting = 8}); }

  Json post(std::string_view path, std::string_view body) {
    return Json::parse(EngineServerTest::post(path, body).body, nullptr, false);
  }
};

TEST_F(CompletionServerTest, AddsOnlyTheBos) {
  const Json text = post("/v1/completions", R"({"prompt":"hello","max_tokens":4,"temperature":0})");
  const size_t n = engine_->tokenizer()->encode_text("hello").size();
  EXPECT_EQ(text["object"], "text_completion");
  EXPECT_EQ(text["usage"]["prompt_tokens"], n + 1);
  EXPECT_EQ(text["choices"].size(), 1U);

  const Json tokens = post("/tokenize", R"({"content":"hello","add_special":true})")["tokens"];
  EXPECT_EQ(tokens.size(), n + 1);
  const Json same =
      post("/v1/completions", fmt::format(R"({{"prompt":{},"max_tokens":4,"temperature":0}})", tokens.dump()));
  EXPECT_EQ(same["usage"]["prompt_tokens"], n + 1);
  EXPECT_EQ(same["choices"][0]["text"], text["choices"][0]["text"]);
}

TEST_F(CompletionServerTest, StopsAtAStringInRawText) {
  std::string fields;
  std::string whole;
  for (int seed = 1; seed < 50 && whole.size() < 8; ++seed) {
    fields = fmt::format(R"("prompt":"abc","max_tokens":40,"seed":{})", seed);
    whole = post("/v1/completions", "{" + fields + "}")["choices"][0]["text"];
  }
  ASSERT_GE(whole.size(), 8U);
  size_t begin = whole.size() / 2;
  while ((static_cast<uint8_t>(whole[begin]) & 0xC0U) == 0x80U) --begin;
  const std::string stop = whole.substr(begin);
  const Json cut = post("/v1/completions", "{" + fields + R"(,"stop":)" + Json(stop).dump() + "}");
  EXPECT_EQ(cut["choices"][0]["text"].get<std::string>(), whole.substr(0, whole.find(stop)));
  EXPECT_EQ(cut["choices"][0]["finish_reason"], "stop");
}

TEST_F(CompletionServerTest, EchoesAndMultiplies) {
  const Json echo = post("/v1/completions", R"({"prompt":"abc","max_tokens":0,"echo":true})");
  EXPECT_EQ(echo["choices"][0]["text"], "abc");
  EXPECT_EQ(echo["choices"][0]["finish_reason"], "length");

  const Json many = post("/v1/completions", R"({"prompt":["abc","abd"],"n":2,"max_tokens":6,"seed":7,"echo":true})");
  ASSERT_EQ(many["choices"].size(), 4U);
  EXPECT_THAT(many["choices"][3]["text"].get<std::string>(), testing::StartsWith("abd"));
  const Json one = post("/v1/completions", R"({"prompt":"abc","max_tokens":6,"seed":7,"echo":true})");
  EXPECT_EQ(one["choices"][0]["text"], many["choices"][0]["text"]);
}

TEST_F(CompletionServerTest, BiasesDecide) {
  // The one token that is left, whatever the weights say.
  const Json biased =
      post("/v1/completions", R"({"prompt":"abc","max_tokens":5,"temperature":0,"logit_bias":{"66":100}})");
  const std::string token(engine_->tokenizer()->token_bytes(66));
  std::string expected;
  for (int i = 0; i < 5; ++i) expected += token;
  EXPECT_EQ(biased["choices"][0]["text"], expected);
  // Each repetition makes it less likely than it was.
  const Json punished =
      post("/v1/completions",
           R"({"prompt":"abc","max_tokens":64,"temperature":0,"logit_bias":{"66":5},"frequency_penalty":2})");
  const Json plain =
      post("/v1/completions", R"({"prompt":"abc","max_tokens":64,"temperature":0,"logit_bias":{"66":5}})");
  EXPECT_NE(punished["choices"][0]["text"], plain["choices"][0]["text"]);
}

TEST_F(CompletionServerTest, RefusesWhatTheEngineCannotTake) {
  EXPECT_EQ(post("/v1/completions", R"({"prompt":[1,999999]})")["error"]["param"], "prompt");
  const Json too_long = post("/v1/completions", fmt::format(R"({{"prompt":"{}"}})", std::string(5000, 'x')));
  EXPECT_EQ(too_long["error"]["code"], "context_length_exceeded");
  EXPECT_EQ(too_long["error"]["n_ctx"], 256);
  const Json too_many = post("/v1/completions", R"({"prompt":["a","b","c"],"n":16,"max_tokens":100})");
  EXPECT_EQ(too_many["error"]["code"], "server_busy");
  // Those that were taken already end within a step.
  Json next;
  for (int i = 0; i < 100 && !next.contains("choices"); ++i) next = post("/v1/completions", R"({"prompt":"a"})");
  EXPECT_EQ(next["choices"].size(), 1U);
}

TEST_F(CompletionServerTest, TokenizesAndBack) {
  const Json pieces = post("/tokenize", R"({"content":"h\u00e4llo","with_pieces":true})");
  std::vector<int32_t> ids;
  for (const Json& token : pieces["tokens"]) ids.push_back(token["id"]);
  EXPECT_EQ(pieces["count"], ids.size());
  EXPECT_EQ(post("/detokenize", fmt::format(R"({{"tokens":{}}})", Json(ids).dump()))["content"], "hällo");

  const Json chat = post("/tokenize", R"({"messages":[{"role":"user","content":"hi"}]})")["tokens"];
  EXPECT_EQ(chat.front(), *engine_->tokenizer()->control_id(ControlToken::kBos));
  EXPECT_THAT(post("/detokenize", fmt::format(R"({{"tokens":{}}})", chat.dump()))["content"].get<std::string>(),
              HasSubstr("hi"));
  EXPECT_EQ(post("/tokenize", R"({"content":"</think>"})")["count"].get<size_t>(),
            engine_->tokenizer()->encode_text("</think>").size());
  EXPECT_EQ(post("/tokenize", R"({"content":"</think>","parse_special":true})")["count"], 1);
  EXPECT_EQ(post("/tokenize", "{}")["error"]["param"], "content");
  EXPECT_EQ(post("/detokenize", R"({"tokens":[0,9999999]})")["error"]["param"], "tokens[1]");
  EXPECT_EQ(post("/detokenize", "{}")["error"]["param"], "tokens");
}

TEST_F(CompletionServerTest, TellsWhatItIs) {
  HttpClient client(server_->port());
  const Json props = Json::parse(client.get("/props").body, nullptr, false);
  EXPECT_EQ(props["ctx_tokens"], 256);
  EXPECT_EQ(props["slots"], 2);
  EXPECT_EQ(props["vocabulary"]["tokens"], engine_->tokenizer()->n_vocab());
  EXPECT_THAT(props["endpoints"].get<std::vector<std::string>>(), testing::Contains("POST /v1/completions"));
}

}  // namespace
}  // namespace ds4
