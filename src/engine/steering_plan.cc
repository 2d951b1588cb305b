#include "engine/steering_plan.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace ds4 {
namespace {

bool has_visible(std::string_view text) { return text.find_first_not_of(" \t\n\v\f\r") != std::string_view::npos; }

Hash128 identity_of(const Hash128& directions, const SteeringScales& scales) {
  // Adding zero makes both zeros one.
  const std::array<float, 2> values = {scales.attn + 0.0f, scales.ffn + 0.0f};
  return hash_bytes(std::as_bytes(std::span(values)), directions);
}

}  // namespace

Result<void> check_steering(const SteeringSettings& settings, bool has_directions) {
  for (const float scale : {settings.scales.attn, settings.scales.ffn}) {
    if (std::isfinite(scale) && std::fabs(scale) <= kMaxSteeringScale) continue;
    return make_error(ErrorCode::kInvalidArgument, "steering scale {}: expected a number from {} to {}", scale,
                      -kMaxSteeringScale, kMaxSteeringScale);
  }
  if (settings.scales.any() && !has_directions) {
    return make_error(ErrorCode::kInvalidArgument,
                      "steering scales attn {}, ffn {}: no directions are loaded (--dir-steering-file)",
                      settings.scales.attn, settings.scales.ffn);
  }
  return {};
}

SteeringPlan::SteeringPlan(const SteeringContext& context, const GenerateRequest& request) {
  const SteeringSettings& settings = request.steering ? *request.steering : context.defaults;
  if (!context.has_directions || !settings.scales.any()) return;
  scales_ = settings.scales;
  policy_ = settings.policy;
  const OutputSettings& output = request.output;
  may_answer_ = output.raw_text || !output.tools_enabled || output.follows_tool_results;
  if (policy_ == SteeringPolicy::kAlways) identity_ = identity_of(context.directions, scales_);
}

void SteeringPlan::reserve(size_t n_tokens) {
  if (policy_ == SteeringPolicy::kDecoding || policy_ == SteeringPolicy::kFinalAnswer)
    steered_.reserve(steered_.size() + n_tokens);
}

void SteeringPlan::add_token(OutputPart before, OutputPart after, std::string_view text) {
  switch (policy_) {
    case SteeringPolicy::kAlways:
    case SteeringPolicy::kOff: return;
    case SteeringPolicy::kDecoding: steered_.push_back(1); return;
    case SteeringPolicy::kFinalAnswer: {
      const bool is_text = before == OutputPart::kText && after == OutputPart::kText && !text.empty();
      const bool is_answer = may_answer_ && is_text && (has_begun_ || has_visible(text));
      has_begun_ = has_begun_ || is_answer;
      steered_.push_back(is_answer ? 1 : 0);
      return;
    }
  }
}

bool SteeringPlan::is_steered(size_t n_prompt, size_t token) const {
  if (steered_.empty() || token < n_prompt) return policy_ == SteeringPolicy::kAlways;
  return steered_[token - n_prompt] != 0;
}

size_t SteeringPlan::run_length(size_t n_prompt, size_t first, size_t n) const {
  if (steered_.empty() || n == 0) return n;
  const bool is_first_steered = is_steered(n_prompt, first);
  // Prompt tokens are alike.
  size_t length = std::min(n, first < n_prompt ? n_prompt - first : size_t{1});
  while (length < n && is_steered(n_prompt, first + length) == is_first_steered) ++length;
  return length;
}

SteeringScales SteeringPlan::scales(size_t n_prompt, size_t token) const {
  return is_steered(n_prompt, token) ? scales_ : SteeringScales{};
}

}  // namespace ds4
