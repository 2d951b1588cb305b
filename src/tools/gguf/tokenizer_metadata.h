#pragma once

// The tokenizer of a checkpoint as GGUF metadata.

#include <cstdint>
#include <string>

#include "base/error.h"
#include "gguf/metadata.h"

namespace ds4 {

// Reads folder/tokenizer.json, checks that prompts can be encoded with it, and fills it up with unused tokens to the
// n_vocab rows of the model's embedding.
Result<void> store_checkpoint_tokenizer(const std::string& folder, int32_t n_vocab, Metadata& metadata);

}  // namespace ds4
