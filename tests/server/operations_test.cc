// What a server's operator sees: readiness, refusals, numbers and limits, over a real engine with random weights.

#include <memory>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "base/log.h"
#include "server/engine_generator.h"
#include "server/http_client.h"
#include "server/http_server.h"
#include "server/routes.h"
#include "support/tiny_model.h"

namespace ds4 {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;

class OperationsTest : public testing::Test {
 protected:
  void SetUp() override {
    set_log_level(LogLevel::kError);
    EngineOptions options;
    options.model_path = test::tiny_model_path();
    options.ctx_tokens = 512;
    options.n_slots = 2;
    options.n_threads = 1;
    auto engine = Engine::load(options);
    ASSERT_TRUE(engine.ok()) << engine.error().message;
    engine_ = engine.take_value();
    start({});
  }
  void TearDown() override {
    server_.reset();
    set_log_level(LogLevel::kInfo);
  }

  void start(GeneratorOptions options) {
    server_.reset();
    generator_.reset();
    metrics_ = std::make_shared<Metrics>();
    options.metrics = metrics_;
    generator_ = std::make_unique<EngineGenerator>(*engine_, options);
    routes_ = std::make_unique<Routes>(*generator_, metrics_);
    auto server = HttpServer::start({.host = "127.0.0.1", .port = 0, .n_threads = 2},
                                    [this](HttpRequest request, const std::shared_ptr<Responder>& responder) {
                                      routes_->handle(std::move(request), responder);
                                    });
    ASSERT_TRUE(server.ok()) << server.error().message;
    server_ = server.take_value();
  }

  ClientResponse post(std::string_view path, std::string_view body) {
    HttpClient client(server_->port());
    return client.post(path, body);
  }
  ClientResponse get(std::string_view path) {
    HttpClient client(server_->port());
    return client.get(path);
  }
  // The engine's thread publishes after the answer has gone out.
  bool shows(const std::string& line) {
    for (int i = 0; i < 500; ++i) {
      if (get("/metrics").body.find("\n" + line + "\n") != std::string::npos) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }

  std::unique_ptr<Engine> engine_;
  std::shared_ptr<Metrics> metrics_;
  std::unique_ptr<EngineGenerator> generator_;
  std::unique_ptr<Routes> routes_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(OperationsTest, IsReadyUntilItDrains) {
  EXPECT_EQ(get("/ready").status, 200);
  routes_->drain();
  const ClientResponse ready = get("/ready");
  EXPECT_EQ(ready.status, 503);
  EXPECT_NE(ready.header("Retry-After"), "");
  EXPECT_EQ(get("/health").status, 200);
  EXPECT_EQ(get("/v1/models").status, 200);
  for (const char* path : {"/v1/completions", "/v1/chat/completions"}) {
    const ClientResponse refused = post(path, R"({"prompt":"a","messages":[{"role":"user","content":"a"}]})");
    EXPECT_EQ(refused.status, 503) << path;
    EXPECT_EQ(Json::parse(refused.body, nullptr, false)["error"]["code"], "server_draining");
  }
}

TEST_F(OperationsTest, SaysWhyKnownPathsAreAbsent) {
  for (const char* path : {"/v1/embeddings", "/v1/audio/speech", "/v1/files", "/v1/batches/batch_1"}) {
    const ClientResponse absent = post(path, "{}");
    EXPECT_EQ(absent.status, 404) << path;
    EXPECT_EQ(Json::parse(absent.body, nullptr, false)["error"]["code"], "unsupported_endpoint") << path;
  }
  const ClientResponse batches = post("/v1/messages/batches", "{}");
  EXPECT_EQ(batches.status, 404);
  EXPECT_EQ(Json::parse(batches.body, nullptr, false)["error"]["type"], "not_found_error");
  EXPECT_EQ(Json::parse(post("/v1/embeddingsx", "{}").body, nullptr, false)["error"]["code"], "unknown_url");
}

TEST_F(OperationsTest, CountsWhatItDid) {
  ASSERT_EQ(post("/v1/completions", R"({"prompt":"abc","max_tokens":3,"seed":1})").status, 200);
  ASSERT_EQ(post("/v1/completions", "{").status, 400);
  const ClientResponse metrics = get("/metrics");
  EXPECT_EQ(metrics.header("Content-Type"), "text/plain; version=0.0.4; charset=utf-8");
  EXPECT_TRUE(shows("ds4_http_requests_total{endpoint=\"/v1/completions\",status=\"200\"} 1"));
  EXPECT_TRUE(shows("ds4_http_requests_total{endpoint=\"/v1/completions\",status=\"400\"} 1"));
  const size_t n_prompt = engine_->tokenizer()->encode_text("abc").size() + 1;
  EXPECT_TRUE(shows(fmt::format("ds4_prompt_tokens_total {}", n_prompt)));
  EXPECT_TRUE(shows(fmt::format("ds4_prefilled_tokens_total {}", n_prompt)));
  EXPECT_TRUE(shows("ds4_time_to_first_token_seconds_count 1") || shows("ds4_generated_tokens_total 0"));
  EXPECT_TRUE(shows("ds4_slots 2"));
  EXPECT_TRUE(shows("ds4_running_slots 0"));
  EXPECT_TRUE(shows("ds4_http_requests_in_flight 1"));  // this one
}

TEST_F(OperationsTest, EndsWhatTakesTooLong) {
  start({.request_timeout_us = 1});
  const ClientResponse response = post("/v1/completions", R"({"prompt":"abc","max_tokens":400,"seed":3})");
  const Json json = Json::parse(response.body, nullptr, false);
  if (response.status == 200) {
    EXPECT_LT(json["usage"]["completion_tokens"], 5);
  } else {
    EXPECT_EQ(response.status, 503);
    EXPECT_THAT(json["error"]["message"].get<std::string>(), HasSubstr("--request-timeout"));
  }
}

}  // namespace
}  // namespace ds4
