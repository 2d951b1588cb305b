#pragma once

// A remembered state: the tokens that were run, in pages of a tree that conversations with a common start share, and
// the KV memory that belongs to them. Immutable; engine thread only, because it holds KV pages.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "model/kv_cache.h"
#include "session/hash.h"

namespace ds4 {

// Why a checkpoint was taken, in ascending order of how likely it is to be wanted again.
enum class CheckpointReason : uint8_t {
  kInterval,   // every so many tokens of a long prompt or answer
  kMessage,    // start of a message
  kPreempted,  // its sequence gave way to another and will come back
  kPromptEnd,  // before the last token of a prompt: the same prompt again
  kTurnEnd,    // after an answer
  kPrefix,     // end of system prompt and tools: where other conversations start
};

// Chained over full pages from the root, which names what KV rows depend on beside tokens, then of the rest.
Hash128 checkpoint_key(const Hash128& root, std::span<const int32_t> tokens);

// A full page: kPageTokens tokens after those of its parent, and their compressed rows.
struct TokenPage {
  Hash128 key;
  std::shared_ptr<const TokenPage> parent;  // null: the first page
  std::vector<int32_t> tokens;
  PageRef kv;
};

// {} where there is none.
Hash128 key_of(const std::shared_ptr<const TokenPage>& page);

struct Checkpoint {
  Hash128 key;  // checkpoint_key()
  int32_t n_tokens = 0;
  std::shared_ptr<const TokenPage> parent;  // the last full page; null when there is none
  std::vector<int32_t> tail_tokens;         // those after it, fewer than kPageTokens
  PageRef tail_page;                        // empty without tail tokens
  std::vector<std::byte> frontier;          // as in KvCheckpoint
  Hash128 rendered_key;                     // rendered_keys.h; {} where no control token stands
  CheckpointReason reason = CheckpointReason::kInterval;

  std::vector<int32_t> tokens() const;
  // The first n_tokens of `prompt` are this checkpoint's tokens.
  bool is_prefix_of(std::span<const int32_t> prompt) const;
  void restore_into(KvState& kv) const;
};

}  // namespace ds4
