#pragma once

// Time that tests can replace: whoever measures or waits takes a Clock. Readings never run backwards and
// mean nothing but their differences. Implementations may be read by any thread.

#include <chrono>
#include <cstdint>

namespace ds4 {

class Clock {
 public:
  virtual ~Clock() = default;
  virtual int64_t now_us() const = 0;

  int64_t elapsed_us(int64_t since_us) const { return now_us() - since_us; }
};

class MonotonicClock final : public Clock {
 public:
  int64_t now_us() const override {
    const auto since_epoch = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration_cast<std::chrono::microseconds>(since_epoch).count();
  }
};

}  // namespace ds4
