#pragma once

// Turns a stream of tokens into text that is well-formed UTF-8 at every step: a token may end inside a character, and
// then its last bytes wait for the next token. Bytes that make up no character are given out as U+FFFD.
// One per sequence, used by the engine; not thread safe.

#include <cstdint>
#include <string>

#include "text/tokenizer.h"

namespace ds4 {

class Detokenizer {
 public:
  // The tokenizer must outlive the detokenizer.
  explicit Detokenizer(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  // The text that is complete now. Control tokens give their literal spelling: skip them before if it is not wanted.
  std::string push(int32_t token);
  // At the end of the stream: U+FFFD when a character remained incomplete, else nothing.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  std::string pending_;  // an unfinished character, at most 3 bytes
};

}  // namespace ds4
