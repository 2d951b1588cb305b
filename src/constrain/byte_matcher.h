#pragma once

// Follows texts through a ByteGrammar, and says which tokens may come next. All ways that the grammar leaves open are
// followed at once: a position is a set of stacks, known by a number, and what a byte makes of it is computed once and
// kept, as is the mask of the tokens that may follow it. So a step in a place that was met before costs two look-ups,
// for every sequence that uses the same matcher. What is kept is bounded: when it grows too large, positions move
// on to a new store, and the old one goes with the last position in it.
// Used by one thread: the engine's. Positions belong to the matcher that made them.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "constrain/byte_grammar.h"
#include "constrain/token_mask.h"
#include "constrain/token_trie.h"

namespace ds4 {

class MatcherStore;

class MatchPosition {
 public:
  MatchPosition() = default;

 private:
  friend class ByteMatcher;
  std::shared_ptr<MatcherStore> store_;  // null: nowhere, no text fits
  int32_t config_ = -1;
};

struct MatcherLimits {
  size_t max_configs = 4096;  // of a store: 1 KiB each
  size_t max_masks = 256;     // 16 KiB each at 129,280 tokens
};

class ByteMatcher {
 public:
  // `grammar` is pruned.
  ByteMatcher(std::shared_ptr<const ByteGrammar> grammar, std::shared_ptr<const TokenTrie> trie,
              const MatcherLimits& limits = {});
  ~ByteMatcher();

  // Nowhere when no text leads from `state` to an end.
  MatchPosition start(GrammarState state);
  // False: the text does not go on like this, and `position` is nowhere.
  bool advance(MatchPosition& position, std::string_view bytes);

  static bool is_nowhere(const MatchPosition& position) { return position.config_ < 0; }
  // The text may end here. Precondition of these three: not nowhere.
  bool can_end(const MatchPosition& position) const;
  // Syntax follows, on one of the open ways at least.
  bool is_syntax(const MatchPosition& position) const;
  // The tokens that may follow; the end token where the text may end. Valid until the next call.
  const TokenMask& mask(MatchPosition& position);

 private:
  void renew(MatchPosition& position);

  std::shared_ptr<const ByteGrammar> grammar_;
  std::shared_ptr<const TokenTrie> trie_;
  MatcherLimits limits_;
  std::shared_ptr<MatcherStore> store_;
};

}  // namespace ds4
