#include "text/detokenizer.h"

#include <algorithm>

#include "base/utf8.h"

namespace ds4 {
namespace {

// Length of the tail that has the form of an unfinished character: a lead byte followed by fewer continuation bytes
// than its high bits announce.
size_t unfinished_tail_bytes(std::string_view text) {
  const size_t n_max = std::min<size_t>(3, text.size());
  for (size_t n = 1; n <= n_max; ++n) {
    const auto byte = static_cast<uint8_t>(text[text.size() - n]);
    if (byte < 0x80) return 0;
    if (byte < 0xC0) continue;
    const size_t n_announced = byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : byte < 0xF8 ? 4 : 0;
    return n < n_announced ? n : 0;
  }
  return 0;
}

}  // namespace

std::string Detokenizer::push(int32_t token) {
  pending_ += tokenizer_.token_bytes(token);
  const size_t n_complete = pending_.size() - unfinished_tail_bytes(pending_);
  std::string text = replace_ill_formed_utf8(std::string_view(pending_).substr(0, n_complete));
  pending_.erase(0, n_complete);
  return text;
}

std::string Detokenizer::finish() {
  std::string text = replace_ill_formed_utf8(pending_);
  pending_.clear();
  return text;
}

}  // namespace ds4
