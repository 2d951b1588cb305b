#pragma once

// The commands of ds4-score. main.cc fills the options from the command line; each command prints its result to
// standard output and returns its exit code or an error. Bad values of flags are kInvalidArgument.

#include <string>
#include <vector>

#include "base/error.h"
#include "engine/engine.h"
#include "tools/score/comparison.h"
#include "tools/score/text_plan.h"

namespace ds4 {

struct ScoreOptions {
  EngineOptions engine;             // model_path: one more model, after `models`
  std::vector<std::string> models;  // reference first
  std::string text_path;
  PlanOptions plan;  // ctx as in engine.ctx_tokens
  int32_t step_tokens = 256;
  bool json = false;

  std::string reference_path;  // compare, gate: saved logits instead of a reference model
  GateLimits limits;           // gate
  std::string output_path;     // save
  int32_t top_k = 0;           // save; 0: complete rows
};

Result<int> run_perplexity(const ScoreOptions& options);
Result<int> run_save(const ScoreOptions& options);
// Exit code 1 when limits are given and one is missed.
Result<int> run_compare(const ScoreOptions& options);

// The models that `options` name, as paths: exactly n. A single one that nobody named is the default model.
Result<std::vector<std::string>> model_paths(const ScoreOptions& options, size_t n);
Result<TextPlan> plan_text_file(const ScoreOptions& options, const std::string& model_path);

}  // namespace ds4
