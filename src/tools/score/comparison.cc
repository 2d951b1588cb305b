#include "tools/score/comparison.h"

#include <algorithm>
#include <cmath>

#include "engine/sampler.h"

namespace ds4 {

void Comparison::add(const ReferenceRow& reference, double reference_nll_here, std::span<const float> candidate,
                     int32_t target) {
  if (count_nonfinite(candidate) > 0) {
    ++n_nonfinite;
    return;
  }
  const double nll = log_sum_exp(candidate) - candidate[static_cast<size_t>(target)];
  reference_nll.add(reference_nll_here);
  candidate_nll.add(nll);
  nll_delta.add(nll - reference_nll_here);
  const RowDifference difference = compare_rows(reference, candidate);
  kl.add(difference.kl);
  kl_values.push_back(difference.kl);
  n_same_top1 += difference.same_top1 ? 1 : 0;
  top5_share.add(difference.top5_overlap / double{kTopFew});
  top20_share.add(difference.top20_overlap / double{kTopMany});
  rms.add(difference.rms);
  max_rank_delta = std::max(max_rank_delta, difference.max_rank_delta);
  worst_rms = std::max(worst_rms, difference.rms);
  max_abs = std::max(max_abs, difference.max_abs);
  top20_max_abs = std::max(top20_max_abs, difference.top20_max_abs);
}

double Comparison::top1_share() const {
  return count() == 0 ? 0 : static_cast<double>(n_same_top1) / static_cast<double>(count());
}

double Comparison::perplexity_ratio() const { return std::exp(nll_delta.mean()); }

Interval Comparison::perplexity_ratio_interval() const {
  const Interval interval = nll_delta.interval();
  return {std::exp(interval.low), std::exp(interval.high)};
}

bool GateLimits::empty() const {
  return !min_top1 && !min_top5 && !min_top20 && !max_rms && !max_top20_abs && !max_kl && !max_ppl_ratio;
}

std::vector<GateCheck> check_limits(const Comparison& comparison, const GateLimits& limits) {
  std::vector<GateCheck> checks;
  const auto at_least = [&](const char* name, double found, const std::optional<double>& limit) {
    if (limit) checks.push_back({name, found, *limit, found >= *limit});
  };
  const auto at_most = [&](const char* name, double found, const std::optional<double>& limit) {
    if (limit) checks.push_back({name, found, *limit, found <= *limit});
  };
  at_least("top1", comparison.top1_share(), limits.min_top1);
  at_least("top5", comparison.top5_share.mean(), limits.min_top5);
  at_least("top20", comparison.top20_share.mean(), limits.min_top20);
  at_most("rms", comparison.worst_rms, limits.max_rms);
  at_most("top20_abs", comparison.top20_max_abs, limits.max_top20_abs);
  at_most("kl", comparison.kl.mean(), limits.max_kl);
  at_most("ppl_ratio", comparison.perplexity_ratio(), limits.max_ppl_ratio);
  at_most("nonfinite", static_cast<double>(comparison.n_nonfinite), 0.0);
  return checks;
}

}  // namespace ds4
