#include "tools/bench/spread.h"

#include <algorithm>
#include <cmath>

namespace ds4 {

namespace {

double quantile(const std::vector<double>& sorted, double q) {
  const double place = q * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<size_t>(place);
  const size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], place - static_cast<double>(below));
}

}  // namespace

Spread spread_of(std::vector<double> values) {
  if (values.empty()) return {};
  std::ranges::sort(values);
  return {.median = quantile(values, 0.5),
          .p10 = quantile(values, 0.1),
          .p90 = quantile(values, 0.9),
          .least = values.front(),
          .most = values.back(),
          .n = static_cast<int>(values.size())};
}

}  // namespace ds4
