#include "engine/logit_adjuster.h"

#include <limits>

namespace ds4 {

LogitAdjuster::LogitAdjuster(const SamplingParams& params)
    : presence_penalty_(params.presence_penalty),
      frequency_penalty_(params.frequency_penalty),
      repetition_penalty_(params.repetition_penalty > 0.0F ? params.repetition_penalty : 1.0F),
      biases_(params.logit_bias),
      has_penalties_(presence_penalty_ != 0.0F || frequency_penalty_ != 0.0F || repetition_penalty_ != 1.0F) {}

std::span<const float> LogitAdjuster::adjust(std::span<const float> logits, const TokenMask* mask) {
  if (!has_penalties_ && biases_.empty() && mask == nullptr) return logits;
  if (mask != nullptr) {
    constexpr float kImpossible = -std::numeric_limits<float>::infinity();
    adjusted_.resize(logits.size());
    for (size_t i = 0; i < logits.size(); ++i) adjusted_[i] = mask->allows(i) ? logits[i] : kImpossible;
  } else {
    adjusted_.assign(logits.begin(), logits.end());
  }
  if (has_penalties_) apply_penalties();
  for (const TokenBias& bias : biases_) {
    const auto at = static_cast<size_t>(bias.token);
    if (bias.token >= 0 && at < adjusted_.size()) adjusted_[at] += bias.value;
  }
  return adjusted_;
}

void LogitAdjuster::apply_penalties() {
  for (const int32_t token : generated_) {
    const auto at = static_cast<size_t>(token);
    if (at >= adjusted_.size()) continue;
    float& logit = adjusted_[at];
    logit = logit > 0.0F ? logit / repetition_penalty_ : logit * repetition_penalty_;
    logit -= presence_penalty_ + frequency_penalty_ * static_cast<float>(counts_[at]);
  }
}

void LogitAdjuster::count(int32_t token) {
  if (!has_penalties_ || token < 0) return;
  const auto at = static_cast<size_t>(token);
  if (at >= counts_.size()) counts_.resize(at + 1, 0);
  if (counts_[at]++ == 0) generated_.push_back(token);
}

}  // namespace ds4
