#pragma once

// Logits of a model on a text, kept for later comparisons: a GGUF container whose layout docs/file_formats.md gives.
// Holds the text's tokens and how it was cut, so that the candidate is run in the same way. Rows are complete, or
// only the most likely tokens. Values are F16 differences to the row's largest logit: exact where it matters.
// A ReferenceFile is immutable; row() from one thread at a time.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "gguf/reader.h"
#include "gguf/writer.h"
#include "tools/score/logit_metrics.h"
#include "tools/score/text_plan.h"

namespace ds4 {

struct ReferenceInfo {
  std::string model_name;
  int32_t n_vocab = 0;
  int32_t top_k = 0;  // stored per row; 0: all
};

class ReferenceWriter {
 public:
  static Result<ReferenceWriter> create(const std::string& path, const ReferenceInfo& info, const TextPlan& plan);

  // The next scored position: its logits (all finite) and the negative log-likelihood of the text's token.
  Result<void> add(std::span<const float> logits, double nll);
  // Precondition: every scored position was added.
  Result<void> finish();

 private:
  ReferenceWriter(GgufWriter writer, int32_t top_k) : writer_(std::move(writer)), top_k_(top_k) {}

  GgufWriter writer_;
  int32_t top_k_;
  std::vector<int32_t> ids_;
  std::vector<float> largest_, log_sum_exp_, nll_;
};

class ReferenceFile {
 public:
  static Result<ReferenceFile> open(const std::string& path);
  // Checks everything but the logits, which row() checks.
  static Result<ReferenceFile> from_gguf(std::unique_ptr<GgufFile> file);

  const ReferenceInfo& info() const { return info_; }
  int64_t n_scored() const { return n_scored_; }
  // Error: the stored text and options do not give n_scored positions.
  Result<TextPlan> plan(int32_t max_step_tokens) const;
  // Scored position i < n_scored(); valid until the next call.
  Result<ReferenceRow> row(int64_t i);
  double nll(int64_t i) const { return values(nll_)[static_cast<size_t>(i)]; }

 private:
  explicit ReferenceFile(std::unique_ptr<GgufFile> file) : file_(std::move(file)) {}
  std::span<const float> values(const TensorView& view) const { return {view.f32(), static_cast<size_t>(n_scored_)}; }
  void read_metadata(ProblemList& problems);
  void find_tensors(ProblemList& problems);
  void check_values(ProblemList& problems) const;
  TensorView find(std::string_view name, DType type, const Shape& shape, ProblemList& problems) const;

  std::unique_ptr<GgufFile> file_;
  ReferenceInfo info_;
  PlanOptions options_;
  int64_t n_tokens_ = 0;
  int64_t n_scored_ = 0;
  TensorView tokens_, logits_, ids_, largest_, log_sum_exp_, nll_;
  std::vector<float> row_;
};

}  // namespace ds4
