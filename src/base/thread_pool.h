#pragma once

// A persistent pool for data-parallel loops. parallel_for cuts [0, n) into chunks of `grain`; every thread has a
// contiguous share of them, the same for the same loop, and helps with the shares of others when its own is done.
// A loop body must write only what its index owns, and then results do not depend on the number of threads.
// A call allocates nothing and costs a microsecond or two: between loops the workers spin for a while before they
// sleep, and a loop waits only for chunks that somebody has begun, never for a worker that comes late.
// One thread at a time may call parallel_for, and not from inside a body: both are refused.

#include <concepts>
#include <cstdint>
#include <memory>

namespace ds4 {

struct ThreadPoolOptions {
  int n_threads = 0;  // with the caller of parallel_for; 0: one per usable processor
  // Keeps every worker on one processor. The caller stays movable, for threads that it starts would inherit its place.
  bool pin = false;
};

class ThreadPool {
 public:
  explicit ThreadPool(const ThreadPoolOptions& options);
  explicit ThreadPool(int n_threads) : ThreadPool(ThreadPoolOptions{.n_threads = n_threads}) {}
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int n_threads() const;

  // Calls body(first, last) or body(first, last, thread) over disjoint ranges that cover [0, n), each at most `grain`
  // long (grain >= 1). `thread` is in [0, n_threads()) and at any time belongs to one running body: for scratch memory.
  template <class Body>
  void parallel_for(int64_t n, int64_t grain, const Body& body) {
    run(n, grain, {&body, [](const void* context, int64_t first, int64_t last, int thread) {
                     const Body& called = *static_cast<const Body*>(context);
                     if constexpr (std::invocable<const Body&, int64_t, int64_t, int>) {
                       called(first, last, thread);
                     } else {
                       called(first, last);
                     }
                   }});
  }

 private:
  // A reference to a body that outlives the loop.
  struct BodyRef {
    const void* context;
    void (*call)(const void* context, int64_t first, int64_t last, int thread);
  };
  struct Shared;

  void run(int64_t n, int64_t grain, const BodyRef& body);

  std::unique_ptr<Shared> shared_;
};

}  // namespace ds4
