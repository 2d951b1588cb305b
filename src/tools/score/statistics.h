#pragma once

// Estimates with their uncertainty. Intervals are two-sided at 95 %; observations count as independent, which
// neighbouring tokens of a text are only nearly. Plain values.

#include <cstdint>
#include <vector>

namespace ds4 {

inline constexpr double kZ95 = 1.959963984540054;  // 97.5 % point of the normal distribution

struct Interval {
  double low = 0;
  double high = 0;
};

// Mean and spread of a stream of numbers (Welford's update).
class RunningMean {
 public:
  void add(double value);
  int64_t count() const { return count_; }
  double mean() const { return mean_; }
  double sum() const { return mean_ * static_cast<double>(count_); }
  // Of the mean; 0 for fewer than two values.
  double standard_error() const;
  Interval interval() const;

 private:
  int64_t count_ = 0;
  double mean_ = 0;
  double squares_ = 0;  // sum of squared deviations from the mean
};

// Wilson's interval for the probability behind `successes` of `count`; [0, 1] when count is 0.
Interval wilson_interval(int64_t successes, int64_t count);

// The value below which a share q of `sorted` (ascending) lies, between neighbours by linear interpolation; 0 for none.
double percentile(const std::vector<double>& sorted, double q);

}  // namespace ds4
