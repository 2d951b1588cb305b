#pragma once

// A loaded model: the open file, its hyper-parameters and its weights in one backend's memory. Immutable after
// load(); the engine owns it together with the backend, which must outlive it.

#include <memory>
#include <string>

#include "backends/backend.h"
#include "gguf/reader.h"
#include "model/hyperparams.h"
#include "model/weights.h"
#include "ops/ops.h"

namespace ds4 {

struct Model {
  std::unique_ptr<GgufFile> file;
  Hyperparams hyperparams;
  ModelWeights weights;
  RopeTable rope;             // layers with ratio 0
  RopeTable compressed_rope;  // the others
  std::unique_ptr<Buffer> rope_memory;

  // Error: everything that is wrong with the file for this backend, in one message.
  // `progress` may be empty.
  static Result<std::unique_ptr<Model>> load(std::unique_ptr<GgufFile> file, Backend& backend,
                                             const WeightProgress& progress = {});
};

}  // namespace ds4
