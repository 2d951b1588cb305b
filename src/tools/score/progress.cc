#include "tools/score/progress.h"

#include <unistd.h>

#include <cstdio>

#include <fmt/format.h>

namespace ds4 {

void ScoreProgress::add(int64_t n_tokens) {
  n_done_ += n_tokens;
  if (isatty(STDERR_FILENO) != 1) return;
  const double seconds = static_cast<double>(clock_.elapsed_us(start_us_)) / 1e6;
  fmt::print(stderr, "\r\x1b[K[{}/{}] {:.0f} tokens/s{}", n_done_, n_total_, static_cast<double>(n_done_) / seconds,
             n_done_ == n_total_ ? "\r\x1b[K" : "");
}

}  // namespace ds4
