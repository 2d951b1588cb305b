#pragma once

// A published checkpoint as a ModelSource. The weight table says which tensors there are and what each is called in the
// checkpoint; experts are stacked, and the draft block `mtp.0` becomes the layer after the last, its e_proj and h_proj
// side by side as nextn.eh_proj. All problems of the checkpoint are reported at once by open(). FP4 rows are handed out
// as MXFP4 without loss. The Checkpoint must outlive the source.

#include <memory>

#include "base/error.h"
#include "model/hyperparams.h"
#include "quant/model_source.h"
#include "quant/safetensors.h"

namespace ds4 {

struct CheckpointSourceOptions {
  bool with_draft_layer = true;  // when the checkpoint has one
  bool allow_extra = false;      // tensors that the weight table does not know
};

struct CheckpointSource {
  std::unique_ptr<ModelSource> model;
  bool has_draft_layer = false;
};

// `config` as parse_checkpoint_config gives it.
Result<CheckpointSource> open_checkpoint_source(const Checkpoint& checkpoint, const Hyperparams& config,
                                                const CheckpointSourceOptions& options);

}  // namespace ds4
