#pragma once

// SIGINT and SIGTERM: before the server runs they end the program at once, then the first one asks it to stop and the
// second ends it at once. Must be made before any other thread, which then inherits the blocked signals. Main thread.

#include <atomic>
#include <memory>
#include <semaphore>

namespace ds4 {

class StopSignals {
 public:
  StopSignals();

  void begin_serving() { state_->serving = true; }
  void wait() { state_->asked.acquire(); }

 private:
  struct State {
    std::atomic<bool> serving = false;
    std::binary_semaphore asked{0};
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace ds4
