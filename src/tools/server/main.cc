#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <semaphore>
#include <string>
#include <thread>

#include "base/log.h"
#include "server/engine_generator.h"
#include "server/http_server.h"
#include "server/routes.h"
#include "tools/common/model_path.h"
#include "tools/common/options.h"

namespace ds4 {
namespace {

constexpr const char* kProgram = "ds4-server";
constexpr int kDrainMs = 10'000;
constexpr int kExitInterrupted = 130;

struct Options {
  EngineOptions engine;
  ThinkingOptions thinking;
  std::string host = "localhost";
  std::string chdir;
  int32_t port = 8000;
  int32_t max_tokens = kUnlimitedTokens;
  int32_t max_waiting = 64;
  int32_t tool_memory_max_ids = static_cast<int32_t>(ReplayLimits{}.max_ids);
  bool keep_volatile_text = false;
  bool cors = false;
};

// Of the program this one is compatible with: what they ask for is not here.
constexpr std::array<const char*, 1> kAbsentOptions{
    "--trace",
};

void add_options(CLI::App& app, Options& options) {
  options.engine.steering.policy = SteeringPolicy::kFinalAnswer;
  add_model_options(app, options.engine);
  add_thinking_options(app, options.thinking);
  add_kv_options(app, options.engine);
  app.add_option("--host", options.host, "address to listen on (localhost: 127.0.0.1 and ::1)")
      ->take_last()
      ->type_name("ADDRESS");
  add_integer_option(app, "--port", options.port, {0, 65535}, "port to listen on; 0 takes a free one (8000)");
  app.add_flag("--cors", options.cors, "let web pages of any origin use the server");
  add_integer_option(app, "-n,--tokens", options.max_tokens, {1, kUnlimitedTokens},
                     "output limit of requests that name none (the context)");
  add_integer_option(app, "--parallel,--batched-session", options.engine.n_slots, {1, 256},
                     "requests that run at once (4)");
  add_integer_option(app, "--queue", options.max_waiting, {1, 100'000}, "requests that may wait; more get 429 (64)");
  add_integer_option(app, "--tool-memory-max-ids", options.tool_memory_max_ids, {0, 100'000'000},
                     "tool calls whose exact text is remembered for the prompts that return them; 0: none (100000)");
  app.add_flag("--keep-volatile-text", options.keep_volatile_text,
               "leave text in system prompts that changes with every request and means nothing to the model");
  app.add_option("--chdir", options.chdir, "directory to change to before anything is opened")
      ->take_last()
      ->type_name("DIR");
  for (const char* name : kAbsentOptions) {
    const auto refuse = [name](const std::string&) { throw CLI::ValidationError(name, "not in this build"); };
    app.add_option_function<std::string>(name, refuse, "")->trigger_on_parse()->group("");
  }
}

// SIGINT and SIGTERM: before the server runs they end the program at once, then the first one asks it to stop and the
// second ends it at once. Must be made before any other thread, which then inherits the blocked signals.
class StopSignals {
 public:
  StopSignals() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    std::thread([set, state = state_] {
      int signal = 0;
      while (sigwait(&set, &signal) == 0) {
        if (!state->serving.exchange(false)) _exit(kExitInterrupted);
        state->asked.release();
      }
    }).detach();
  }

  void begin_serving() { state_->serving = true; }
  void wait() { state_->asked.acquire(); }

 private:
  struct State {
    std::atomic<bool> serving = false;
    std::binary_semaphore asked{0};
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

HttpServerOptions server_options(const Options& options) {
  HttpServerOptions result;
  result.host = options.host;
  result.port = static_cast<uint16_t>(options.port);
  if (options.cors) result.headers = cors_headers();
  result.error_response = [](int status, std::string_view reason) {
    return openai_error_response({.status = status, .message = std::string(reason)});
  };
  return result;
}

void announce(const HttpServer& server, const ServedModel& model) {
  for (const std::string& address : server.addresses()) {
    log_info("listening", {{"url", "http://" + address}, {"model", model.id}, {"ctx_tokens", model.ctx_tokens}});
  }
  if (!server.loopback_only()) {
    log_warn(
        "REACHABLE FROM OTHER MACHINES: there is no authentication; whoever reaches this address can use the model");
  }
  fmt::print(stderr,
             "\nTry:\n  curl -N http://{}/v1/chat/completions -H 'Content-Type: application/json' \\\n"
             "    -d '{{\"model\": \"{}\", \"stream\": true, \"messages\": [{{\"role\": \"user\", \"content\": "
             "\"Hello!\"}}]}}'\n\n",
             server.addresses().front(), model.id);
}

void announce_memory(const MemoryPlan& plan) {
  log_info("memory", {{"weights", format_bytes(plan.weight_bytes)},
                      {"kv_pages", format_bytes(plan.kv_bytes)},
                      {"kv_tokens", int64_t{plan.kv.n_pages} * kPageTokens},
                      {"frontiers", format_bytes(plan.frontier_bytes)},
                      {"scratch", format_bytes(plan.scratch_bytes)},
                      {"checkpoints_at_most", format_bytes(plan.checkpoint_bytes)}});
  if (!plan.warning.empty()) log_warn(plan.warning);
}

GeneratorOptions generator_options(const Options& options, int32_t ctx_tokens) {
  GeneratorOptions result;
  result.default_max_tokens = options.max_tokens;
  result.thinks_by_default = options.thinking.mode == ThinkingMode::kThinking;
  if (ctx_tokens >= kThinkMaxCtxTokens) result.default_effort = options.thinking.effort;
  result.max_waiting = static_cast<size_t>(options.max_waiting);
  result.keeps_volatile_text = options.keep_volatile_text;
  result.replay.max_ids = static_cast<size_t>(options.tool_memory_max_ids);
  return result;
}

Result<void> serve(Options& options, StopSignals& signals) {
  if (!options.chdir.empty() && ::chdir(options.chdir.c_str()) != 0) {
    return make_error(ErrorCode::kIo, "--chdir {}: {}", options.chdir, std::strerror(errno));
  }
  options.engine.model_path = TRY(resolve_model_path(options.engine.model_path));
  log_info("loading", {{"model", options.engine.model_path}});
  const std::unique_ptr<Engine> engine = TRY(Engine::load(options.engine));
  if (engine->tokenizer() == nullptr) {
    return make_error(ErrorCode::kUnsupported, "{} has no vocabulary: it cannot serve text", options.engine.model_path);
  }
  if (!options.engine.steering.file.empty()) {
    const SteeringSettings& steering = engine->steering();
    log_info("steering", {{"file", options.engine.steering.file},
                          {"attn", steering.scales.attn},
                          {"ffn", steering.scales.ffn},
                          {"policy", steering_policy_name(steering.policy)}});
  }
  announce_memory(engine->memory_plan());
  EngineGenerator generator(*engine, generator_options(options, engine->ctx_tokens()));
  const Routes routes(generator);
  signals.begin_serving();
  const std::unique_ptr<HttpServer> server = TRY(HttpServer::start(
      server_options(options), [&routes](HttpRequest request, const std::shared_ptr<Responder>& responder) {
        routes.handle(std::move(request), responder);
      }));
  announce(*server, generator.model());
  signals.wait();
  log_info("stopping", {{"grace_ms", kDrainMs}});
  server->stop(kDrainMs);
  generator.stop();
  const ReplayStatistics replay = generator.replay_statistics();
  log_info("stopped", {{"replayed_from_memory", replay.n_memory},
                       {"replayed_from_store", replay.n_store},
                       {"canonical", replay.n_canonical},
                       {"missing_ids", replay.n_missing_ids}});
  return {};
}

int run(int argc, char** argv) {
  CLI::App app("Serves a DeepSeek-V4 model over the OpenAI chat API (docs/server_api.md).", kProgram);
  Options options;
  add_options(app, options);
  if (const std::optional<int> exit_code = parse_command_line(app, argc, argv)) return *exit_code;
  if (const Result<void> level = set_log_level_from_environment(); !level.ok())
    return report_error(kProgram, level.error());
  StopSignals signals;
  const Result<void> served = serve(options, signals);
  return served.ok() ? 0 : report_error(kProgram, served.error());
}

}  // namespace
}  // namespace ds4

int main(int argc, char** argv) { return ds4::run(argc, argv); }
