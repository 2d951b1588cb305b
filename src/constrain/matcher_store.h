#pragma once

// What a ByteMatcher has found out so far: stacks, sets of stacks ("configs"), what each byte makes of them, and masks.
// A stack is a state and the stack below it, stored once, so that equal stacks have equal numbers. A config holds the
// stacks that read a byte next; those that only jump, call or return were followed to such.

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "constrain/byte_grammar.h"
#include "constrain/token_mask.h"
#include "constrain/token_trie.h"

namespace ds4 {

class MatcherStore {
 public:
  static constexpr int32_t kDead = -1;

  explicit MatcherStore(const ByteGrammar& grammar) : grammar_(grammar) {}

  int32_t start(GrammarState state);
  // The same position as `config` of `other`.
  int32_t copy(const MatcherStore& other, int32_t config);
  int32_t next(int32_t config, uint8_t byte);
  const TokenMask& mask(int32_t config, const TokenTrie& trie);

  bool can_end(int32_t config) const { return configs_[static_cast<size_t>(config)].can_end; }
  bool is_syntax(int32_t config) const { return configs_[static_cast<size_t>(config)].is_syntax; }
  size_t n_configs() const { return configs_.size(); }
  size_t n_masks() const { return n_masks_; }
  size_t n_stacks() const { return stacks_.size(); }

 private:
  static constexpr int32_t kUnknown = -2;
  static constexpr uint32_t kNoStack = UINT32_MAX;

  struct Stack {
    GrammarState state;
    uint32_t below;  // begins with the state to come back to
    uint16_t depth;
  };
  struct Config {
    std::vector<uint32_t> stacks;
    bool can_end = false;
    bool is_syntax = false;
    std::shared_ptr<const TokenMask> mask;
  };

  uint32_t add_stack(GrammarState state, uint32_t below);
  bool only_ends(GrammarState state) const;
  void follow(uint32_t stack);
  void follow_edges(const Stack& top);
  int32_t finish_config();
  uint32_t representative(uint32_t stack, size_t n_bytes);
  int32_t config_like(int32_t config, size_t n_bytes);
  TokenMask compute_mask(int32_t config, const TokenTrie& trie);

  const ByteGrammar& grammar_;
  std::vector<Stack> stacks_;
  std::unordered_map<uint64_t, uint32_t> stack_ids_;
  std::vector<Config> configs_;
  std::vector<std::array<int32_t, 256>> next_;  // by config
  std::map<std::pair<std::vector<uint32_t>, bool>, int32_t> config_ids_;
  size_t n_masks_ = 0;

  // Of the config that is being made.
  std::vector<uint32_t> work_;
  std::vector<uint32_t> seen_;  // by stack: the round in which it was met
  uint32_t round_ = 0;
  std::vector<uint32_t> readers_;
  bool can_end_ = false;
};

}  // namespace ds4
