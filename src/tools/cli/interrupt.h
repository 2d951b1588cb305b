#pragma once

// While one lives, the first Ctrl-C sets a flag instead of ending the program; a second one ends it, should the first
// not help. At most one at a time, on the main thread.

#include <atomic>

namespace ds4 {

class InterruptGuard {
 public:
  // The flag must outlive the guard.
  explicit InterruptGuard(std::atomic<bool>& flag);
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
};

}  // namespace ds4
