#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <set>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "server/engine_server.h"

namespace ds4 {
namespace {

using Json = nlohmann::ordered_json;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr const char* kChat = R"({"messages":[{"role":"user","content":"hi"}]})";
constexpr const char* kStream = R"({"messages":[{"role":"user","content":"hi"}],"stream":true})";

// Keeps submitted requests; the test plays the engine.
class FakeGenerator final : public Generator {
 public:
  const ServedModel& model() const override { return model_; }

  Result<GenerateRequest> prepare(const Conversation& conversation, const RenderOptions&) const override {
    if (conversation.messages.back().content == "too long") {
      return make_error(ErrorCode::kContextLength, "the prompt is too long");
    }
    GenerateRequest request;
    request.prompt_tokens = {1};
    return request;
  }

  Result<void> submit(GenerateRequest request) override {
    const std::lock_guard lock(mutex_);
    if (busy || n_accepted == 0) return make_error(ErrorCode::kBusy, "64 requests wait already");
    --n_accepted;
    requests_.push_back(std::move(request));
    changed_.notify_all();
    return {};
  }

  Result<size_t> count_prompt_tokens(const Conversation&, const RenderOptions&) const override { return size_t{5000}; }

  GenerateRequest take() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, std::chrono::seconds(5), [this] { return !requests_.empty(); })) {
      ADD_FAILURE() << "no request came";
      return {};
    }
    GenerateRequest request = std::move(requests_.front());
    requests_.erase(requests_.begin());
    return request;
  }

  bool busy = false;
  int n_accepted = 1000;

 private:
  ServedModel model_{.id = "ds4-mini", .name = "DS4 mini", .created_s = 5, .ctx_tokens = 4096};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<GenerateRequest> requests_;
};

std::string content_of(const std::string& event) {
  const Json json = Json::parse(event.substr(event.find('{')), nullptr, false);
  return json["choices"][0]["delta"].value("content", "");
}

class ChatServerTest : public testing::Test {
 protected:
  static void SetUpTestSuite() { set_log_level(LogLevel::kError); }
  static void TearDownTestSuite() { set_log_level(LogLevel::kInfo); }

  uint16_t port() const { return server_->port(); }

  static bool becomes_true(const std::atomic<bool>& flag) {
    for (int i = 0; i < 500 && !flag; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return flag;
  }

  FakeGenerator generator_;
  Routes routes_{generator_};
  std::unique_ptr<HttpServer> server_ = test::start_server(routes_);
};

TEST_F(ChatServerTest, AnswersAChat) {
  HttpClient client(port());
  client.send(post_request("/v1/chat/completions", R"({"model":"my name","messages":[{"role":"user","content":"hi"}],
      "temperature":0,"seed":7,"max_tokens":9,"stop":"x","logprobs":true})"));
  const GenerateRequest request = generator_.take();
  EXPECT_EQ(request.sampling.temperature, 0.0F);
  EXPECT_EQ(request.sampling.seed, 7U);
  EXPECT_EQ(request.max_tokens, 9);
  EXPECT_EQ(request.n_top_logprobs, 0);
  EXPECT_THAT(request.output.stop_strings, ElementsAre("x"));
  request.sink->on_events({TextDelta{"hello"}, Finished{}});
  const ClientResponse response = client.read_response();
  EXPECT_EQ(response.status, 200);
  const Json json = Json::parse(response.body, nullptr, false);
  EXPECT_EQ(json["model"], "my name");
  EXPECT_EQ(json["choices"][0]["message"]["content"], "hello");
  EXPECT_THAT(json["id"].get<std::string>(), testing::MatchesRegex("chatcmpl-[0-9a-f]{24}"));
  EXPECT_EQ(client.get("/health").status, 200);
}

TEST_F(ChatServerTest, StreamsAChatAndKeepsTheConnection) {
  HttpClient client(port());
  for (int turn = 0; turn < 2; ++turn) {
    client.send(post_request("/v1/chat/completions?x=y", kStream));
    EXPECT_EQ(client.read_head().header("Content-Type"), "text/event-stream");
    EXPECT_THAT(client.read_event(), HasSubstr("\"role\":\"assistant\""));  // before the engine has said anything
    const GenerateRequest request = generator_.take();
    request.sink->on_events({TextDelta{"a"}});
    EXPECT_EQ(content_of(client.read_event()), "a");
    request.sink->on_events({TextDelta{"b"}, Finished{}});
    EXPECT_EQ(content_of(client.read_event()), "b");
    EXPECT_THAT(client.read_event(), HasSubstr("\"finish_reason\":\"stop\""));
    EXPECT_EQ(client.read_event(), "data: [DONE]");
    EXPECT_EQ(client.read_event(), "");
  }
}

TEST_F(ChatServerTest, InterleavesTwoStreams) {
  HttpClient first(port());
  HttpClient second(port());
  first.send(post_request("/v1/chat/completions", kStream));
  const GenerateRequest one = generator_.take();
  second.send(post_request("/v1/chat/completions", kStream));
  const GenerateRequest two = generator_.take();
  for (HttpClient* client : {&first, &second}) {
    client->read_head();
    client->read_event();
  }
  for (int i = 0; i < 3; ++i) {
    one.sink->on_events({TextDelta{fmt::format("one {}", i)}});
    EXPECT_EQ(content_of(first.read_event()), fmt::format("one {}", i));
    two.sink->on_events({TextDelta{fmt::format("two {}", i)}});
    EXPECT_EQ(content_of(second.read_event()), fmt::format("two {}", i));
  }
  one.sink->on_events({Finished{}});
  two.sink->on_events({Finished{}});
}

TEST_F(ChatServerTest, AnswersPipelinedChatsInOrder) {
  HttpClient client(port());
  client.send(post_request("/v1/chat/completions", kChat) + post_request("/v1/chat/completions", kChat));
  generator_.take().sink->on_events({TextDelta{"first"}, Finished{}});
  generator_.take().sink->on_events({TextDelta{"second"}, Finished{}});
  EXPECT_THAT(client.read_response().body, HasSubstr("first"));
  EXPECT_THAT(client.read_response().body, HasSubstr("second"));
}

TEST_F(ChatServerTest, CancelsWhatItsClientNoLongerWaitsFor) {
  for (const char* body : {kChat, kStream}) {
    HttpClient client(port());
    client.send(post_request("/v1/chat/completions", body));
    const GenerateRequest request = generator_.take();
    EXPECT_FALSE(*request.cancel);
    client.close();
    EXPECT_TRUE(becomes_true(*request.cancel));
    request.sink->on_events({Finished{FinishReason::kCancelled, {}}});
  }
}

constexpr const char* kThree = R"({"messages":[{"role":"user","content":"hi"}],"n":3,"seed":5})";
constexpr const char* kThreeStream =
    R"({"messages":[{"role":"user","content":"hi"}],"n":3,"stream":true,"stream_options":{"include_usage":true}})";

TEST_F(ChatServerTest, AnswersWithSeveralChoices) {
  HttpClient client(port());
  client.send(post_request("/v1/chat/completions", kThree));
  std::vector<GenerateRequest> choices;
  for (uint64_t i = 0; i < 3; ++i) {
    choices.push_back(generator_.take());
    EXPECT_EQ(choices.back().sampling.seed, 5 + i);
    EXPECT_EQ(choices.back().prompt_tokens, choices.front().prompt_tokens);
    EXPECT_EQ(choices.back().cancel, choices.front().cancel);
  }
  const Usage usage{.prompt_tokens = 4, .completion_tokens = 2, .reasoning_tokens = 1, .cached_tokens = 3};
  choices[2].sink->on_events({TextDelta{"c"}, Finished{FinishReason::kLength, usage}});
  choices[0].sink->on_events({ReasoningDelta{"r"}, TextDelta{"a"}, Finished{FinishReason::kStop, usage}});
  choices[1].sink->on_events({ToolCallBegin{0, "f", "call_1"}, ToolCallEnd{0, "{}"},
                              Finished{FinishReason::kToolCalls, {.prompt_tokens = 4, .completion_tokens = 7}}});
  const Json answer = Json::parse(client.read_response().body, nullptr, false);
  ASSERT_EQ(answer["choices"].size(), 3U);
  for (size_t i = 0; i < 3; ++i) EXPECT_EQ(answer["choices"][i]["index"], i);
  EXPECT_EQ(answer["choices"][0]["message"]["content"], "a");
  EXPECT_EQ(answer["choices"][0]["message"]["reasoning_content"], "r");
  EXPECT_EQ(answer["choices"][1]["message"]["tool_calls"][0]["id"], "call_1");
  EXPECT_EQ(answer["choices"][1]["finish_reason"], "tool_calls");
  EXPECT_EQ(answer["choices"][2]["message"]["content"], "c");
  EXPECT_EQ(answer["choices"][2]["finish_reason"], "length");
  EXPECT_EQ(answer["usage"]["prompt_tokens"], 4);
  EXPECT_EQ(answer["usage"]["completion_tokens"], 11);
  EXPECT_EQ(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 3);
  EXPECT_EQ(answer["usage"]["completion_tokens_details"]["reasoning_tokens"], 2);
}

TEST_F(ChatServerTest, StreamsSeveralChoices) {
  HttpClient client(port());
  client.send(post_request("/v1/chat/completions", kThreeStream));
  std::vector<GenerateRequest> choices;
  for (int i = 0; i < 3; ++i) choices.push_back(generator_.take());
  const TokenLogprobs token{.chosen = {.token_id = 1, .bytes = "b", .logprob = -1.0F}, .top = {}};
  choices[1].sink->on_events({token, TextDelta{"b"}});
  choices[0].sink->on_events({TextDelta{"a"}, Finished{FinishReason::kStop, {.completion_tokens = 1}}});
  choices[1].sink->on_events({Finished{FinishReason::kLength, {.completion_tokens = 2}}});
  choices[2].sink->on_events({Finished{FinishReason::kStop, {.completion_tokens = 3}}});
  client.read_head();
  std::vector<std::string> seen;
  int completion_tokens = 0;
  for (std::string event = client.read_event(); !event.empty(); event = client.read_event()) {
    const Json json = Json::parse(event.substr(event.find(' ') + 1), nullptr, false);
    if (!json.is_object()) continue;
    if (json["usage"].is_object()) completion_tokens = json["usage"]["completion_tokens"];
    for (const Json& choice : json["choices"]) {
      const std::string finish = choice["finish_reason"].is_string() ? choice["finish_reason"] : "";
      const std::string logprobs = choice["logprobs"].is_object() ? "+logprobs" : "";
      seen.push_back(
          fmt::format("{}:{}{}{}", choice["index"].get<int>(), choice["delta"].value("content", ""), finish, logprobs));
    }
  }
  EXPECT_THAT(seen, ElementsAre("0:", "1:", "2:", "1:b+logprobs", "0:a", "0:stop", "1:length", "2:stop"));
  EXPECT_EQ(completion_tokens, 6);
}

TEST_F(ChatServerTest, CancelsAllChoicesWhenTheClientLeaves) {
  HttpClient client(port());
  client.send(post_request("/v1/chat/completions", kThreeStream));
  std::vector<GenerateRequest> choices;
  for (int i = 0; i < 3; ++i) choices.push_back(generator_.take());
  client.close();
  for (const GenerateRequest& choice : choices) EXPECT_TRUE(becomes_true(*choice.cancel));
}

TEST_F(ChatServerTest, OneFailedChoiceEndsTheAnswer) {
  HttpClient client(port());
  client.send(post_request("/v1/chat/completions", kThree));
  std::vector<GenerateRequest> choices;
  for (int i = 0; i < 3; ++i) choices.push_back(generator_.take());
  choices[0].sink->on_events({TextDelta{"a"}, Finished{}});
  choices[1].sink->on_events({Failed{make_error(ErrorCode::kInternal, "device lost")}});
  EXPECT_TRUE(becomes_true(*choices[2].cancel));
  choices[2].sink->on_events({Finished{FinishReason::kCancelled, {}}});
  const ClientResponse response = client.read_response();
  EXPECT_EQ(response.status, 500);
  EXPECT_THAT(response.body, HasSubstr("device lost"));
}

TEST_F(ChatServerTest, RefusesAnAnswerWhoseChoicesDoNotAllFit) {
  generator_.n_accepted = 2;
  HttpClient client(port());
  for (const char* body : {kThree, kThreeStream}) {
    generator_.n_accepted = 2;
    EXPECT_EQ(client.post("/v1/chat/completions", body).status, 429);
    for (int i = 0; i < 2; ++i) {
      const GenerateRequest choice = generator_.take();
      EXPECT_TRUE(*choice.cancel);
      choice.sink->on_events({Finished{FinishReason::kCancelled, {}}});
    }
  }
}

TEST_F(ChatServerTest, TellsAClientThatStoppedSendingWhyItsAnswerEnds) {
  HttpClient client(port());
  client.send(post_request("/v1/chat/completions", kChat));
  const GenerateRequest request = generator_.take();
  client.finish_sending();
  EXPECT_TRUE(becomes_true(*request.cancel));
  request.sink->on_events({Finished{FinishReason::kCancelled, {}}});
  EXPECT_THAT(client.read_response().body, HasSubstr("its client is gone"));
}

TEST_F(ChatServerTest, TellsStreamsThatTheServerStops) {
  HttpClient client(port());
  client.send(post_request("/v1/chat/completions", kStream));
  const GenerateRequest request = generator_.take();
  std::thread stopping([this] { server_->stop(0); });
  EXPECT_TRUE(becomes_true(*request.cancel));
  request.sink->on_events({Finished{FinishReason::kCancelled, {}}});
  client.read_head();
  client.read_event();
  const std::string event = client.read_event();
  EXPECT_THAT(event, HasSubstr("event: error"));
  EXPECT_THAT(event, HasSubstr("the server stops"));
  stopping.join();
}

TEST_F(ChatServerTest, RefusesWhatCannotRun) {
  HttpClient client(port());
  const ClientResponse wrong = client.post("/v1/chat/completions", R"({"messages":[],"top_p":3})");
  EXPECT_EQ(wrong.status, 400);
  EXPECT_EQ(Json::parse(wrong.body, nullptr, false)["error"]["param"], "messages");

  const ClientResponse long_prompt =
      client.post("/v1/chat/completions", R"({"messages":[{"role":"user","content":"too long"}]})");
  EXPECT_EQ(long_prompt.status, 400);
  const Json error = Json::parse(long_prompt.body, nullptr, false)["error"];
  EXPECT_EQ(error["code"], "context_length_exceeded");
  EXPECT_EQ(error["n_prompt_tokens"], 5000);
  EXPECT_EQ(error["n_ctx"], 4096);

  generator_.busy = true;
  for (const char* body : {kChat, kStream}) {
    const ClientResponse busy = client.post("/v1/chat/completions", body);
    EXPECT_EQ(busy.status, 429);
    EXPECT_NE(busy.header("Retry-After"), "");
  }
}

TEST_F(ChatServerTest, ListsTheModel) {
  HttpClient client(port());
  const Json list = Json::parse(client.get("/v1/models").body, nullptr, false);
  EXPECT_EQ(list["object"], "list");
  ASSERT_EQ(list["data"].size(), 1U);
  EXPECT_EQ(list["data"][0]["id"], "ds4-mini");
  EXPECT_EQ(list["data"][0]["owned_by"], "ds4.cpp");
  EXPECT_EQ(list["data"][0]["context_length"], 4096);
  for (const char* id : {"ds4-mini", "ds4%2dmini", "deepseek-v4-flash", "deepseek-chat"}) {
    EXPECT_EQ(client.get(fmt::format("/v1/models/{}", id)).status, 200) << id;
  }
  const ClientResponse unknown = client.get("/v1/models/gpt%ff");
  EXPECT_EQ(unknown.status, 404);
  EXPECT_EQ(Json::parse(unknown.body, nullptr, false)["error"]["code"], "model_not_found");
  EXPECT_EQ(client.get("/v1/models/").status, 404);
}

TEST_F(ChatServerTest, TellsItsHealth) {
  HttpClient client(port());
  EXPECT_EQ(Json::parse(client.get("/health").body, nullptr, false)["status"], "ok");
  EXPECT_THAT(client.get("/").body, HasSubstr("ds4-mini"));
}

TEST_F(ChatServerTest, ShowsBrowsersThePageUnlessItIsOff) {
  HttpClient client(port());
  const auto ask = [&](std::string_view method, std::string_view headers) {
    client.send(fmt::format("{} / HTTP/1.1\r\nHost: x\r\n{}\r\n", method, headers));
    return client.read_response(method != "HEAD");
  };
  const ClientResponse page = ask("GET", "Accept: text/html\r\n");
  EXPECT_EQ(page.header("Content-Type"), "text/html; charset=utf-8");
  EXPECT_THAT(page.body, HasSubstr("<!doctype html>"));
  const ClientResponse head = ask("HEAD", "Accept: text/html\r\n");
  EXPECT_EQ(head.header("Content-Length"), page.header("Content-Length"));
  const ClientResponse known =
      ask("GET", fmt::format("Accept: text/html\r\nIf-None-Match: {}\r\n", page.header("ETag")));
  EXPECT_EQ(known.status, 304);
  EXPECT_EQ(known.header("Content-Length"), "");
  EXPECT_EQ(ask("GET", "Accept: */*\r\n").header("Content-Type"), "text/plain; charset=utf-8");
  routes_.set_web_page(false);
  EXPECT_THAT(ask("GET", "Accept: text/html\r\n").body, HasSubstr("ds4.cpp serves ds4-mini"));
}

TEST_F(ChatServerTest, AnswersOtherMethods) {
  HttpClient client(port());
  const auto ask = [&](std::string_view method, std::string_view path) {
    client.send(fmt::format("{} {} HTTP/1.1\r\nHost: x\r\n\r\n", method, path));
    return client.read_response(method != "HEAD");
  };
  EXPECT_EQ(ask("HEAD", "/").status, 200);
  EXPECT_EQ(ask("HEAD", "/health").status, 200);
  EXPECT_EQ(ask("OPTIONS", "/v1/chat/completions").status, 204);
  EXPECT_EQ(ask("OPTIONS", "/v1/chat/completions").header("Allow"), "POST, OPTIONS");
  EXPECT_EQ(ask("OPTIONS", "/nowhere").status, 204);
  const ClientResponse wrong_method = ask("GET", "/v1/chat/completions");
  EXPECT_EQ(wrong_method.status, 405);
  EXPECT_EQ(wrong_method.header("Allow"), "POST, OPTIONS");
  EXPECT_EQ(ask("DELETE", "/v1/models").header("Allow"), "GET, HEAD, OPTIONS");
  const ClientResponse unknown = ask("GET", "/v1/nowhere");
  EXPECT_EQ(unknown.status, 404);
  EXPECT_EQ(Json::parse(unknown.body, nullptr, false)["error"]["type"], "invalid_request_error");
}

TEST_F(ChatServerTest, AnswersTransportErrorsInTheSameForm) {
  HttpClient client(port());
  client.send("nonsense\r\n\r\n");
  const ClientResponse response = client.read_response();
  EXPECT_EQ(response.status, 400);
  EXPECT_TRUE(Json::parse(response.body, nullptr, false)["error"].contains("message"));
}

TEST_F(ChatServerTest, AllowsOtherOriginsOnlyWhenAsked) {
  HttpClient plain(port());
  EXPECT_EQ(plain.get("/health").header("Access-Control-Allow-Origin"), "");
  HttpServerOptions options;
  options.headers = cors_headers();
  const auto open = test::start_server(routes_, std::move(options));
  HttpClient client(open->port());
  EXPECT_EQ(client.get("/health").header("Access-Control-Allow-Origin"), "*");
  EXPECT_EQ(client.get("/nowhere").header("Access-Control-Allow-Origin"), "*");
  client.send(post_request("/v1/chat/completions", kStream));
  EXPECT_EQ(client.read_head().header("Access-Control-Allow-Origin"), "*");
  generator_.take().sink->on_events({Finished{}});
}

// The same over a real engine: random weights, so only the form of the answers is known.
class ChatEngineTest : public test::EngineServerTest {
 protected:
  ChatEngineTest() { start(test::tiny_engine()); }

  static std::string body(std::string_view fields) {
    return fmt::format(R"({{"messages":[{{"role":"user","content":"hi"}}],"temperature":0,{}}})", fields);
  }
};

TEST_F(ChatEngineTest, StreamsWhatItAnswersInOnePiece) {
  HttpClient client(server_->port());
  const Json whole = Json::parse(client.post("/v1/chat/completions", body(R"("max_tokens":12)")).body, nullptr, false);
  EXPECT_GT(whole["usage"]["completion_tokens"], 0);
  const Json& answer = whole["choices"][0];

  client.send(post_request("/v1/chat/completions", body(R"("max_tokens":12,"stream":true)")));
  client.read_head();
  Json message = {{"role", "assistant"}, {"content", ""}, {"reasoning_content", ""}};
  std::string finish;
  for (std::string event = client.read_event(); !event.empty(); event = client.read_event()) {
    const Json json = Json::parse(event.substr(event.find(' ') + 1), nullptr, false);
    if (!json.is_object()) continue;
    for (const char* key : {"content", "reasoning_content"}) {
      message[key] = message[key].get<std::string>() + json["choices"][0]["delta"].value(key, "");
    }
    if (json["choices"][0]["finish_reason"].is_string()) finish = json["choices"][0]["finish_reason"];
  }
  EXPECT_EQ(message["content"], answer["message"]["content"]);
  EXPECT_EQ(message["reasoning_content"], answer["message"].value("reasoning_content", ""));
  EXPECT_EQ(finish, answer["finish_reason"].get<std::string>());
}

TEST_F(ChatEngineTest, ChoicesDifferAndComeAgain) {
  const auto ask = [this](std::string_view fields) {
    return Json::parse(
        post("/v1/chat/completions",
             fmt::format(R"({{"messages":[{{"role":"user","content":"hi"}}],"max_tokens":20,{}}})", fields))
            .body,
        nullptr, false);
  };
  const Json many = ask(R"("seed":11,"n":4)");
  ASSERT_EQ(many["choices"].size(), 4U);
  std::set<std::string> texts;
  size_t n_tokens = 0;
  for (size_t i = 0; i < 4; ++i) {
    texts.insert(many["choices"][i]["message"].dump());
    const Json alone = ask(fmt::format(R"("seed":{})", 11 + i));
    EXPECT_EQ(alone["choices"][0]["message"], many["choices"][i]["message"]) << i;
    EXPECT_EQ(alone["usage"]["prompt_tokens"], many["usage"]["prompt_tokens"]);
    n_tokens += alone["usage"]["completion_tokens"].get<size_t>();
  }
  EXPECT_EQ(texts.size(), 4U);
  EXPECT_EQ(many["usage"]["completion_tokens"], n_tokens);
  EXPECT_EQ(ask(R"("seed":11,"n":4)")["choices"], many["choices"]);
}

TEST_F(ChatEngineTest, ServesTwoClientsAtOnce) {
  HttpClient first(server_->port());
  HttpClient second(server_->port());
  const std::string request = post_request("/v1/chat/completions", body(R"("max_tokens":20)"));
  first.send(request);
  second.send(request);
  const Json one = Json::parse(first.read_response().body, nullptr, false);
  const Json two = Json::parse(second.read_response().body, nullptr, false);
  EXPECT_EQ(one["choices"][0]["message"], two["choices"][0]["message"]);
}

TEST_F(ChatEngineTest, GoesOnAfterAClientLeft) {
  HttpClient leaving(server_->port());
  leaving.send(post_request("/v1/chat/completions", body(R"("stream":true)")));
  leaving.read_head();
  leaving.close();
  HttpClient client(server_->port());
  EXPECT_EQ(client.post("/v1/chat/completions", body(R"("max_tokens":3)")).status, 200);
}

TEST_F(ChatEngineTest, CountsAPromptThatDoesNotFit) {
  HttpClient client(server_->port());
  const ClientResponse response =
      client.post("/v1/chat/completions",
                  fmt::format(R"({{"messages":[{{"role":"user","content":"{}"}}]}})", std::string(5000, 'x')));
  EXPECT_EQ(response.status, 400);
  const Json error = Json::parse(response.body, nullptr, false)["error"];
  EXPECT_EQ(error["code"], "context_length_exceeded");
  EXPECT_GT(error["n_prompt_tokens"], 512);
  EXPECT_EQ(error["n_ctx"], 512);
}

}  // namespace
}  // namespace ds4
