#pragma once

// Writes one generation's record for --trace: the prompt as the model gets it, the settings, what of it was remembered
// and from where, the events with their times, and how it ended. Stands between the engine and a request's sink; used
// by the engine's thread after construction.

#include <cstdint>
#include <memory>
#include <string>

#include "base/clock.h"
#include "engine/request.h"
#include "server/trace_log.h"
#include "text/tokenizer.h"

namespace ds4 {

class TraceSink final : public EventSink {
 public:
  // Reads the request, but does not take its sink, `inner`. The log, clock and tokenizer must outlive the request;
  // tokenizer may be null.
  TraceSink(std::shared_ptr<EventSink> inner, const GenerateRequest& request, const Tokenizer* tokenizer, TraceLog& log,
            const Clock& clock);

  void on_events(OutputEvents events) override;

 private:
  void begin(const GenerateRequest& request, const Tokenizer* tokenizer);
  void add(const OutputEvent& event);
  void add_text(std::string_view kind, std::string_view text);
  void end(std::string_view finish, const Usage* usage);
  double elapsed_ms() const { return static_cast<double>(clock_.elapsed_us(start_us_)) / 1000; }

  const std::shared_ptr<EventSink> inner_;
  TraceLog& log_;
  const Clock& clock_;
  const int64_t start_us_;
  std::string record_;
  std::string_view last_kind_;  // of text, which continues
  size_t n_prefilled_ = 0;
};

}  // namespace ds4
