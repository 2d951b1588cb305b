#include "engine/sampler.h"

#include <algorithm>
#include <cmath>

namespace ds4 {
namespace {

SamplingParams sanitised(SamplingParams params) {
  if (!(params.top_p > 0.0F && params.top_p < 1.0F)) params.top_p = 1.0F;
  params.min_p = std::max(params.min_p, 0.0F);
  params.top_k = std::clamp(params.top_k, 0, kMaxTopK);
  return params;
}

}  // namespace

std::optional<int32_t> greedy_token(std::span<const float> logits) {
  std::optional<int32_t> best;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isfinite(logits[i]) && (!best || logits[i] > logits[static_cast<size_t>(*best)])) {
      best = static_cast<int32_t>(i);
    }
  }
  return best;
}

Sampler::Sampler(const SamplingParams& params, uint64_t seed) : params_(sanitised(params)), rng_(seed) {}

std::optional<int32_t> Sampler::sample(std::span<const float> logits, bool greedy) {
  const std::optional<int32_t> best = greedy_token(logits);
  if (!best || greedy || params_.temperature <= 0.0F) return best;
  if (params_.top_k > 0 || params_.top_p < 1.0F) return draw_sorted(logits);
  return draw_unsorted(logits, *best);
}

float Sampler::weight(float logit, float largest) const { return std::exp((logit - largest) / params_.temperature); }

int32_t Sampler::draw_unsorted(std::span<const float> logits, int32_t best) {
  const float largest = logits[static_cast<size_t>(best)];
  weights_.assign(logits.size(), 0.0F);
  float sum = 0.0F;
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!std::isfinite(logits[i])) continue;
    const float w = weight(logits[i], largest);
    if (w < params_.min_p) continue;
    weights_[i] = w;
    sum += w;
  }
  float rest = rng_.next_unit() * sum;
  for (size_t i = 0; i < weights_.size(); ++i) {
    if (weights_[i] == 0.0F) continue;
    rest -= weights_[i];
    if (rest <= 0.0F) return static_cast<int32_t>(i);
  }
  return best;
}

int32_t Sampler::draw_sorted(std::span<const float> logits) {
  const auto n_candidates = params_.top_k > 0 ? params_.top_k : static_cast<int32_t>(logits.size());
  rank_tokens(logits, n_candidates, candidates_);
  weights_.clear();
  weights_.reserve(candidates_.size());
  float sum = 0.0F;
  for (const RankedToken& candidate : candidates_) {
    weights_.push_back(weight(candidate.logit, candidates_.front().logit));
    sum += weights_.back();
  }
  size_t n_kept = 0;
  float kept_sum = 0.0F;
  while (n_kept < weights_.size() && (n_kept == 0 || weights_[n_kept] >= params_.min_p * weights_[0])) {
    kept_sum += weights_[n_kept++];
    if (kept_sum / sum >= params_.top_p) break;
  }
  float rest = rng_.next_unit() * kept_sum;
  for (size_t i = 0; i < n_kept; ++i) {
    rest -= weights_[i];
    if (rest <= 0.0F) return candidates_[i].id;
  }
  return candidates_[n_kept - 1].id;
}

double log_sum_exp(std::span<const float> logits) {
  const std::optional<int32_t> best = greedy_token(logits);
  if (!best) return 0.0;
  const double largest = logits[static_cast<size_t>(*best)];
  double sum = 0.0;
  for (const float logit : logits) {
    if (std::isfinite(logit)) sum += std::exp(static_cast<double>(logit) - largest);
  }
  return largest + std::log(sum);
}

void rank_tokens(std::span<const float> logits, int32_t k, std::vector<RankedToken>& ranked) {
  ranked.clear();
  ranked.reserve(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    if (std::isfinite(logits[i])) ranked.push_back({static_cast<int32_t>(i), logits[i]});
  }
  const size_t n = std::min(ranked.size(), static_cast<size_t>(std::max(k, 0)));
  std::partial_sort(
      ranked.begin(), ranked.begin() + static_cast<std::ptrdiff_t>(n), ranked.end(),
      [](const RankedToken& a, const RankedToken& b) { return a.logit != b.logit ? a.logit > b.logit : a.id < b.id; });
  ranked.resize(n);
}

std::vector<RankedToken> top_tokens(std::span<const float> logits, int32_t k) {
  std::vector<RankedToken> ranked;
  rank_tokens(logits, k, ranked);
  return ranked;
}

}  // namespace ds4
