#include "tools/gguf/progress_bar.h"

#include <unistd.h>
#include <cmath>

#include <algorithm>

namespace ds4 {

namespace {

constexpr int64_t kTerminalIntervalUs = 200'000;
constexpr int64_t kLogIntervalUs = 60'000'000;
constexpr int kBarWidth = 24;

std::string to_time(double seconds) {
  const int64_t total = std::llround(seconds);
  if (total >= 3600) return fmt::format("{}:{:02}:{:02}", total / 3600, total / 60 % 60, total % 60);
  return fmt::format("{}:{:02}", total / 60, total % 60);
}

}  // namespace

ProgressBar::ProgressBar()
    : on_terminal_(isatty(STDERR_FILENO) == 1), start_us_(clock_.now_us()), shown_us_(start_us_) {}

ProgressBar::~ProgressBar() {
  if (on_terminal_ && start_elements_ >= 0) fmt::print(stderr, "\r\x1b[K");
}

void ProgressBar::show(const QuantizeProgress& progress) {
  const int64_t now_us = clock_.now_us();
  if (start_elements_ < 0) {
    start_elements_ = progress.done_elements;
    start_us_ = now_us;
    if (progress.resumed_tensors > 0) {
      fmt::print(stderr, "going on with an interrupted run: {} tensors are complete\n", progress.resumed_tensors);
    }
  }
  if (now_us - shown_us_ < (on_terminal_ ? kTerminalIntervalUs : kLogIntervalUs)) return;
  shown_us_ = now_us;
  const double seconds = std::max(static_cast<double>(now_us - start_us_), 1.0) / 1e6;
  const double rate = static_cast<double>(progress.done_elements - start_elements_) / seconds;
  const double left = static_cast<double>(progress.total_elements - progress.done_elements);
  const double share = static_cast<double>(progress.done_elements) / static_cast<double>(progress.total_elements);
  const std::string figures = fmt::format("{:5.1f} %  {:.1f} M weights/s  {} left  {}", 100 * share, rate / 1e6,
                                          rate > 0 ? to_time(left / rate) : "?", progress.tensor);
  if (!on_terminal_) return fmt::print(stderr, "{}\n", figures);
  const auto filled = static_cast<int>(share * kBarWidth);
  fmt::print(stderr, "\r\x1b[K[{:#<{}}{:.<{}}] {}", "", filled, "", kBarWidth - filled, figures);
}

}  // namespace ds4
