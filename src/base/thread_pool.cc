#include "base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "base/check.h"

namespace ds4 {

struct ThreadPool::Shared {
  std::mutex mutex;
  std::condition_variable work_ready;
  std::condition_variable work_done;
  uint64_t generation = 0;  // counts loops; a worker runs each generation once
  int active_workers = 0;
  bool stopping = false;

  const std::function<void(int64_t, int64_t)>* body = nullptr;
  int64_t n = 0;
  int64_t grain = 1;
  std::atomic<int64_t> next{0};

  std::vector<std::jthread> workers;

  void take_chunks() {
    for (;;) {
      const int64_t first = next.fetch_add(grain, std::memory_order_relaxed);
      if (first >= n) return;
      (*body)(first, std::min(first + grain, n));
    }
  }

  void worker_loop() {
    uint64_t seen = 0;
    std::unique_lock lock(mutex);
    for (;;) {
      work_ready.wait(lock, [&] { return stopping || generation != seen; });
      if (stopping) return;
      seen = generation;
      lock.unlock();
      take_chunks();
      lock.lock();
      if (--active_workers == 0) work_done.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int n_threads) : shared_(std::make_unique<Shared>()) {
  if (n_threads <= 0) n_threads = static_cast<int>(std::max(1u, std::thread::hardware_concurrency()));
  for (int i = 1; i < n_threads; ++i)
    shared_->workers.emplace_back([shared = shared_.get()] { shared->worker_loop(); });
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->stopping = true;
  }
  shared_->work_ready.notify_all();
}

int ThreadPool::n_threads() const { return static_cast<int>(shared_->workers.size()) + 1; }

void ThreadPool::parallel_for(int64_t n, int64_t grain, const std::function<void(int64_t, int64_t)>& body) {
  CHECK(grain >= 1, "grain {}", grain);
  if (n <= 0) return;
  if (shared_->workers.empty() || n <= grain) {
    for (int64_t first = 0; first < n; first += grain) body(first, std::min(first + grain, n));
    return;
  }
  {
    const std::lock_guard lock(shared_->mutex);
    shared_->body = &body;
    shared_->n = n;
    shared_->grain = grain;
    shared_->next.store(0, std::memory_order_relaxed);
    shared_->active_workers = static_cast<int>(shared_->workers.size());
    ++shared_->generation;
  }
  shared_->work_ready.notify_all();
  shared_->take_chunks();
  std::unique_lock lock(shared_->mutex);
  shared_->work_done.wait(lock, [&] { return shared_->active_workers == 0; });
}

}  // namespace ds4
