#pragma once

// An EventSink for a thread that waits for its events: the programs and the tests. Bounded by the request itself,
// which makes at most a few events per token. The engine thread pushes, one other thread pops.

#include <condition_variable>
#include <mutex>

#include "engine/request.h"

namespace ds4 {

class EventQueue final : public EventSink {
 public:
  void on_events(OutputEvents events) override;

  // Blocks until there are events and takes all. Precondition: Finished or Failed was not taken yet.
  OutputEvents pop();

 private:
  std::mutex mutex_;
  std::condition_variable has_events_;
  OutputEvents events_;
};

}  // namespace ds4
