#pragma once

// From a ModelSource to a GGUF file whose tensors have the types that a recipe gives them: the work behind `ds4-gguf
// convert` and `quantize`. Tensors stream through a few MB of memory, rows are shared out to threads, and the result
// does not depend on their number. An interrupted run is continued (quant/partial_file.h), and the file that comes out
// is the same. The error that each tensor took is measured on the way.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "gguf/metadata.h"
#include "quant/imatrix.h"
#include "quant/model_source.h"
#include "quant/recipe.h"

namespace ds4 {

// Rises whenever the quantisers give other results.
inline constexpr uint32_t kQuantizerVersion = 3;

struct QuantizeProgress {
  std::string_view tensor;     // being written
  int64_t done_elements = 0;   // those of an earlier run included
  int64_t total_elements = 0;  // of all tensors
  size_t resumed_tensors = 0;  // complete since an earlier run
};

struct QuantizeOptions {
  const Recipe* recipe = nullptr;
  std::vector<TypeOverride> overrides;
  const Imatrix* imatrix = nullptr;  // null: all columns are equally important
  Metadata metadata;                 // written after the source's own keys
  int threads = 0;                   // 0: one per core
  bool restart = false;              // drop what an interrupted run left
  std::function<void(const QuantizeProgress&)> progress;
};

struct PlannedTensor {
  std::string name;
  std::string_view group;
  DType type = DType::kF32;
  Shape shape;
  uint64_t size_bytes = 0;
  bool has_importance = false;
};

struct QuantizePlan {
  std::vector<PlannedTensor> tensors;  // in file order
  std::vector<std::string> fallbacks;  // as TypePlan
  uint64_t file_size_bytes = 0;
};

// Sums of squares over the elements of a tensor; weights are the importance of the column, scaled to a mean of 1.
struct TensorError {
  double error = 0;
  double norm = 0;
  double weighted_error = 0;
  double weighted_norm = 0;

  TensorError& operator+=(const TensorError& other);
  double relative_rmse() const;
  double weighted_relative_rmse() const;
};

struct QuantizeReport {
  QuantizePlan plan;
  std::vector<TensorError> errors;  // as plan.tensors; zeros for token tables
  size_t resumed_tensors = 0;
};

// What quantize_model() would write. Errors: overrides that cannot be, importance of another shape.
Result<QuantizePlan> plan_model(const ModelSource& source, const QuantizeOptions& options);

Result<QuantizeReport> quantize_model(const ModelSource& source, const QuantizeOptions& options,
                                      const std::string& path);

}  // namespace ds4
