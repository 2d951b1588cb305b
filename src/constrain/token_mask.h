#pragma once

// A set of token ids: those that may come next. Plain value.

#include <cstddef>
#include <cstdint>
#include <vector>

namespace ds4 {

class TokenMask {
 public:
  TokenMask() = default;
  explicit TokenMask(size_t n_tokens, bool allowed = false)
      : n_tokens_(n_tokens), words_((n_tokens + 63) / 64, allowed ? ~uint64_t{0} : 0) {}

  size_t size() const { return n_tokens_; }
  // False for ids that the vocabulary does not have.
  bool allows(size_t token) const { return token < n_tokens_ && ((words_[token / 64] >> (token % 64)) & 1U) != 0; }
  // Precondition of these two: token < size().
  void allow(size_t token) { words_[token / 64] |= uint64_t{1} << (token % 64); }
  void forbid(size_t token) { words_[token / 64] &= ~(uint64_t{1} << (token % 64)); }

 private:
  size_t n_tokens_ = 0;
  std::vector<uint64_t> words_;
};

}  // namespace ds4
