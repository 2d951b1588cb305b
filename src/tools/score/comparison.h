#pragma once

// A candidate against a reference over all scored positions of a text, and the limits of a gate. Plain values.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tools/score/logit_metrics.h"
#include "tools/score/statistics.h"

namespace ds4 {

struct Comparison {
  RunningMean reference_nll, candidate_nll;
  RunningMean nll_delta;  // candidate - reference at the same position
  RunningMean kl;
  std::vector<double> kl_values;
  int64_t n_same_top1 = 0;
  RunningMean top5_share, top20_share;  // of the reference's best that are among the candidate's
  RunningMean rms;
  int32_t max_rank_delta = 0;
  double worst_rms = 0;
  double max_abs = 0;
  double top20_max_abs = 0;
  int64_t n_nonfinite = 0;  // positions left out because a logit of the candidate is not finite

  // `target`: the text's token.
  void add(const ReferenceRow& reference, double reference_nll_here, std::span<const float> candidate, int32_t target);

  int64_t count() const { return kl.count(); }
  double top1_share() const;
  // exp of the mean difference, with the interval of the paired differences.
  double perplexity_ratio() const;
  Interval perplexity_ratio_interval() const;
};

// Bounds that a candidate must keep; absent ones are not checked. Not finite logits always miss.
struct GateLimits {
  std::optional<double> min_top1, min_top5, min_top20;  // shares from 0 to 1
  std::optional<double> max_rms, max_top20_abs;         // of the worst position
  std::optional<double> max_kl;                         // mean
  std::optional<double> max_ppl_ratio;

  bool empty() const;
};

struct GateCheck {
  std::string name;
  double found = 0;
  double limit = 0;
  bool is_kept = false;
};
std::vector<GateCheck> check_limits(const Comparison& comparison, const GateLimits& limits);

}  // namespace ds4
