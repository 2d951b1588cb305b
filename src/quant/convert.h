#pragma once

// From a published checkpoint (safetensors in the vendor's names and number formats) to a GGUF file of our layout. The
// whole checkpoint is checked against the weight table before a byte is written, and all problems are reported at once.
// FP4 experts become MXFP4 without loss.

#include <string>

#include "base/error.h"
#include "model/hyperparams.h"
#include "quant/checkpoint_source.h"
#include "quant/quantize_model.h"

namespace ds4 {

struct ConvertOptions : CheckpointSourceOptions, QuantizeOptions {};

struct ConvertReport : QuantizeReport {
  bool has_draft_layer = false;
};

// `config` as parse_checkpoint_config gives it.
Result<ConvertReport> convert_checkpoint(const Checkpoint& checkpoint, const Hyperparams& config,
                                         const ConvertOptions& options, const std::string& path);

}  // namespace ds4
