#include "tools/score/logit_metrics.h"

#include <algorithm>
#include <cmath>

#include "engine/sampler.h"

namespace ds4 {

namespace {

// Position of `id` in `ids`, or nothing.
std::optional<int32_t> rank_in(std::span<const int32_t> ids, int32_t id) {
  const auto found = std::ranges::find(ids, id);
  if (found == ids.end()) return std::nullopt;
  return static_cast<int32_t>(found - ids.begin());
}

int32_t overlap(std::span<const int32_t> a, std::span<const int32_t> b) {
  return static_cast<int32_t>(std::ranges::count_if(a, [&](int32_t id) { return rank_in(b, id).has_value(); }));
}

std::optional<float> logit_of(const ReferenceRow& reference, int32_t id) {
  if (reference.ids.empty()) return reference.logits[static_cast<size_t>(id)];
  const auto rank = rank_in(reference.ids, id);
  if (!rank) return std::nullopt;
  return reference.logits[static_cast<size_t>(*rank)];
}

size_t id_at(const ReferenceRow& reference, size_t i) {
  return reference.ids.empty() ? i : static_cast<size_t>(reference.ids[i]);
}

double divergence(const ReferenceRow& reference, std::span<const float> candidate) {
  const double candidate_sum = log_sum_exp(candidate);
  double kl = 0;
  double reference_rest = 1;
  double candidate_rest = 1;
  for (size_t i = 0; i < reference.logits.size(); ++i) {
    const double log_p = reference.logits[i] - reference.log_sum_exp;
    const double log_q = candidate[id_at(reference, i)] - candidate_sum;
    const double p = std::exp(log_p);
    kl += p * (log_p - log_q);
    reference_rest -= p;
    candidate_rest -= std::exp(log_q);
  }
  if (!reference.ids.empty() && reference_rest > 0) {
    constexpr double kLeast = 1e-15;  // what is left of 1 after many subtractions
    kl += reference_rest * std::log(reference_rest / std::max(candidate_rest, kLeast));
  }
  // Rounding may leave a little less than nothing.
  return std::max(0.0, kl);
}

}  // namespace

int64_t count_nonfinite(std::span<const float> logits) {
  return std::ranges::count_if(logits, [](float logit) { return !std::isfinite(logit); });
}

std::vector<int32_t> top_ids(std::span<const float> logits, int32_t k) {
  std::vector<int32_t> ids;
  for (const RankedToken& token : top_tokens(logits, k)) ids.push_back(token.id);
  return ids;
}

RowDifference compare_rows(const ReferenceRow& reference, std::span<const float> candidate) {
  const std::vector<int32_t> candidate_top = top_ids(candidate, kTopMany);
  const std::vector<int32_t> reference_top =
      reference.ids.empty() ? top_ids(reference.logits, kTopMany)
                            : std::vector<int32_t>(reference.ids.begin(), reference.ids.begin() + kTopMany);
  const auto few = [](const std::vector<int32_t>& ids) { return std::span(ids).first(kTopFew); };
  RowDifference difference;
  difference.kl = divergence(reference, candidate);
  difference.same_top1 = candidate_top[0] == reference_top[0];
  difference.top5_overlap = overlap(few(reference_top), few(candidate_top));
  difference.top20_overlap = overlap(reference_top, candidate_top);

  double squares = 0;
  for (size_t i = 0; i < reference.logits.size(); ++i) {
    const double delta = static_cast<double>(candidate[id_at(reference, i)]) - reference.logits[i];
    squares += delta * delta;
    difference.max_abs = std::max(difference.max_abs, std::fabs(delta));
  }
  difference.rms = std::sqrt(squares / static_cast<double>(reference.logits.size()));

  const auto add_top = [&](int32_t id) {
    const auto logit = logit_of(reference, id);
    if (!logit) return;
    const double delta = static_cast<double>(candidate[static_cast<size_t>(id)]) - *logit;
    difference.top20_max_abs = std::max(difference.top20_max_abs, std::fabs(delta));
  };
  std::ranges::for_each(candidate_top, add_top);
  for (int32_t rank = 0; rank < kTopMany; ++rank) {
    const int32_t id = reference_top[static_cast<size_t>(rank)];
    add_top(id);
    const auto other = rank_in(candidate_top, id);
    if (other) difference.max_rank_delta = std::max(difference.max_rank_delta, std::abs(*other - rank));
  }
  return difference;
}

}  // namespace ds4
