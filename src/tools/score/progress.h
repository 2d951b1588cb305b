#pragma once

// One line on standard error that is overwritten while a text is scored; nothing where nobody watches. Main thread.

#include <cstdint>

#include "base/clock.h"

namespace ds4 {

class ScoreProgress {
 public:
  explicit ScoreProgress(int64_t n_total) : n_total_(n_total), start_us_(clock_.now_us()) {}
  void add(int64_t n_tokens);

 private:
  MonotonicClock clock_;
  int64_t n_total_;
  int64_t n_done_ = 0;
  int64_t start_us_;
};

}  // namespace ds4
