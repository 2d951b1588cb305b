#pragma once

// A model that runs the steps of a text plan. Owns its engine and one sequence. One thread.

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "tools/score/text_plan.h"

namespace ds4 {

// The text's tokens by the model's vocabulary, without any token that the text does not have.
Result<std::vector<int32_t>> tokenize_file(const std::string& model_path, const std::string& text_path);

class ScoredModel {
 public:
  // `options` with the context and the sizes of steps that the plan needs.
  static Result<ScoredModel> load(EngineOptions options, const TextPlan& plan, int32_t max_step_tokens);

  // Logits [step.n_tokens, n_vocab] of a scored step, empty for others; valid until the next step.
  Result<std::span<const float>> run(const TextPlan& plan, const ScoreStep& step);

  int32_t n_vocab() const { return engine_->hyperparams().n_vocab; }
  const std::string& name() const { return engine_->model_name(); }

 private:
  ScoredModel(std::unique_ptr<Engine> engine, KvState kv) : engine_(std::move(engine)), kv_(std::move(kv)) {}

  std::unique_ptr<Engine> engine_;
  KvState kv_;  // of engine_
};

}  // namespace ds4
