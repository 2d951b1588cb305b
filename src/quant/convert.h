#pragma once

// From a published checkpoint (safetensors in the vendor's names and number formats) to a GGUF file of our layout. The
// weight table says what the file holds and what each tensor is called in the checkpoint; experts are stacked, and the
// draft block `mtp.0` becomes the layer after the last, its e_proj and h_proj side by side as nextn.eh_proj. The whole
// checkpoint is checked against the table before a byte is written, and all problems are reported at once. Tensors
// stream through a few MB of memory; the file appears only when it is complete. FP4 experts become MXFP4 without loss.

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "gguf/metadata.h"
#include "model/hyperparams.h"
#include "quant/recipe.h"
#include "quant/safetensors.h"

namespace ds4 {

struct ConvertOptions {
  const Recipe* recipe = nullptr;
  std::vector<TypeOverride> overrides;
  bool with_draft_layer = true;  // when the checkpoint has one
  bool allow_extra = false;      // tensors that the weight table does not know
  Metadata metadata;             // written after the model's own keys: a name, a vocabulary
  int threads = 0;               // 0: one per core
  // Called before each tensor is written, with its number from 0.
  std::function<void(size_t index, size_t count, std::string_view name)> progress;
};

struct ConvertReport {
  size_t n_tensors = 0;
  bool has_draft_layer = false;
  std::vector<std::string> fallbacks;  // as TypePlan
};

// `config` as parse_checkpoint_config gives it.
Result<ConvertReport> convert_checkpoint(const Checkpoint& checkpoint, const Hyperparams& config,
                                         const ConvertOptions& options, const std::string& path);

}  // namespace ds4
