// The commands that run one model: perplexity and save.

#include <cmath>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "engine/sampler.h"
#include "tools/common/model_path.h"
#include "tools/score/commands.h"
#include "tools/score/progress.h"
#include "tools/score/reference_file.h"
#include "tools/score/scored_model.h"

namespace ds4 {

Result<std::vector<std::string>> model_paths(const ScoreOptions& options, size_t n) {
  std::vector<std::string> paths = options.models;
  if (!options.engine.model_path.empty()) paths.push_back(options.engine.model_path);
  if (paths.empty() && n == 1) paths.push_back(TRY(resolve_model_path("")));
  if (paths.size() != n) {
    return make_error(ErrorCode::kInvalidArgument, "MODEL: expected {}, found {}", n, paths.size());
  }
  return paths;
}

Result<TextPlan> plan_text_file(const ScoreOptions& options, const std::string& model_path) {
  if (options.text_path.empty()) return make_error(ErrorCode::kInvalidArgument, "--text: expected a file");
  PlanOptions plan = options.plan;
  if (options.engine.ctx_tokens > 0) plan.ctx = options.engine.ctx_tokens;
  return plan_text(TRY(tokenize_file(model_path, options.text_path)), plan, options.step_tokens);
}

namespace {

// Calls use(logits, nll) for every scored position.
template <class Use>
Result<void> for_each_position(ScoredModel& model, const TextPlan& plan, const Use& use) {
  const auto n_vocab = static_cast<size_t>(model.n_vocab());
  ScoreProgress progress(plan.n_computed);
  for (const ScoreStep& step : plan.steps) {
    const std::span<const float> logits = TRY(model.run(plan, step));
    progress.add(step.n_tokens);
    if (!step.is_scored) continue;
    const std::span<const int32_t> targets = plan.targets(step);
    for (size_t i = 0; i < targets.size(); ++i) {
      const std::span<const float> row = logits.subspan(i * n_vocab, n_vocab);
      if (count_nonfinite(row) > 0) {
        return make_error(ErrorCode::kInternal, "{}: token {}: a logit is not finite", model.name(),
                          step.first + static_cast<int64_t>(i));
      }
      TRY(use(row, log_sum_exp(row) - row[static_cast<size_t>(targets[i])]));
    }
  }
  return {};
}

}  // namespace

Result<int> run_perplexity(const ScoreOptions& options) {
  const std::string path = TRY(model_paths(options, 1)).front();
  const TextPlan plan = TRY(plan_text_file(options, path));
  EngineOptions engine = options.engine;
  engine.model_path = path;
  ScoredModel model = TRY(ScoredModel::load(engine, plan, options.step_tokens));
  RunningMean nll;
  const MonotonicClock clock;
  const int64_t start_us = clock.now_us();
  TRY(for_each_position(model, plan, [&](std::span<const float>, double value) -> Result<void> {
    nll.add(value);
    return {};
  }));
  const double seconds = static_cast<double>(clock.elapsed_us(start_us)) / 1e6;
  const double speed = static_cast<double>(plan.n_computed) / seconds;
  const Interval interval = nll.interval();
  const double ppl = std::exp(nll.mean());
  if (options.json) {
    const nlohmann::ordered_json json = {{"model", path},
                                         {"text", options.text_path},
                                         {"tokens", plan.tokens.size()},
                                         {"scored", nll.count()},
                                         {"ctx", plan.options.ctx},
                                         {"stride", plan.options.stride},
                                         {"context_only", plan.options.context_only},
                                         {"nll", nll.mean()},
                                         {"nll_standard_error", nll.standard_error()},
                                         {"ppl", ppl},
                                         {"ppl_95", {std::exp(interval.low), std::exp(interval.high)}},
                                         {"tokens_per_second", speed}};
    fmt::print("{}\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
    return 0;
  }
  fmt::print("tokens={} scored={} nll={:.9f} avg_nll={:.9f} ppl={:.9f}\n", plan.tokens.size(), nll.count(), nll.sum(),
             nll.mean(), ppl);
  fmt::print("perplexity {:.4f} (95 %: {:.4f} to {:.4f}), {:.1f} tokens/s\n", ppl, std::exp(interval.low),
             std::exp(interval.high), speed);
  return 0;
}

Result<int> run_save(const ScoreOptions& options) {
  const std::string path = TRY(model_paths(options, 1)).front();
  const TextPlan plan = TRY(plan_text_file(options, path));
  EngineOptions engine = options.engine;
  engine.model_path = path;
  ScoredModel model = TRY(ScoredModel::load(engine, plan, options.step_tokens));
  const ReferenceInfo info{model.name(), model.n_vocab(), options.top_k};
  if (info.top_k > info.n_vocab) {
    return make_error(ErrorCode::kInvalidArgument, "--top-k: expected at most {} (the vocabulary), found {}",
                      info.n_vocab, info.top_k);
  }
  ReferenceWriter writer = TRY(ReferenceWriter::create(options.output_path, info, plan));
  TRY(for_each_position(model, plan,
                        [&](std::span<const float> row, double nll) -> Result<void> { return writer.add(row, nll); }));
  TRY(writer.finish());
  fmt::print("wrote {}: {} positions, {} logits each\n", options.output_path, plan.n_scored,
             info.top_k == 0 ? info.n_vocab : info.top_k);
  return 0;
}

}  // namespace ds4
