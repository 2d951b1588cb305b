#pragma once

// Cuts UTF-8 text into the pieces inside which BPE merges. DeepSeek's tokenizer defines them by three regular
// expressions applied one after another, each splitting what the one before left and keeping both matches and gaps:
//   1  \p{N}{1,3}
//   2  [U+4E00-U+9FA5 U+3040-U+309F U+30A0-U+30FF]+
//   3  [ASCII punctuation][A-Za-z]+ | [^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+ | ?[\p{P}\p{S}]+[\r\n]* | \s*[\r\n]+
//      | \s+(?!\S) | \s+
// Because the first two separate disjoint kinds of characters, one left-to-right scan does the same when its
// look-ahead treats a character of another kind as the end of the text. Ill-formed bytes count as U+FFFD.

#include <cstddef>
#include <string_view>

namespace ds4 {

// Not thread safe; one per text. The text must outlive the scanner.
class Pretokenizer {
 public:
  explicit Pretokenizer(std::string_view text) : text_(text) {}

  bool done() const { return offset_ == text_.size(); }
  // The next piece, never empty; pieces in order make up the text. Precondition: !done().
  std::string_view next();

 private:
  std::string_view text_;
  size_t offset_ = 0;
};

}  // namespace ds4
