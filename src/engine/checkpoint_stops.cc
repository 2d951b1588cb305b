#include "engine/checkpoint_stops.h"

#include <algorithm>

namespace ds4 {
namespace {

// Starts of user turns: where a later prompt is likely to part from this one.
std::vector<int32_t> message_starts(const Tokenizer* tokenizer, std::span<const int32_t> prompt) {
  std::vector<int32_t> starts;
  if (tokenizer == nullptr) return starts;
  const std::optional<int32_t> user = tokenizer->control_id(ControlToken::kUser);
  for (size_t i = 1; i < prompt.size(); ++i) {
    if (prompt[i] == user) starts.push_back(static_cast<int32_t>(i));
  }
  return starts;
}

}  // namespace

std::vector<CheckpointStop> checkpoint_stops(const Tokenizer* tokenizer, std::span<const int32_t> prompt,
                                             const CheckpointSpacing& spacing) {
  std::vector<CheckpointStop> stops;
  if (spacing.prompt_tokens <= 0 || prompt.size() < 2) return stops;
  const auto last = static_cast<int32_t>(prompt.size()) - 1;
  const std::vector<int32_t> starts = message_starts(tokenizer, prompt);
  int32_t done = 0;
  // Interval stops at multiples of the spacing, where windows of both ratios are closed and a checkpoint is smallest.
  const auto add_intervals = [&](int32_t end) {
    for (int32_t at = (done / spacing.prompt_tokens + 1) * spacing.prompt_tokens; at < end;
         at += spacing.prompt_tokens) {
      if (end - at >= spacing.least_tokens) stops.push_back({done = at, CheckpointReason::kInterval});
    }
  };
  for (size_t i = 0; i < starts.size(); ++i) {
    const bool is_first = i == 0;
    const bool is_last = i + 1 == starts.size();
    if (starts[i] >= last || (!is_first && !is_last && starts[i] - done < spacing.least_tokens)) continue;
    add_intervals(starts[i]);
    stops.push_back({done = starts[i], is_first ? CheckpointReason::kPrefix : CheckpointReason::kMessage});
  }
  add_intervals(last);
  stops.push_back({last, CheckpointReason::kPromptEnd});
  return stops;
}

}  // namespace ds4
