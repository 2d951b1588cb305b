#include "engine/engine_thread.h"

#include <chrono>
#include <utility>

namespace ds4 {
namespace {

// So long without work, and conversations rest.
constexpr std::chrono::seconds kRestAfter{3};

}  // namespace

EngineThread::EngineThread(Scheduler& scheduler, size_t max_waiting, std::function<void()> after_step)
    : scheduler_(scheduler),
      max_waiting_(max_waiting),
      after_step_(after_step ? std::move(after_step) : [] {}),
      thread_([this] { run(); }) {}

EngineThread::~EngineThread() { stop(StopMode::kCancel); }

Result<void> EngineThread::submit(GenerateRequest request) {
  {
    const std::lock_guard lock(mutex_);
    if (state_ != State::kRunning) return make_error(ErrorCode::kBusy, "the engine is stopping");
    const size_t n_waiting = inbox_.size() + n_waiting_in_scheduler_;
    if (n_waiting >= max_waiting_) {
      return make_error(ErrorCode::kBusy, "{} requests wait already, the limit is {}", n_waiting, max_waiting_);
    }
    inbox_.push_back(std::move(request));
  }
  changed_.notify_one();
  return {};
}

void EngineThread::stop(StopMode mode) {
  {
    const std::lock_guard lock(mutex_);
    if (mode == StopMode::kCancel) state_ = State::kCancelling;
    if (state_ == State::kRunning) state_ = State::kDraining;
  }
  changed_.notify_one();
  const std::lock_guard lock(join_mutex_);
  if (thread_.joinable()) thread_.join();
}

size_t EngineThread::n_waiting() const {
  const std::lock_guard lock(mutex_);
  return inbox_.size() + n_waiting_in_scheduler_;
}

void EngineThread::run() {
  bool has_work = false;
  after_step_();
  while (take_requests(has_work)) {
    has_work = scheduler_.step();
    after_step_();
  }
  scheduler_.finish();
}

// False when the thread has nothing to do any more.
bool EngineThread::take_requests(bool has_work) {
  std::vector<GenerateRequest> requests;
  State state = State::kRunning;
  {
    std::unique_lock lock(mutex_);
    n_waiting_in_scheduler_ = scheduler_.n_waiting();
    const auto has_news = [this] { return !inbox_.empty() || state_ != State::kRunning; };
    if (!has_work && !changed_.wait_for(lock, kRestAfter, has_news)) {
      lock.unlock();
      scheduler_.rest();
      after_step_();
      lock.lock();
      changed_.wait(lock, has_news);
    }
    requests.swap(inbox_);
    state = state_;
    n_waiting_in_scheduler_ += requests.size();
  }
  // Without the lock: a request that cannot run answers its sink at once.
  for (GenerateRequest& request : requests) scheduler_.submit(std::move(request));
  if (state == State::kCancelling) scheduler_.cancel_all();
  {
    const std::lock_guard lock(mutex_);
    n_waiting_in_scheduler_ = scheduler_.n_waiting();
  }
  return state == State::kRunning || scheduler_.n_waiting() + scheduler_.n_running() > 0;
}

}  // namespace ds4
