#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "base/log.h"
#include "chat/replay_map.h"
#include "tools/common/options.h"
#include "tools/server/serve.h"
#include "tools/server/stop_signals.h"

namespace ds4 {
namespace {

constexpr const char* kProgram = "ds4-server";
constexpr int32_t kMaxTimeoutS = 1'000'000;

void add_text_option(CLI::App& app, const char* name, std::string& value, const char* type, const std::string& help) {
  app.add_option(name, value, help)->take_last()->type_name(type);
}

void add_access_options(CLI::App& app, ServerOptions& options) {
  app.option_defaults()->group("Access");
  add_text_option(app, "--host", options.host, "ADDRESS",
                  "address to listen on (localhost: 127.0.0.1 and ::1), or unix:PATH");
  add_integer_option(app, "--port", options.port, {0, 65535}, "port to listen on; 0 takes a free one (8000)");
  const auto add_list = [&app](const char* name, std::vector<std::string>& values, const char* type,
                               const std::string& help) {
    app.add_option(name, values, help)->take_all()->allow_extra_args(false)->type_name(type);
  };
  add_list("--api-key", options.api_keys, "KEY",
           "a key that clients must send; may be repeated (none, or DS4_API_KEY)");
  add_text_option(app, "--api-key-file", options.api_key_file, "FILE", "more keys, one per line; # begins a comment");
  add_text_option(app, "--tls-cert", options.tls_cert_file, "FILE", "certificate chain (PEM): serve https");
  add_text_option(app, "--tls-key", options.tls_key_file, "FILE", "its private key (PEM)");
  app.add_flag("--cors", options.cors, "let web pages of any origin use the server");
  add_list("--cors-origin", options.cors_origins, "ORIGIN", "let pages of this origin use it; may be repeated");
  add_list("--allowed-host", options.allowed_hosts, "NAME", "a name that the server is reached by; may be repeated");
  app.option_defaults()->group("Options");
}

void add_options(CLI::App& app, ServerOptions& options) {
  options.engine.steering.policy = SteeringPolicy::kFinalAnswer;
  options.tool_memory_max_ids = static_cast<int32_t>(ReplayLimits{}.max_ids);
  add_model_options(app, options.engine);
  add_thinking_options(app, options.thinking);
  add_kv_options(app, options.engine);
  add_access_options(app, options);
  add_integer_option(app, "-n,--tokens", options.max_tokens, {1, kUnlimitedTokens},
                     "output limit of requests that name none (the context)");
  add_integer_option(app, "--parallel,--batched-session", options.engine.n_slots, {1, 256},
                     "requests that run at once (4)");
  add_integer_option(app, "--queue", options.max_waiting, {1, 100'000}, "requests that may wait; more get 429 (64)");
  add_integer_option(app, "--request-timeout", options.request_timeout_s, {0, kMaxTimeoutS},
                     "seconds that a request may take, waiting included; 0: no limit (0)");
  add_integer_option(app, "--drain-timeout", options.drain_timeout_s, {0, kMaxTimeoutS},
                     "seconds that running requests get to end after SIGTERM (10)");
  add_integer_option(app, "--tool-memory-max-ids", options.tool_memory_max_ids, {0, 100'000'000},
                     "tool calls whose exact text is remembered for the prompts that return them; 0: none (100000)");
  app.add_flag_callback(
      "--disable-exact-dsml-tool-replay", [&options] { options.tool_memory_max_ids = 0; },
      "same as --tool-memory-max-ids 0");
  app.add_flag("--keep-volatile-text", options.keep_volatile_text,
               "leave text in system prompts that changes with every request and means nothing to the model");
  app.add_flag("--no-web", options.no_web, "answer browsers at / with a line of text instead of the chat page");
  add_text_option(app, "--trace", options.trace_file, "FILE", "append prompts, cache decisions and answers to a file");
  add_text_option(app, "--chdir", options.chdir, "DIR", "directory to change to before anything is opened");
}

int run(int argc, char** argv) {
  CLI::App app("Serves a DeepSeek-V4 model over HTTP (docs/server_api.md, docs/operations.md).", kProgram);
  ServerOptions options;
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
