#pragma once

// Reads a tokenizer.json in the Hugging Face layout (model.vocab, model.merges, added_tokens) into VocabularyData, for
// the conversion of checkpoints to GGUF. The file may come from anywhere: sizes and ids are bounded, all problems are
// reported at once, and a tokenizer of another kind (model type, pre-tokeniser, normaliser) is refused, because its
// tokens would load and give wrong ids. The vocabulary itself is checked by Vocabulary::create. Any thread.

#include <string_view>

#include "base/error.h"
#include "text/vocabulary.h"

namespace ds4 {

Result<VocabularyData> parse_tokenizer_json(std::string_view json);

}  // namespace ds4
