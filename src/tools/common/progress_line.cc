#include "tools/common/progress_line.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>

namespace ds4 {

namespace {

constexpr int64_t kTerminalIntervalUs = 200'000;
constexpr int64_t kLoadLogIntervalUs = 10'000'000;
constexpr int kBarWidth = 24;

}  // namespace

std::string duration_text(double seconds) {
  const int64_t total = std::llround(seconds);
  if (total >= 3600) return fmt::format("{}:{:02}:{:02}", total / 3600, total / 60 % 60, total % 60);
  return fmt::format("{}:{:02}", total / 60, total % 60);
}

std::string transfer_text(uint64_t done_bytes, uint64_t total_bytes, double seconds) {
  const auto done = static_cast<double>(done_bytes);
  const double rate = done / std::max(seconds, 1e-6);
  const double left = static_cast<double>(total_bytes) - done;
  return fmt::format("{:5.1f} %  {:.1f} GB/s  {} left", 100 * done / std::max(static_cast<double>(total_bytes), 1.0),
                     rate / 1e9, rate > 0 ? duration_text(left / rate) : "?");
}

ProgressLine::ProgressLine(int64_t log_interval_us)
    : on_terminal_(isatty(STDERR_FILENO) == 1), log_interval_us_(log_interval_us), shown_us_(clock_.now_us()) {}

ProgressLine::~ProgressLine() { clear(); }

bool ProgressLine::is_due() const {
  return clock_.elapsed_us(shown_us_) >= (on_terminal_ ? kTerminalIntervalUs : log_interval_us_);
}

void ProgressLine::show(double share, const std::string& text) {
  shown_us_ = clock_.now_us();
  if (!on_terminal_) return fmt::print(stderr, "{}\n", text);
  is_shown_ = true;
  const auto filled = static_cast<int>(std::clamp(share, 0.0, 1.0) * kBarWidth);
  fmt::print(stderr, "\r\x1b[K[{:#<{}}{:.<{}}] {}", "", filled, "", kBarWidth - filled, text);
}

void ProgressLine::clear() {
  if (is_shown_) fmt::print(stderr, "\r\x1b[K");
  is_shown_ = false;
}

WeightProgress show_load_progress(const std::string& program) {
  struct State {
    MonotonicClock clock;
    ProgressLine line{kLoadLogIntervalUs};
    int64_t start_us = 0;
    uint64_t last_bytes = 0;
  };
  // Copies of the function share it.
  auto state = std::make_shared<State>();
  return [state, program](uint64_t done, uint64_t total) {
    // A load begins anew where the count falls.
    if (state->start_us == 0 || done < state->last_bytes) state->start_us = state->clock.now_us();
    state->last_bytes = done;
    if (done == total) return state->line.clear();
    if (!state->line.is_due()) return;
    const auto seconds = static_cast<double>(state->clock.elapsed_us(state->start_us)) * 1e-6;
    state->line.show(static_cast<double>(done) / static_cast<double>(total),
                     fmt::format("{}: loading {}", program, transfer_text(done, total, seconds)));
  };
}

}  // namespace ds4
