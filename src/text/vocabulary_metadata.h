#pragma once

// A vocabulary in GGUF metadata: the keys tokenizer.ggml.*, as llama.cpp and antirez/ds4 write and read them. Reading
// accepts byte-level BPE ("gpt2") with one of the names under which DeepSeek's pre-tokeniser is known, or no name; any
// other is refused, because its tokens would load and give wrong ids. Pure functions, any thread.

#include "base/error.h"
#include "gguf/metadata.h"
#include "text/vocabulary.h"

namespace ds4 {

// The content is checked by Vocabulary::create. Missing token types mean that all tokens are normal.
Result<VocabularyData> vocabulary_from_metadata(const Metadata& metadata);

// Also writes the ids of BOS, EOS and padding (EOS) where those tokens exist, and that no BOS is to be added.
void store_vocabulary(const VocabularyData& data, Metadata& metadata);

}  // namespace ds4
