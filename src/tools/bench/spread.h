#pragma once

// The middle and the spread of repeated measurements. Values.

#include <vector>

namespace ds4 {

struct Spread {
  double median = 0;
  double p10 = 0;
  double p90 = 0;
  double least = 0;
  double most = 0;
  int n = 0;
};

// Quantiles interpolate between neighbours. Nothing but zeros for no values.
Spread spread_of(std::vector<double> values);

}  // namespace ds4
