#include "constrain/byte_matcher.h"

#include <utility>

#include "base/check.h"
#include "constrain/matcher_store.h"

namespace ds4 {

ByteMatcher::ByteMatcher(std::shared_ptr<const ByteGrammar> grammar, std::shared_ptr<const TokenTrie> trie,
                         const MatcherLimits& limits)
    : grammar_(std::move(grammar)),
      trie_(std::move(trie)),
      limits_(limits),
      store_(std::make_shared<MatcherStore>(*grammar_)) {}

ByteMatcher::~ByteMatcher() = default;

MatchPosition ByteMatcher::start(GrammarState state) {
  MatchPosition position;
  if (!grammar_->can_end(state)) return position;
  position.store_ = store_;
  position.config_ = store_->start(state);
  renew(position);
  return position;
}

// Into the current store, and into a new one when that is full.
void ByteMatcher::renew(MatchPosition& position) {
  const bool is_full = store_->n_configs() > limits_.max_configs || store_->n_masks() > limits_.max_masks ||
                       store_->n_stacks() > 8 * limits_.max_configs;
  if (is_full) store_ = std::make_shared<MatcherStore>(*grammar_);
  if (position.store_ == store_ || position.config_ < 0) return;
  position.config_ = store_->copy(*position.store_, position.config_);
  position.store_ = store_;
}

bool ByteMatcher::advance(MatchPosition& position, std::string_view bytes) {
  if (position.config_ < 0) return false;
  renew(position);
  for (const char byte : bytes) {
    position.config_ = position.store_->next(position.config_, static_cast<uint8_t>(byte));
    if (position.config_ >= 0) continue;
    position.store_.reset();
    return false;
  }
  return true;
}

bool ByteMatcher::can_end(const MatchPosition& position) const {
  CHECK(!is_nowhere(position), "a position outside the grammar");
  return position.store_->can_end(position.config_);
}

bool ByteMatcher::is_syntax(const MatchPosition& position) const {
  CHECK(!is_nowhere(position), "a position outside the grammar");
  return position.store_->is_syntax(position.config_);
}

const TokenMask& ByteMatcher::mask(MatchPosition& position) {
  CHECK(!is_nowhere(position), "a position outside the grammar");
  renew(position);
  return position.store_->mask(position.config_, *trie_);
}

}  // namespace ds4
