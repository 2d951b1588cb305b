#include "tools/score/text_plan.h"

#include <algorithm>
#include <utility>

namespace ds4 {

namespace {

Result<void> check_options(const PlanOptions& options, int64_t n_tokens) {
  ProblemList problems;
  if (options.ctx < 2) problems.add("--ctx: expected at least 2, found {}", options.ctx);
  if (options.stride < 1 || options.stride >= options.ctx) {
    problems.add("--stride: expected from 1 to {} (less than --ctx), found {}", options.ctx - 1, options.stride);
  }
  if (options.context_only < 1 || options.context_only >= options.ctx) {
    problems.add("--context-only: expected from 1 to {} (less than --ctx), found {}", options.ctx - 1,
                 options.context_only);
  }
  if (n_tokens <= options.context_only) {
    problems.add("a text of {} tokens: expected more than the {} that are context only", n_tokens,
                 options.context_only);
  }
  return problems.to_result(ErrorCode::kInvalidArgument, "text to score");
}

// Tokens [begin, end) in steps.
void add_steps(int64_t begin, int64_t end, const ScoreStep& like, int32_t max_step_tokens, TextPlan& plan) {
  ScoreStep step = like;
  for (step.first = begin; step.first < end; step.first += step.n_tokens) {
    step.n_tokens = static_cast<int32_t>(std::min<int64_t>(max_step_tokens, end - step.first));
    plan.steps.push_back(step);
    step.starts_window = false;
  }
}

}  // namespace

int32_t TextPlan::ctx_tokens() const {
  return static_cast<int32_t>(std::min<int64_t>(options.ctx, static_cast<int64_t>(tokens.size())));
}

std::span<const int32_t> TextPlan::targets(const ScoreStep& step) const {
  return std::span(tokens).subspan(static_cast<size_t>(step.first) + 1, static_cast<size_t>(step.n_tokens));
}

Result<TextPlan> plan_text(std::vector<int32_t> tokens, const PlanOptions& options, int32_t max_step_tokens) {
  TextPlan plan;
  plan.options = options;
  if (options.stride == 0) plan.options.stride = std::max(1, options.ctx / 2);
  TRY(check_options(plan.options, std::ssize(tokens)));
  plan.tokens = std::move(tokens);
  int64_t n_tokens = std::ssize(plan.tokens);
  if (options.max_scored > 0) {
    n_tokens = std::min(n_tokens, int64_t{options.context_only} + options.max_scored);
    plan.tokens.resize(static_cast<size_t>(n_tokens));
  }

  int64_t first_target = options.context_only;
  for (int64_t end = std::min<int64_t>(options.ctx, n_tokens); first_target < n_tokens;
       end = std::min(end + plan.options.stride, n_tokens)) {
    const int64_t begin = std::max<int64_t>(0, end - options.ctx);
    // The row about target t is that of token t - 1.
    const bool has_context = begin < first_target - 1;
    if (has_context) add_steps(begin, first_target - 1, {.starts_window = true}, max_step_tokens, plan);
    add_steps(first_target - 1, end - 1, {.starts_window = !has_context, .is_scored = true}, max_step_tokens, plan);
    plan.n_scored += end - first_target;
    plan.n_computed += end - 1 - begin;
    first_target = end;
  }
  return plan;
}

}  // namespace ds4
