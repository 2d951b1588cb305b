#pragma once

// An answer of several choices: one engine request each, of the same prompt, whose prefix the engine shares as it does
// for any requests. The gate stands between their events and the sink that writes the answer. Nothing passes before
// begin(), so that an answer whose choices were not all accepted can still be refused; then events pass one list at a
// time. The first failure is the last that passes, and cancels the other choices. The gate may be used by any thread,
// so the sink behind it needs no lock.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "engine/request.h"
#include "server/api.h"
#include "server/http_message.h"

namespace ds4 {

// n requests that differ in their seeds only, where there is one: the first has the request's own, each other the next.
std::vector<GenerateRequest> choices_of(GenerateRequest request, int32_t n);

// Adds one choice's usage. A prompt counts once, however many answers it has.
void add_choice_usage(Usage& total, const Usage& usage, bool is_first_of_prompt);

class AnswerGate : public std::enable_shared_from_this<AnswerGate> {
 public:
  AnswerGate(std::shared_ptr<AnswerSink> answer, std::shared_ptr<Responder> responder)
      : answer_(std::move(answer)), responder_(std::move(responder)) {}

  // The sink of one choice.
  std::shared_ptr<EventSink> choice(size_t index);
  // All choices were handed over: begins the answer.
  void begin();
  // Instead of begin(): the answer is written by the caller, and the choices that run already are cancelled.
  void close();

 private:
  enum class State { kWaiting, kOpen, kClosed };

  void on_events(size_t choice, OutputEvents events);
  void pass(size_t choice, OutputEvents events);

  const std::shared_ptr<AnswerSink> answer_;
  const std::shared_ptr<Responder> responder_;
  std::mutex mutex_;
  State state_ = State::kWaiting;
  std::vector<std::pair<size_t, OutputEvents>> early_;
};

}  // namespace ds4
