#pragma once

// A persistent pool for data-parallel loops. parallel_for splits [0, n) into chunks that workers take
// in any order; a loop body must therefore write only what its index owns, and then results do not depend
// on the number of threads. One thread at a time may call parallel_for; bodies must not call it again.

#include <cstdint>
#include <functional>
#include <memory>

namespace ds4 {

class ThreadPool {
 public:
  // n_threads includes the caller; 0 means one per usable core.
  explicit ThreadPool(int n_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int n_threads() const;

  // Calls body(first, last) over disjoint ranges that cover [0, n), each at most `grain` long (grain >= 1).
  void parallel_for(int64_t n, int64_t grain, const std::function<void(int64_t first, int64_t last)>& body);

 private:
  struct Shared;
  std::unique_ptr<Shared> shared_;
};

}  // namespace ds4
