#pragma once

// The vocabulary as a tree of bytes, to find all tokens that a grammar allows in one walk which leaves out every
// subtree that it does not. Control tokens are the bytes of token_markup(); the token that ends the answer is eos_id().
// Other control tokens and unused ones are in no grammar. Immutable, any thread.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text/tokenizer.h"

namespace ds4 {

class TokenTrie {
 public:
  // In the order of a walk that visits parents first.
  struct Node {
    uint32_t end;          // of the subtree
    uint32_t first_token;  // into tokens()
    uint16_t n_tokens;     // that end here
    uint16_t depth;        // bytes before this node's
    uint8_t byte;
  };

  explicit TokenTrie(const Tokenizer& tokenizer);
  // The bytes and ids of tokens; empty ones are left out.
  TokenTrie(std::vector<std::pair<std::string, int32_t>> tokens, int32_t n_vocab, int32_t eos_id);

  std::span<const Node> nodes() const { return nodes_; }
  std::span<const int32_t> tokens() const { return tokens_; }
  size_t max_token_bytes() const { return max_token_bytes_; }
  int32_t n_vocab() const { return n_vocab_; }
  int32_t eos_id() const { return eos_id_; }

 private:
  void build(const std::vector<std::pair<std::string, int32_t>>& sorted);

  std::vector<Node> nodes_;
  std::vector<int32_t> tokens_;
  size_t max_token_bytes_ = 0;
  int32_t n_vocab_;
  int32_t eos_id_;
};

}  // namespace ds4
