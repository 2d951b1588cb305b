#pragma once

// How a text is cut into steps of the model so that every scored token has enough before it: windows of `ctx` tokens
// that advance by `stride`, each scoring the tokens that the one before did not reach. The first tokens of the text
// are context only. Plain values.

#include <cstdint>
#include <span>
#include <vector>

#include "base/error.h"

namespace ds4 {

struct PlanOptions {
  int32_t ctx = 2048;
  int32_t stride = 0;  // 0: half of ctx
  int32_t context_only = 32;
  int32_t max_scored = 0;  // 0: the whole text
};

// Tokens to append to the window's sequence at once. When scored, the logits of all of them are wanted: row i is about
// token first + i + 1.
struct ScoreStep {
  int64_t first = 0;
  int32_t n_tokens = 0;
  bool starts_window = false;
  bool is_scored = false;
};

struct TextPlan {
  PlanOptions options;  // with the stride that was used
  std::vector<int32_t> tokens;
  std::vector<ScoreStep> steps;
  int64_t n_scored = 0;
  int64_t n_computed = 0;  // tokens of all steps
  // The longest sequence of a step.
  int32_t ctx_tokens() const;

  // The tokens that the rows of a scored step are about.
  std::span<const int32_t> targets(const ScoreStep& step) const;
};

// Steps are at most max_step_tokens long. Error: a window or text too short to score anything.
Result<TextPlan> plan_text(std::vector<int32_t> tokens, const PlanOptions& options, int32_t max_step_tokens);

}  // namespace ds4
