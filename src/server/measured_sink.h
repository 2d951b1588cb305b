#pragma once

// Stands between the engine and a request's sink: measures how long its tokens take, counts them, and ends it when its
// time is over. A request that runs into the time limit keeps what it has written, as one that was too long; one that
// has written nothing fails. Events come from the engine's thread; expire() may be called by any.

#include <atomic>
#include <cstdint>
#include <memory>

#include "base/clock.h"
#include "engine/request.h"
#include "server/metrics.h"

namespace ds4 {

class MeasuredSink final : public EventSink {
 public:
  // metrics may be null; the clock must outlive the request. cancel: the request's flag, not null.
  MeasuredSink(std::shared_ptr<EventSink> inner, std::shared_ptr<std::atomic<bool>> cancel,
               std::shared_ptr<Metrics> metrics, const Clock& clock);

  void on_events(OutputEvents events) override;

  int64_t start_us() const { return start_us_; }
  // Asks for the end.
  void expire();

 private:
  void measure(const OutputEvents& events);
  OutputEvents without_cancel(OutputEvents events) const;

  const std::shared_ptr<EventSink> inner_;
  const std::shared_ptr<std::atomic<bool>> cancel_;
  const std::shared_ptr<Metrics> metrics_;
  const Clock& clock_;
  const int64_t start_us_;
  int64_t last_output_us_ = -1;  // none yet
  std::atomic<bool> expired_ = false;
};

}  // namespace ds4
