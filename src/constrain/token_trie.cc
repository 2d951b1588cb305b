#include "constrain/token_trie.h"

#include <algorithm>
#include <limits>

#include "chat/markup.h"

namespace ds4 {
namespace {

std::vector<std::pair<std::string, int32_t>> tokens_of(const Tokenizer& tokenizer) {
  // Bytes from F8 on are in no text; tokens that have them would pass for markup.
  const auto is_text = [](std::string_view bytes) {
    return std::ranges::none_of(bytes, [](char c) { return static_cast<uint8_t>(c) >= 0xF8; });
  };
  std::vector<std::pair<std::string, int32_t>> tokens;
  for (int32_t id = 0; id < tokenizer.n_vocab(); ++id) {
    if (!tokenizer.is_added(id) && is_text(tokenizer.token_bytes(id)))
      tokens.emplace_back(tokenizer.token_bytes(id), id);
  }
  if (const auto dsml = tokenizer.control_id(ControlToken::kDsml)) tokens.emplace_back(token_markup().dsml, *dsml);
  return tokens;
}

}  // namespace

TokenTrie::TokenTrie(const Tokenizer& tokenizer)
    : TokenTrie(tokens_of(tokenizer), tokenizer.n_vocab(), tokenizer.eos_id()) {}

TokenTrie::TokenTrie(std::vector<std::pair<std::string, int32_t>> tokens, int32_t n_vocab, int32_t eos_id)
    : n_vocab_(n_vocab), eos_id_(eos_id) {
  // A node's depth has 16 bits; no token comes near.
  std::erase_if(tokens, [](const auto& token) {
    return token.first.empty() || token.first.size() >= std::numeric_limits<uint16_t>::max();
  });
  std::ranges::sort(tokens);
  build(tokens);
}

void TokenTrie::build(const std::vector<std::pair<std::string, int32_t>>& sorted) {
  std::vector<size_t> path;  // nodes from the root to the last token
  std::string_view last;
  for (const auto& [bytes, id] : sorted) {
    const auto n_equal = static_cast<size_t>(std::ranges::mismatch(bytes, last).in1 - bytes.begin());
    for (; path.size() > n_equal; path.pop_back()) nodes_[path.back()].end = static_cast<uint32_t>(nodes_.size());
    for (size_t i = n_equal; i < bytes.size(); ++i) {
      path.push_back(nodes_.size());
      nodes_.push_back({.end = 0,
                        .first_token = static_cast<uint32_t>(tokens_.size()),
                        .n_tokens = 0,
                        .depth = static_cast<uint16_t>(i),
                        .byte = static_cast<uint8_t>(bytes[i])});
    }
    ++nodes_[path.back()].n_tokens;
    tokens_.push_back(id);
    max_token_bytes_ = std::max(max_token_bytes_, bytes.size());
    last = bytes;
  }
  for (const size_t node : path) nodes_[node].end = static_cast<uint32_t>(nodes_.size());
}

}  // namespace ds4
