// The arithmetic of ds4-score: intervals, windows, divergences, and saved logits.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "base/rng.h"
#include "engine/sampler.h"
#include "support/temporary_path.h"
#include "tools/score/comparison.h"
#include "tools/score/logit_metrics.h"
#include "tools/score/reference_file.h"
#include "tools/score/statistics.h"
#include "tools/score/text_plan.h"

namespace ds4 {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<float> some_logits(size_t n, uint64_t seed) {
  Xorshift64Star rng(seed);
  std::vector<float> logits(n);
  for (float& logit : logits) logit = 12.0f * rng.next_unit() - 8.0f;
  return logits;
}

ReferenceRow whole_row(const std::vector<float>& logits) {
  return {.ids = {}, .logits = logits, .log_sum_exp = log_sum_exp(logits)};
}

TEST(StatisticsTest, MeanAndStandardErrorOfKnownNumbers) {
  RunningMean mean;
  EXPECT_EQ(mean.standard_error(), 0);
  for (const double value : {2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0}) mean.add(value);
  EXPECT_DOUBLE_EQ(mean.mean(), 5);
  EXPECT_DOUBLE_EQ(mean.sum(), 40);
  EXPECT_DOUBLE_EQ(mean.standard_error(), std::sqrt(32.0 / 7 / 8));
  EXPECT_NEAR(mean.interval().low, 5 - 1.95996 * mean.standard_error(), 1e-5);
  EXPECT_NEAR(mean.interval().high, 5 + 1.95996 * mean.standard_error(), 1e-5);
}

// Values of R's prop.test(x, n, correct = FALSE).
TEST(StatisticsTest, WilsonIntervalOfKnownCounts) {
  EXPECT_NEAR(wilson_interval(8, 10).low, 0.4901625, 1e-6);
  EXPECT_NEAR(wilson_interval(8, 10).high, 0.9433178, 1e-6);
  EXPECT_NEAR(wilson_interval(0, 10).high, 0.2775328, 1e-6);
  EXPECT_EQ(wilson_interval(0, 10).low, 0);
  EXPECT_NEAR(wilson_interval(10, 10).low, 0.7224672, 1e-6);
  EXPECT_EQ(wilson_interval(10, 10).high, 1);
  EXPECT_EQ(wilson_interval(0, 0).high, 1);
}

TEST(StatisticsTest, PercentilesLieBetweenNeighbours) {
  EXPECT_EQ(percentile({}, 0.5), 0);
  EXPECT_EQ(percentile({3}, 0.9), 3);
  const std::vector<double> sorted = {1, 2, 3, 4, 5};
  EXPECT_EQ(percentile(sorted, 0), 1);
  EXPECT_EQ(percentile(sorted, 0.5), 3);
  EXPECT_DOUBLE_EQ(percentile(sorted, 0.9), 4.6);
  EXPECT_EQ(percentile(sorted, 1), 5);
}

TEST(TextPlanTest, EveryTokenAfterTheFirstOnesIsScoredOnceWithItsContext) {
  for (const auto& [n_tokens, ctx, stride, context_only, chunk] :
       {std::array{100, 48, 16, 32, 10}, std::array{100, 48, 47, 1, 64}, std::array{20, 48, 16, 5, 7},
        std::array{97, 10, 1, 9, 3}, std::array{33, 33, 5, 32, 100}}) {
    SCOPED_TRACE(fmt::format("{} tokens, ctx {}, stride {}", n_tokens, ctx, stride));
    std::vector<int32_t> tokens(static_cast<size_t>(n_tokens));
    std::iota(tokens.begin(), tokens.end(), 0);
    const TextPlan plan =
        plan_text(tokens, {.ctx = ctx, .stride = stride, .context_only = context_only}, chunk).take_value();
    int64_t next_target = context_only;
    int64_t n_computed = 0;
    int64_t window_begin = 0;
    int64_t in_window = 0;
    for (const ScoreStep& step : plan.steps) {
      ASSERT_LE(step.n_tokens, chunk);
      ASSERT_GE(step.n_tokens, 1);
      if (step.starts_window) {
        window_begin = step.first;
        in_window = 0;
      }
      ASSERT_EQ(step.first, window_begin + in_window) << "steps of a window follow each other";
      in_window += step.n_tokens;
      ASSERT_LT(in_window, ctx);
      n_computed += step.n_tokens;
      if (!step.is_scored) continue;
      for (const int32_t target : plan.targets(step)) {
        ASSERT_EQ(target, next_target++);
        ASSERT_GE(target - window_begin, window_begin > 0 ? ctx - stride : 1);
      }
    }
    EXPECT_EQ(next_target, n_tokens);
    EXPECT_EQ(plan.n_scored, n_tokens - context_only);
    EXPECT_EQ(plan.n_computed, n_computed);
  }
}

TEST(TextPlanTest, LimitsAndErrors) {
  const std::vector<int32_t> tokens(200, 7);
  const TextPlan plan = plan_text(tokens, {.ctx = 64, .max_scored = 50}, 16).take_value();
  EXPECT_EQ(plan.n_scored, 50);
  EXPECT_EQ(plan.tokens.size(), 82u);
  EXPECT_EQ(plan.options.stride, 32);
  const auto error = [&](size_t n, const PlanOptions& options) {
    const auto refused = plan_text(std::vector<int32_t>(n), options, 16);
    return refused.ok() ? "no error" : refused.error().message;
  };
  EXPECT_THAT(error(32, {.ctx = 64}), HasSubstr("32 tokens"));
  EXPECT_EQ(error(33, {.ctx = 64}), "no error");
  EXPECT_THAT(error(100, {.ctx = 64, .stride = 64}), HasSubstr("--stride"));
  EXPECT_THAT(error(100, {.ctx = 32}), HasSubstr("--context-only"));
}

TEST(LogitMetricsTest, DivergenceOfKnownDistributions) {
  std::vector<float> reference(32, -100.0f);
  std::vector<float> candidate(32, -100.0f);
  reference[3] = std::log(0.5f);
  reference[9] = std::log(0.5f);
  candidate[3] = std::log(0.25f);
  candidate[9] = std::log(0.75f);
  const RowDifference difference = compare_rows(whole_row(reference), candidate);
  EXPECT_NEAR(difference.kl, 0.5 * std::log(0.5 / 0.25) + 0.5 * std::log(0.5 / 0.75), 1e-7);
  EXPECT_FALSE(difference.same_top1);  // 3 (lower id) against 9
  EXPECT_EQ(difference.top5_overlap, 5);
  EXPECT_EQ(difference.max_rank_delta, 1);
  EXPECT_NEAR(difference.max_abs, std::log(2), 1e-6);
  EXPECT_NEAR(difference.top20_max_abs, std::log(2), 1e-6);
  EXPECT_NEAR(difference.rms, std::sqrt((std::pow(std::log(2), 2) + std::pow(std::log(1.5), 2)) / 32), 1e-6);
}

TEST(LogitMetricsTest, ARowDoesNotDifferFromItselfNorFromAShiftedOneInProbability) {
  const std::vector<float> logits = some_logits(500, 1);
  const RowDifference same = compare_rows(whole_row(logits), logits);
  EXPECT_EQ(same.kl, 0);
  EXPECT_TRUE(same.same_top1);
  EXPECT_EQ(same.top20_overlap, 20);
  EXPECT_EQ(same.max_abs, 0);
  std::vector<float> shifted = logits;
  for (float& logit : shifted) logit += 2.0f;
  const RowDifference moved = compare_rows(whole_row(logits), shifted);
  EXPECT_NEAR(moved.kl, 0, 1e-6);
  EXPECT_NEAR(moved.rms, 2, 1e-5);
}

TEST(LogitMetricsTest, ACutRowGivesAtMostTheDivergenceOfTheWholeOne) {
  for (uint64_t seed = 1; seed < 20; ++seed) {
    const std::vector<float> reference = some_logits(300, seed);
    const std::vector<float> candidate = some_logits(300, seed + 100);
    const double whole = compare_rows(whole_row(reference), candidate).kl;
    double before = 0;
    for (const int32_t k : {20, 50, 299, 300}) {
      const std::vector<int32_t> ids = top_ids(reference, k);
      std::vector<float> kept;
      for (const int32_t id : ids) kept.push_back(reference[static_cast<size_t>(id)]);
      const double cut = compare_rows({ids, kept, log_sum_exp(reference)}, candidate).kl;
      EXPECT_LE(before, cut + 1e-9) << k;
      EXPECT_LE(cut, whole + 1e-9) << k;
      before = cut;
    }
    EXPECT_NEAR(before, whole, 1e-6);
  }
}

TEST(ComparisonTest, GateNamesWhatIsMissed) {
  const std::vector<float> reference = some_logits(100, 1);
  std::vector<float> candidate = reference;
  candidate[top_ids(reference, 1)[0]] -= 5;
  Comparison comparison;
  const double nll = log_sum_exp(reference) - reference[4];
  comparison.add(whole_row(reference), nll, reference, 4);
  comparison.add(whole_row(reference), nll, candidate, 4);
  candidate[0] = NAN;
  comparison.add(whole_row(reference), nll, candidate, 4);
  EXPECT_EQ(comparison.count(), 2);
  EXPECT_EQ(comparison.n_nonfinite, 1);
  EXPECT_EQ(comparison.top1_share(), 0.5);
  EXPECT_NEAR(comparison.worst_rms, 0.5, 1e-6);
  EXPECT_LT(comparison.perplexity_ratio(), 1);  // the other tokens gain

  std::vector<std::string> missed;
  for (const GateCheck& check :
       check_limits(comparison, {.min_top1 = 0.6, .min_top20 = 0.9, .max_rms = 0.6, .max_kl = 1e-6})) {
    if (!check.is_kept) missed.push_back(check.name);
  }
  EXPECT_THAT(missed, ElementsAre("top1", "kl", "nonfinite"));
}

// A plan of 40 tokens and its rows of 64 logits, written to a file.
std::string saved_logits(int32_t top_k, const TextPlan& plan) {
  const std::string path = test::temporary_path("logits.gguf");
  ReferenceWriter writer = ReferenceWriter::create(path, {"m", 64, top_k}, plan).take_value();
  for (int64_t i = 0; i < plan.n_scored; ++i) {
    EXPECT_TRUE(writer.add(some_logits(64, static_cast<uint64_t>(i) + 1), 0.5 + static_cast<double>(i)).ok());
  }
  EXPECT_TRUE(writer.finish().ok());
  return path;
}

TextPlan small_plan() {
  std::vector<int32_t> tokens(40);
  std::iota(tokens.begin(), tokens.end(), 3);
  return plan_text(tokens, {.ctx = 16, .stride = 4, .context_only = 8}, 5).take_value();
}

TEST(ReferenceFileTest, KeepsRowsTextAndWindows) {
  const TextPlan plan = small_plan();
  for (const int32_t top_k : {0, 24}) {
    ReferenceFile file = ReferenceFile::open(saved_logits(top_k, plan)).take_value();
    EXPECT_EQ(file.info().n_vocab, 64);
    EXPECT_EQ(file.info().model_name, "m");
    ASSERT_EQ(file.n_scored(), plan.n_scored);
    const TextPlan read = file.plan(5).take_value();
    EXPECT_EQ(read.tokens, plan.tokens);
    EXPECT_EQ(read.steps.size(), plan.steps.size());
    for (int64_t i = 0; i < plan.n_scored; ++i) {
      const std::vector<float> logits = some_logits(64, static_cast<uint64_t>(i) + 1);
      const ReferenceRow row = file.row(i).take_value();
      EXPECT_EQ(file.nll(i), 0.5 + static_cast<double>(i));
      EXPECT_NEAR(row.log_sum_exp, log_sum_exp(logits), 2e-3);
      EXPECT_EQ(row.ids.size(), static_cast<size_t>(top_k));
      const RowDifference difference = compare_rows(row, logits);
      EXPECT_LT(difference.kl, 1e-5);
      EXPECT_LT(difference.max_abs, 1e-2);
      EXPECT_TRUE(difference.same_top1);
    }
  }
}

TEST(ReferenceFileTest, DamageIsNamed) {
  const auto error_after = [](std::string_view old_text, std::string_view new_text, size_t skip) {
    const std::string path = saved_logits(24, small_plan());
    std::string bytes = read_file(path, 1 << 24).take_value();
    bytes.replace(bytes.find(old_text) + skip, new_text.size(), new_text);
    const auto opened =
        ReferenceFile::from_gguf(GgufFile::from_bytes(std::as_bytes(std::span(bytes)), "input").take_value());
    if (!opened.ok()) return opened.error().message;
    const auto plan = opened.value().plan(5);
    return plan.ok() ? "no error" : plan.error().message;
  };
  constexpr size_t kValue = 4;  // after the key's text: the type
  const auto number = [](uint32_t value) { return std::string(reinterpret_cast<const char*>(&value), sizeof(value)); };
  EXPECT_EQ(error_after("logits.ctx", number(16), 10 + kValue), "no error");
  EXPECT_THAT(error_after("general.type", "X", 12 + kValue + 8), HasSubstr("general.type"));
  EXPECT_THAT(error_after("logits.ctx", number(1), 10 + kValue), HasSubstr("logits.ctx"));
  EXPECT_THAT(error_after("logits.context_only", number(9), 19 + kValue), HasSubstr("positions"));
  EXPECT_THAT(error_after("logits.top_k", number(25), 12 + kValue), HasSubstr("tensor logits"));
  EXPECT_THAT(error_after("logits.vocabulary", number(30), 17 + kValue), HasSubstr("tensor tokens: element 27"));
}

}  // namespace
}  // namespace ds4
