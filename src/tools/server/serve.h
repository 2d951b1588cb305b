#pragma once

// The life of ds4-server after its command line: opens everything, serves until it is asked to stop, lets running
// answers end, and leaves what was remembered on disk. Main thread.

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "tools/common/options.h"
#include "tools/server/stop_signals.h"

namespace ds4 {

struct ServerOptions {
  EngineOptions engine;
  ThinkingOptions thinking;
  std::string host = "localhost";
  std::string chdir;
  std::string trace_file;
  std::string tls_cert_file;
  std::string tls_key_file;
  std::string api_key_file;
  std::vector<std::string> api_keys;
  std::vector<std::string> allowed_hosts;
  std::vector<std::string> cors_origins;
  int32_t port = 8000;
  int32_t max_tokens = kUnlimitedTokens;
  int32_t max_waiting = 64;
  int32_t tool_memory_max_ids = 0;
  int32_t request_timeout_s = 0;  // none
  int32_t drain_timeout_s = 10;
  bool keep_volatile_text = false;
  bool cors = false;
  bool no_web = false;  // no chat page at /
};

Result<void> serve(ServerOptions& options, StopSignals& signals);

}  // namespace ds4
