#pragma once

// Progress of long work on standard error: on a terminal one line that is overwritten, elsewhere a line now and then.
// Nothing remains on a terminal when the object goes. One thread.

#include <cstdint>
#include <string>

#include "backends/backend.h"
#include "base/clock.h"

namespace ds4 {

// "1:02:03", "4:05".
std::string duration_text(double seconds);
// " 37.5 %  3.1 GB/s  0:12 left"
std::string transfer_text(uint64_t done_bytes, uint64_t total_bytes, double seconds);

class ProgressLine {
 public:
  // log_interval_us: between lines where there is no terminal.
  explicit ProgressLine(int64_t log_interval_us);
  ~ProgressLine();
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // Time for another line; the first comes after an interval.
  bool is_due() const;
  // A share from 0 to 1 as a bar, on terminals, and the text.
  void show(double share, const std::string& text);
  // Nothing remains of it.
  void clear();

 private:
  MonotonicClock clock_;
  bool on_terminal_;
  bool is_shown_ = false;
  int64_t log_interval_us_;
  int64_t shown_us_;
};

// For EngineOptions::load_progress: rate and time left of weights on their way, with that name in front.
WeightProgress show_load_progress(const std::string& program);

}  // namespace ds4
