#pragma once

// What the tests of the whole way share: a real engine behind the routes and a server on a free port of this machine,
// and short ways to ask it.

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "base/log.h"
#include "server/engine_generator.h"
#include "server/http_client.h"
#include "server/http_server.h"
#include "server/metrics.h"
#include "server/routes.h"
#include "support/tiny_model.h"

namespace ds4::test {

// `handler` outlives the server.
inline std::unique_ptr<HttpServer> start_server(HttpServer::Handler handler, HttpServerOptions options = {}) {
  options.host = "127.0.0.1";
  options.port = 0;
  options.n_threads = 2;
  options.error_response = [](int status, std::string_view reason) {
    return openai_error_response({.status = status, .message = std::string(reason)});
  };
  auto server = HttpServer::start(std::move(options), std::move(handler));
  EXPECT_TRUE(server.ok()) << server.error().message;
  return server.take_value();
}

inline std::unique_ptr<HttpServer> start_server(const Routes& routes, HttpServerOptions options = {}) {
  return start_server(
      [&routes](HttpRequest request, const std::shared_ptr<Responder>& responder) {
        routes.handle(std::move(request), responder);
      },
      std::move(options));
}

// Random weights: only the form of the answers is known.
inline EngineOptions tiny_engine(int32_t ctx_tokens = 512, int32_t n_slots = 2) {
  EngineOptions options;
  options.model_path = tiny_model_path();
  options.ctx_tokens = ctx_tokens;
  options.n_slots = n_slots;
  options.n_threads = 1;
  return options;
}

// The trained model, which calls the tool that it is asked to.
inline EngineOptions trained_engine() {
  EngineOptions options = tiny_engine(1024, 1);
  options.model_path = DS4_SOURCE_DIR "/models/ds4-mini.gguf";
  return options;
}

class EngineServerTest : public testing::Test {
 protected:
  EngineServerTest() { set_log_level(LogLevel::kError); }
  ~EngineServerTest() override {
    stop();
    set_log_level(LogLevel::kInfo);
  }

  void start(const EngineOptions& engine, GeneratorOptions options = {}) {
    stop();
    auto loaded = Engine::load(engine);
    ASSERT_TRUE(loaded.ok()) << loaded.error().message;
    engine_ = loaded.take_value();
    metrics_ = std::make_shared<Metrics>();
    options.metrics = metrics_;
    generator_ = std::make_unique<EngineGenerator>(*engine_, options);
    routes_ = std::make_unique<Routes>(*generator_, metrics_);
    server_ = start_server(*routes_);
  }
  void stop() {
    server_.reset();
    routes_.reset();
    generator_.reset();
    engine_.reset();
  }

  ClientResponse post(std::string_view path, std::string_view body) const {
    HttpClient client(server_->port());
    return client.post(path, body);
  }
  ClientResponse get(std::string_view path) const {
    HttpClient client(server_->port());
    return client.get(path);
  }

  std::unique_ptr<Engine> engine_;
  std::shared_ptr<Metrics> metrics_;
  std::unique_ptr<EngineGenerator> generator_;
  std::unique_ptr<Routes> routes_;
  std::unique_ptr<HttpServer> server_;
};

}  // namespace ds4::test
