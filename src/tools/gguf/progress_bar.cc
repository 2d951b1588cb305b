#include "tools/gguf/progress_bar.h"

#include <algorithm>
#include <cstdio>

namespace ds4 {

namespace {

constexpr int64_t kLogIntervalUs = 60'000'000;

}  // namespace

ProgressBar::ProgressBar() : line_(kLogIntervalUs), start_us_(clock_.now_us()) {}

void ProgressBar::show(const QuantizeProgress& progress) {
  const int64_t now_us = clock_.now_us();
  if (start_elements_ < 0) {
    start_elements_ = progress.done_elements;
    start_us_ = now_us;
    if (progress.resumed_tensors > 0) {
      fmt::print(stderr, "going on with an interrupted run: {} tensors are complete\n", progress.resumed_tensors);
    }
  }
  if (!line_.is_due()) return;
  const double seconds = std::max(static_cast<double>(now_us - start_us_), 1.0) / 1e6;
  const double rate = static_cast<double>(progress.done_elements - start_elements_) / seconds;
  const double left = static_cast<double>(progress.total_elements - progress.done_elements);
  const double share = static_cast<double>(progress.done_elements) / static_cast<double>(progress.total_elements);
  line_.show(share, fmt::format("{:5.1f} %  {:.1f} M weights/s  {} left  {}", 100 * share, rate / 1e6,
                                rate > 0 ? duration_text(left / rate) : "?", progress.tensor));
}

}  // namespace ds4
