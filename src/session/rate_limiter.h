#pragma once

// Spreads bytes over time: who has spent some waits until they are paid for. A value type; no clock inside.

#include <algorithm>
#include <cstdint>

namespace ds4 {

class RateLimiter {
 public:
  // 0: no limit.
  explicit RateLimiter(uint64_t bytes_per_s) : bytes_per_s_(bytes_per_s) {}

  // How long to wait at this time before more is spent.
  int64_t wait_us(int64_t now_us) const { return std::max<int64_t>(0, free_at_us_ - now_us); }
  void spend(uint64_t n_bytes, int64_t now_us) {
    if (bytes_per_s_ == 0) return;
    constexpr double kMicroseconds = 1e6;
    const double cost_us = static_cast<double>(n_bytes) / static_cast<double>(bytes_per_s_) * kMicroseconds;
    free_at_us_ = std::max(free_at_us_, now_us) + static_cast<int64_t>(cost_us);
  }

 private:
  uint64_t bytes_per_s_;
  int64_t free_at_us_ = 0;
};

}  // namespace ds4
