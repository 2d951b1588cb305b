#pragma once

// Progress of convert and quantize on standard error: on a terminal one line that is overwritten, with rate and time
// left; elsewhere a line a minute. Nothing remains on a terminal when the object goes. One thread.

#include <cstdint>

#include "base/clock.h"
#include "quant/quantize_model.h"
#include "tools/common/progress_line.h"

namespace ds4 {

class ProgressBar {
 public:
  ProgressBar();

  void show(const QuantizeProgress& progress);

 private:
  MonotonicClock clock_;
  ProgressLine line_;
  int64_t start_us_;
  int64_t start_elements_ = -1;  // that were done before; -1: nothing shown yet
};

}  // namespace ds4
