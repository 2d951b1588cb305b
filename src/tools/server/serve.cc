#include "tools/server/serve.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <thread>

#include "base/log.h"
#include "server/engine_generator.h"
#include "server/http_access.h"
#include "server/http_server.h"
#include "server/routes.h"
#include "tools/common/model_path.h"
#include "tools/common/progress_line.h"
#include "tools/server/service_manager.h"

namespace ds4 {
namespace {

// Longest for answers that are complete to reach their clients.
constexpr int kFlushMs = 2'000;
constexpr auto kDrainPoll = std::chrono::milliseconds(20);

// --api-key, --api-key-file and DS4_API_KEY together.
Result<std::vector<std::string>> api_keys(const ServerOptions& options) {
  std::vector<std::string> keys = options.api_keys;
  if (!options.api_key_file.empty()) {
    const std::vector<std::string> more = TRY(read_api_keys(options.api_key_file));
    keys.insert(keys.end(), more.begin(), more.end());
  }
  if (const char* key = std::getenv("DS4_API_KEY"); key != nullptr && *key != '\0') keys.emplace_back(key);
  return keys;
}

// Without keys, a server on this machine alone must not be reached through the name of somebody's page.
AccessOptions access_options(const ServerOptions& options, std::vector<std::string> keys) {
  const bool is_local = options.host == "localhost" || options.host.starts_with("127.") || options.host == "::1" ||
                        options.host == "[::1]";
  const bool checks_host = !options.allowed_hosts.empty() || (keys.empty() && is_local);
  return {.keys = std::move(keys),
          .checks_host = checks_host,
          .allowed_hosts = options.allowed_hosts,
          .any_origin = options.cors,
          .origins = options.cors_origins};
}

HttpServerOptions server_options(const ServerOptions& options, const HttpAccess& access, Metrics& metrics) {
  HttpServerOptions result;
  result.host = options.host;
  result.port = static_cast<uint16_t>(options.port);
  result.tls_cert_file = options.tls_cert_file;
  result.tls_key_file = options.tls_key_file;
  result.admit = [&access, &metrics](const HttpRequest& head) {
    HttpAdmission admission = access.admit(head);
    if (admission.refusal) metrics.request_refused(admission.refusal->status);
    return admission;
  };
  result.error_response = [&metrics](int status, std::string_view reason) {
    metrics.request_refused(status);
    return openai_error_response({.status = status, .message = std::string(reason)});
  };
  return result;
}

void announce(const HttpServer& server, const ServerOptions& options, const ServedModel& model, bool has_keys) {
  const bool is_unix = options.host.starts_with("unix:");
  const std::string scheme = options.tls_cert_file.empty() ? "http://" : "https://";
  for (const std::string& address : server.addresses()) {
    log_info("listening", {{"url", is_unix ? address : scheme + address},
                           {"model", model.id},
                           {"ctx_tokens", model.ctx_tokens},
                           {"api_keys", has_keys}});
  }
  if (!server.loopback_only() && !has_keys) {
    log_warn(
        "REACHABLE FROM OTHER MACHINES WITHOUT A KEY: whoever reaches this address can use the model; see --api-key");
  }
  if (!server.loopback_only() && options.tls_cert_file.empty()) {
    log_warn("NOT ENCRYPTED: prompts, answers and keys can be read on their way; see --tls-cert");
  }
  const std::string address = server.addresses().front();
  const std::string where =
      is_unix ? fmt::format("--unix-socket {} http://localhost", address.substr(5)) : scheme + address;
  fmt::print(stderr,
             "\nTry:\n  curl -N {}/v1/chat/completions -H 'Content-Type: application/json' \\\n{}"
             "    -d '{{\"model\": \"{}\", \"stream\": true, \"messages\": [{{\"role\": \"user\", \"content\": "
             "\"Hello!\"}}]}}'\n\n",
             where, has_keys ? "    -H \"Authorization: Bearer $DS4_API_KEY\" \\\n" : "", model.id);
  if (!options.no_web && !is_unix) fmt::print(stderr, "Or chat in a browser: {}/\n\n", where);
}

void announce_memory(const MemoryPlan& plan) {
  log_info("memory", {{"of", plan.device.empty() ? "the machine" : plan.device},
                      {"weights", format_bytes(plan.weight_bytes)},
                      {"kv_pages", format_bytes(plan.kv_bytes)},
                      {"kv_tokens", int64_t{plan.kv.n_pages} * kPageTokens},
                      {"frontiers", format_bytes(plan.frontier_bytes)},
                      {"scratch", format_bytes(plan.scratch_bytes + plan.workspace_bytes)},
                      {"checkpoints_at_most", format_bytes(plan.checkpoint_bytes)}});
  if (!plan.warning.empty()) log_warn(plan.warning);
}

GeneratorOptions generator_options(const ServerOptions& options, int32_t ctx_tokens) {
  GeneratorOptions result;
  result.default_max_tokens = options.max_tokens;
  result.thinks_by_default = options.thinking.mode == ThinkingMode::kThinking;
  if (ctx_tokens >= kThinkMaxCtxTokens) result.default_effort = options.thinking.effort;
  result.max_waiting = static_cast<size_t>(options.max_waiting);
  result.keeps_volatile_text = options.keep_volatile_text;
  result.replay.max_ids = static_cast<size_t>(options.tool_memory_max_ids);
  result.request_timeout_us = int64_t{options.request_timeout_s} * 1'000'000;
  return result;
}

Result<std::unique_ptr<Engine>> load_engine(ServerOptions& options) {
  options.engine.model_path = TRY(resolve_model_path(options.engine.model_path));
  log_info("loading", {{"model", options.engine.model_path}});
  options.engine.load_progress = show_load_progress("ds4-server");
  std::unique_ptr<Engine> engine = TRY(Engine::load(options.engine));
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
  return engine;
}

// The listener stays open meanwhile, so that whoever balances load can see that the server drains.
void drain(Routes& routes, const Metrics& metrics, int32_t timeout_s) {
  log_info("draining", {{"timeout_s", timeout_s}, {"in_flight", metrics.n_in_flight()}});
  routes.drain();
  notify_service_manager("STOPPING=1");
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(timeout_s);
  while (metrics.n_in_flight() > 0 && std::chrono::steady_clock::now() < end) std::this_thread::sleep_for(kDrainPoll);
}

void log_end(const EngineGenerator& generator) {
  const ReplayStatistics replay = generator.replay_statistics();
  log_info("stopped", {{"replayed_from_memory", replay.n_memory},
                       {"replayed_from_store", replay.n_store},
                       {"canonical", replay.n_canonical},
                       {"missing_ids", replay.n_missing_ids}});
}

}  // namespace

Result<void> serve(ServerOptions& options, StopSignals& signals) {
  if (!options.chdir.empty() && ::chdir(options.chdir.c_str()) != 0) {
    return make_error(ErrorCode::kIo, "--chdir {}: {}", options.chdir, std::strerror(errno));
  }
  std::vector<std::string> keys = TRY(api_keys(options));
  const bool has_keys = !keys.empty();
  const HttpAccess access(access_options(options, std::move(keys)));
  std::unique_ptr<TraceLog> trace;
  if (!options.trace_file.empty()) trace = TRY(TraceLog::open(options.trace_file));
  const std::unique_ptr<Engine> engine = TRY(load_engine(options));

  const auto metrics = std::make_shared<Metrics>();
  GeneratorOptions generator_settings = generator_options(options, engine->ctx_tokens());
  generator_settings.metrics = metrics;
  generator_settings.trace = trace.get();
  EngineGenerator generator(*engine, generator_settings);
  Routes routes(generator, metrics);
  routes.set_web_page(!options.no_web);
  signals.begin_serving();
  const std::unique_ptr<HttpServer> server =
      TRY(HttpServer::start(server_options(options, access, *metrics),
                            [&routes](HttpRequest request, const std::shared_ptr<Responder>& responder) {
                              routes.handle(std::move(request), responder);
                            }));
  announce(*server, options, generator.model(), has_keys);
  notify_service_manager("READY=1");
  signals.wait();
  drain(routes, *metrics, options.drain_timeout_s);
  // What still runs had its time: it is ended with an error, and remembered.
  server->stop(metrics->n_in_flight() > 0 ? 0 : kFlushMs);
  generator.stop();
  log_end(generator);
  return {};
}

}  // namespace ds4
