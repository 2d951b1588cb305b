#include "session/rendered_keys.h"

#include <algorithm>
#include <string>
#include <string_view>

namespace ds4 {
namespace {

// Keys of the runs between control tokens, chained.
class KeyChain {
 public:
  KeyChain(const Tokenizer& tokenizer, const Hash128& root)
      : tokenizer_(tokenizer), key_{.low = root.low + 1, .high = root.high} {}

  bool is_control(int32_t token) const { return !is_text(tokenizer_, token); }
  static bool is_text(const Tokenizer& tokenizer, int32_t token) {
    return token < tokenizer.n_vocab() && !tokenizer.is_control(token);
  }

  void push(int32_t token) {
    if (!is_control(token)) {
      run_ += tokenizer_.token_bytes(token);
      return;
    }
    close_run();
    key_ = hash_bytes(std::as_bytes(std::span(&token, 1)), key_);
  }
  // The key up to here.
  Hash128 close_run() {
    if (!run_.empty()) key_ = hash_bytes(std::as_bytes(std::span(run_.data(), run_.size())), key_);
    run_.clear();
    return key_;
  }

 private:
  const Tokenizer& tokenizer_;
  std::string run_;
  Hash128 key_;  // starts from another one than page keys do
};

// The bytes and control tokens of a token run, piece by piece.
class RenderingReader {
 public:
  RenderingReader(const Tokenizer& tokenizer, std::span<const int32_t> tokens) : tokenizer_(tokenizer), rest_(tokens) {
    next();
  }
  bool at_end() const { return !at_control_ && bytes_.empty(); }
  bool at_control() const { return at_control_; }
  int32_t control() const { return rest_.front(); }
  std::string_view bytes() const { return bytes_; }

  void skip_control() {
    rest_ = rest_.subspan(1);
    next();
  }
  void skip_bytes(size_t n) {
    bytes_.remove_prefix(n);
    if (bytes_.empty()) next();
  }

 private:
  void next() {
    at_control_ = false;
    bytes_ = {};
    while (!rest_.empty() && bytes_.empty()) {
      if (!KeyChain::is_text(tokenizer_, rest_.front())) {
        at_control_ = true;
        return;
      }
      bytes_ = tokenizer_.token_bytes(rest_.front());
      rest_ = rest_.subspan(1);
    }
  }

  const Tokenizer& tokenizer_;
  std::span<const int32_t> rest_;
  std::string_view bytes_;
  bool at_control_ = false;
};

}  // namespace

std::vector<RenderedBoundary> rendered_boundaries(const Tokenizer& tokenizer, std::span<const int32_t> tokens,
                                                  const Hash128& root) {
  std::vector<RenderedBoundary> boundaries;
  KeyChain chain(tokenizer, root);
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (chain.is_control(tokens[i])) {
      const Hash128 before = chain.close_run();
      if (i > 0 && (boundaries.empty() || boundaries.back().n_tokens != i)) boundaries.push_back({i, before});
      chain.push(tokens[i]);
      boundaries.push_back({i + 1, chain.close_run()});
    } else {
      chain.push(tokens[i]);
    }
  }
  return boundaries;
}

Hash128 rendered_key(const Tokenizer& tokenizer, std::span<const int32_t> tokens, const Hash128& root) {
  KeyChain chain(tokenizer, root);
  for (const int32_t token : tokens) chain.push(token);
  return chain.close_run();
}

bool same_rendering(const Tokenizer& tokenizer, std::span<const int32_t> a, std::span<const int32_t> b) {
  RenderingReader left(tokenizer, a);
  RenderingReader right(tokenizer, b);
  while (!left.at_end() && !right.at_end()) {
    if (left.at_control() != right.at_control()) return false;
    if (left.at_control()) {
      if (left.control() != right.control()) return false;
      left.skip_control();
      right.skip_control();
      continue;
    }
    const size_t n = std::min(left.bytes().size(), right.bytes().size());
    if (left.bytes().substr(0, n) != right.bytes().substr(0, n)) return false;
    left.skip_bytes(n);
    right.skip_bytes(n);
  }
  return left.at_end() && right.at_end();
}

}  // namespace ds4
