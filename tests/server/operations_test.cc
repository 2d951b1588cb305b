// What a server's operator sees: readiness, refusals, numbers and limits, over a real engine with random weights.

#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "server/engine_server.h"

namespace ds4 {
namespace {

using Json = nlohmann::ordered_json;
using testing::HasSubstr;

class OperationsTest : public test::EngineServerTest {
 protected:
  OperationsTest() { start(test::tiny_engine()); }

  // The engine's thread publishes after the answer has gone out.
  bool shows(const std::string& line) {
    for (int i = 0; i < 500; ++i) {
      if (get("/metrics").body.find("\n" + line + "\n") != std::string::npos) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return false;
  }
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
  start(test::tiny_engine(), {.request_timeout_us = 1});
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
