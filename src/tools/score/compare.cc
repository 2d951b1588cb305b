// The commands compare and gate: a candidate model against a reference model or its saved logits.

#include <algorithm>
#include <cmath>
#include <optional>

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "engine/sampler.h"
#include "tools/score/commands.h"
#include "tools/score/progress.h"
#include "tools/score/reference_file.h"
#include "tools/score/scored_model.h"

namespace ds4 {

namespace {

constexpr double kPercentiles[] = {0.5, 0.9, 0.95, 0.99};

// Where the reference's rows come from: a model that runs the same steps, or a file.
class Reference {
 public:
  explicit Reference(ScoredModel model) : model_(std::move(model)) {}
  explicit Reference(ReferenceFile file) : file_(std::move(file)) {}

  const std::string& name() const { return model_ ? model_->name() : file_->info().model_name; }
  int32_t n_vocab() const { return model_ ? model_->n_vocab() : file_->info().n_vocab; }

  Result<void> run(const TextPlan& plan, const ScoreStep& step) {
    n_before_ += n_rows_;
    n_rows_ = step.is_scored ? step.n_tokens : 0;
    if (model_) logits_ = TRY(model_->run(plan, step));
    return {};
  }
  // Row i of the last step.
  Result<ReferenceRow> row(int64_t i) {
    if (file_) return file_->row(n_before_ + i);
    const auto width = static_cast<size_t>(n_vocab());
    const std::span<const float> logits = logits_.subspan(static_cast<size_t>(i) * width, width);
    if (count_nonfinite(logits) > 0) {
      return make_error(ErrorCode::kInternal, "{}: position {}: a logit is not finite", name(), n_before_ + i);
    }
    return ReferenceRow{.ids = {}, .logits = logits, .log_sum_exp = log_sum_exp(logits)};
  }
  double nll(int64_t i, const ReferenceRow& row, int32_t target) const {
    return file_ ? file_->nll(n_before_ + i) : row.log_sum_exp - row.logits[static_cast<size_t>(target)];
  }

 private:
  std::optional<ScoredModel> model_;
  std::optional<ReferenceFile> file_;
  std::span<const float> logits_;
  int64_t n_before_ = 0;  // scored positions of earlier steps
  int64_t n_rows_ = 0;
};

struct Run {
  TextPlan plan;
  std::string reference_path, candidate_path;
  std::string reference_name;
  Comparison comparison;
  double seconds = 0;
};

Result<void> compare_positions(Reference& reference, ScoredModel& candidate, Run& run) {
  if (candidate.n_vocab() != reference.n_vocab()) {
    return make_error(ErrorCode::kInvalidArgument, "{} has a vocabulary of {} tokens, {} of {}", run.reference_path,
                      reference.n_vocab(), run.candidate_path, candidate.n_vocab());
  }
  const auto n_vocab = static_cast<size_t>(candidate.n_vocab());
  ScoreProgress progress(run.plan.n_computed);
  for (const ScoreStep& step : run.plan.steps) {
    TRY(reference.run(run.plan, step));
    const std::span<const float> logits = TRY(candidate.run(run.plan, step));
    progress.add(step.n_tokens);
    if (!step.is_scored) continue;
    const std::span<const int32_t> targets = run.plan.targets(step);
    for (size_t i = 0; i < targets.size(); ++i) {
      const auto row_index = static_cast<int64_t>(i);
      const ReferenceRow row = TRY(reference.row(row_index));
      run.comparison.add(row, reference.nll(row_index, row, targets[i]), logits.subspan(i * n_vocab, n_vocab),
                         targets[i]);
    }
  }
  return {};
}

Result<Reference> open_reference(const ScoreOptions& options, Run& run) {
  if (!options.reference_path.empty()) {
    if (!options.text_path.empty() || options.engine.ctx_tokens > 0 || options.plan.stride > 0) {
      return make_error(ErrorCode::kInvalidArgument,
                        "--reference brings its text and windows: leave out --text, --ctx and --stride");
    }
    run.reference_path = options.reference_path;
    run.candidate_path = TRY(model_paths(options, 1)).front();
    ReferenceFile file = TRY(ReferenceFile::open(options.reference_path));
    run.plan = TRY(file.plan(options.step_tokens));
    return Reference(std::move(file));
  }
  const std::vector<std::string> paths = TRY(model_paths(options, 2));
  run.reference_path = paths[0];
  run.candidate_path = paths[1];
  run.plan = TRY(plan_text_file(options, paths[0]));
  std::vector<int32_t> tokens = TRY(tokenize_file(paths[1], options.text_path));
  tokens.resize(std::min(tokens.size(), run.plan.tokens.size()));
  if (tokens != run.plan.tokens) {
    return make_error(ErrorCode::kInvalidArgument, "{} and {} cut {} into different tokens", paths[0], paths[1],
                      options.text_path);
  }
  EngineOptions engine = options.engine;
  engine.model_path = paths[0];
  return Reference(TRY(ScoredModel::load(engine, run.plan, options.step_tokens)));
}

nlohmann::ordered_json interval_json(const Interval& interval) { return {interval.low, interval.high}; }

nlohmann::ordered_json perplexity_json(const RunningMean& nll) {
  const Interval interval = nll.interval();
  return {{"nll", nll.mean()},
          {"ppl", std::exp(nll.mean())},
          {"ppl_95", {std::exp(interval.low), std::exp(interval.high)}}};
}

void print_json(const Run& run, const std::vector<GateCheck>& checks) {
  const Comparison& c = run.comparison;
  nlohmann::ordered_json kl = {{"mean", c.kl.mean()}, {"mean_95", interval_json(c.kl.interval())}};
  for (const double q : kPercentiles) kl[fmt::format("p{:.0f}", q * 100)] = percentile(c.kl_values, q);
  kl["max"] = percentile(c.kl_values, 1);
  nlohmann::ordered_json json = {{"reference", run.reference_path},
                                 {"candidate", run.candidate_path},
                                 {"tokens", run.plan.tokens.size()},
                                 {"scored", c.count()},
                                 {"nonfinite", c.n_nonfinite},
                                 {"ctx", run.plan.options.ctx},
                                 {"stride", run.plan.options.stride},
                                 {"reference_perplexity", perplexity_json(c.reference_nll)},
                                 {"candidate_perplexity", perplexity_json(c.candidate_nll)},
                                 {"ppl_ratio", c.perplexity_ratio()},
                                 {"ppl_ratio_95", interval_json(c.perplexity_ratio_interval())},
                                 {"kl", std::move(kl)},
                                 {"top1", c.top1_share()},
                                 {"top1_95", interval_json(wilson_interval(c.n_same_top1, c.count()))},
                                 {"top5", c.top5_share.mean()},
                                 {"top20", c.top20_share.mean()},
                                 {"max_rank_delta", c.max_rank_delta},
                                 {"logits",
                                  {{"mean_rms", c.rms.mean()},
                                   {"worst_rms", c.worst_rms},
                                   {"max_abs", c.max_abs},
                                   {"top20_max_abs", c.top20_max_abs}}},
                                 {"tokens_per_second", static_cast<double>(run.plan.n_computed) / run.seconds}};
  for (const GateCheck& check : checks) {
    json["gate"].push_back(
        {{"name", check.name}, {"found", check.found}, {"limit", check.limit}, {"kept", check.is_kept}});
  }
  fmt::print("{}\n", json.dump(2, ' ', false, nlohmann::json::error_handler_t::replace));
}

void print_text(const Run& run, const std::vector<GateCheck>& checks) {
  const Comparison& c = run.comparison;
  const auto print_perplexity = [](const char* who, const RunningMean& nll, const std::string& path) {
    const Interval interval = nll.interval();
    fmt::print("{}  perplexity {:.4f} (95 %: {:.4f} to {:.4f})  {}\n", who, std::exp(nll.mean()),
               std::exp(interval.low), std::exp(interval.high), path);
  };
  fmt::print("tokens={} scored={} nonfinite={}\n", run.plan.tokens.size(), c.count(), c.n_nonfinite);
  print_perplexity("reference", c.reference_nll, run.reference_path);
  print_perplexity("candidate", c.candidate_nll, run.candidate_path);
  const Interval ratio = c.perplexity_ratio_interval();
  fmt::print("perplexity ratio {:.5f} (95 %: {:.5f} to {:.5f})\n", c.perplexity_ratio(), ratio.low, ratio.high);
  fmt::print("KL divergence    mean {:.6f} +- {:.6f}", c.kl.mean(), kZ95 * c.kl.standard_error());
  for (const double q : kPercentiles) fmt::print(", {:.0f} %: {:.6f}", q * 100, percentile(c.kl_values, q));
  fmt::print(", max: {:.6f}\n", percentile(c.kl_values, 1));
  const Interval top1 = wilson_interval(c.n_same_top1, c.count());
  fmt::print("same best token  {:.2f} % (95 %: {:.2f} to {:.2f})\n", 100 * c.top1_share(), 100 * top1.low,
             100 * top1.high);
  fmt::print("best 5, best 20  {:.2f} %, {:.2f} % in common; largest change of rank {}\n", 100 * c.top5_share.mean(),
             100 * c.top20_share.mean(), c.max_rank_delta);
  fmt::print("logits           rms {:.5f} (worst {:.5f}), largest difference {:.5f}, among the best 20 {:.5f}\n",
             c.rms.mean(), c.worst_rms, c.max_abs, c.top20_max_abs);
  fmt::print("speed            {:.1f} tokens/s\n", static_cast<double>(run.plan.n_computed) / run.seconds);
  for (const GateCheck& check : checks) {
    fmt::print("{}  {}: {:.6g}, limit {:.6g}\n", check.is_kept ? "kept  " : "MISSED", check.name, check.found,
               check.limit);
  }
}

}  // namespace

Result<int> run_compare(const ScoreOptions& options) {
  Run run;
  Reference reference = TRY(open_reference(options, run));
  EngineOptions engine = options.engine;
  engine.model_path = run.candidate_path;
  ScoredModel candidate = TRY(ScoredModel::load(engine, run.plan, options.step_tokens));
  const MonotonicClock clock;
  const int64_t start_us = clock.now_us();
  TRY(compare_positions(reference, candidate, run));
  run.seconds = static_cast<double>(clock.elapsed_us(start_us)) / 1e6;
  std::ranges::sort(run.comparison.kl_values);
  const std::vector<GateCheck> checks =
      options.limits.empty() ? std::vector<GateCheck>() : check_limits(run.comparison, options.limits);
  options.json ? print_json(run, checks) : print_text(run, checks);
  return std::ranges::all_of(checks, &GateCheck::is_kept) ? 0 : 1;
}

}  // namespace ds4
