#pragma once

// The source of convert and quantize: a checkpoint folder or a GGUF file, opened and checked, and what the command line
// adds to its metadata.

#include <memory>
#include <string>

#include "base/error.h"
#include "gguf/metadata.h"
#include "gguf/reader.h"
#include "quant/model_source.h"
#include "quant/recipe.h"
#include "quant/safetensors.h"
#include "tools/gguf/commands.h"

namespace ds4 {

struct ModelInput {
  // One of both holds the memory of `model`.
  std::unique_ptr<Checkpoint> checkpoint;
  std::unique_ptr<GgufFile> file;
  std::unique_ptr<ModelSource> model;
  bool has_draft_layer = false;
  Metadata metadata;  // name, licence, vocabulary, file type
};

Result<ModelInput> open_checkpoint_input(const ConvertCommandOptions& options, const Recipe& recipe);
// Takes folders too.
Result<ModelInput> open_model_input(const ConvertCommandOptions& options, const Recipe& recipe);

}  // namespace ds4
