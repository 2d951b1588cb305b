#pragma once

// Runs one request and shows its answer while it comes: content on stdout, reasoning dim and on a terminal only,
// progress and speed on stderr. Ctrl-C ends prefill and generation and keeps what is there. Main thread.

#include <cstdint>
#include <string>

#include "chat/events.h"
#include "engine/engine_thread.h"
#include "engine/request.h"

namespace ds4 {

struct Answer {
  std::string reasoning;
  std::string content;
  FinishReason reason = FinishReason::kStop;
  Usage usage;
};

// Fills in sink and cancel flag. Error: that of Failed, or of a write to stdout.
Result<Answer> run_request(EngineThread& thread, GenerateRequest request);

}  // namespace ds4
