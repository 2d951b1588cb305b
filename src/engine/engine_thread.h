#pragma once

// The thread that runs a scheduler. Two queues, each one way: requests come in here, events go out through their
// sinks. The in-queue is bounded over everything that waits for a slot, so a full engine says so at once.
// submit() and stop() may be called from any thread; requests start in the order of submission.

#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "base/error.h"
#include "engine/request.h"
#include "engine/scheduler.h"

namespace ds4 {

enum class StopMode {
  kDrain,   // what was submitted runs to its end
  kCancel,  // everything ends as cancelled within one step
};

class EngineThread {
 public:
  // Starts. The scheduler must outlive this object and be used by nobody else meanwhile.
  // after_step: called on this thread, the only one that may look at the scheduler, at the start, after every step and
  // after a rest.
  EngineThread(Scheduler& scheduler, size_t max_waiting, std::function<void()> after_step = {});
  ~EngineThread();  // stop(kCancel)
  EngineThread(const EngineThread&) = delete;
  EngineThread& operator=(const EngineThread&) = delete;

  // Ok: the sink will get events up to one Finished or Failed (also for a request that cannot be run).
  // Error, and no event will come: kBusy when max_waiting requests wait already, or after stop().
  Result<void> submit(GenerateRequest request);

  // Refuses new requests and returns when the old ones have ended. kCancel after kDrain hurries it.
  void stop(StopMode mode);

  // Requests that have no slot yet.
  size_t n_waiting() const;

 private:
  enum class State { kRunning, kDraining, kCancelling };
  void run();
  bool take_requests(bool has_work);

  Scheduler& scheduler_;
  const size_t max_waiting_;
  const std::function<void()> after_step_;

  mutable std::mutex mutex_;  // guards what follows
  std::condition_variable changed_;
  std::vector<GenerateRequest> inbox_;
  size_t n_waiting_in_scheduler_ = 0;
  State state_ = State::kRunning;

  std::mutex join_mutex_;
  std::thread thread_;
};

}  // namespace ds4
