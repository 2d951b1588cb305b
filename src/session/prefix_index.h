#pragma once

// Finds the longest remembered state for a prompt. An entry matches when its tokens are a prefix of the prompt's, or,
// where a control token stands, when they say the same in other tokens (rendered_keys.h). Entries whose checkpoint is
// in memory are kept within a budget of frontier bytes; the least valuable goes first: value is the tokens that would
// have to be computed again, weighed by how likely and how recently the entry was wanted.
// Deterministic; time is counted in look-ups. Engine thread only.

#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "session/checkpoint.h"
#include "text/tokenizer.h"

namespace ds4 {

struct PrefixMatch {
  Hash128 key;
  int32_t n_prompt_tokens = 0;  // of the prompt, that the entry stands for
  bool is_rendered = false;     // the entry's tokens say the same as the prompt's, and may be others
};

// What is known of a checkpoint without its KV memory.
struct CheckpointInfo {
  Hash128 key;
  Hash128 parent;  // key of the last full page, {} without one
  int32_t n_tokens = 0;
  std::vector<int32_t> tail_tokens;
  Hash128 rendered_key;
  CheckpointReason reason = CheckpointReason::kInterval;
};

CheckpointInfo info_of(const Checkpoint& checkpoint);

class PrefixIndex {
 public:
  // tokenizer: null where tokens make no text; then only tokens match.
  explicit PrefixIndex(const Tokenizer* tokenizer) : tokenizer_(tokenizer) {}
  PrefixIndex(const PrefixIndex&) = delete;
  PrefixIndex& operator=(const PrefixIndex&) = delete;

  // Best first: most prompt tokens, then equal tokens before equal text. At most max_tokens prompt tokens each. Keys
  // matched, nothing compared yet beyond the tail tokens of entries. Only entries of that root (checkpoint_key()).
  std::vector<PrefixMatch> find(std::span<const int32_t> prompt, int32_t max_tokens, const Hash128& root = {}) const;

  // A page with these tokens after `parent`, if a checkpoint in memory has it.
  std::shared_ptr<const TokenPage> find_page(const Hash128& key) const;
  void remember_page(const std::shared_ptr<const TokenPage>& page) { pages_[page->key] = page; }

  void add(std::shared_ptr<const Checkpoint> checkpoint, const Hash128& root = {});
  // An entry that is only stored; its checkpoint comes by add() when it is wanted.
  void add_stored(const CheckpointInfo& info);
  void set_stored(const Hash128& key, bool is_stored);

  std::shared_ptr<const Checkpoint> checkpoint(const Hash128& key) const;  // null: not in memory
  const CheckpointInfo* info(const Hash128& key) const;  // null: no such entry; valid until the index changes
  // Tokens of the longest stored entry that this one grew from; 0 without any.
  int32_t stored_ancestor_tokens(const Hash128& key) const;
  bool is_ancestor(const Hash128& earlier, const Hash128& later) const;
  // The entry's state was reached again, for `reason`.
  void renew(const Hash128& key, CheckpointReason reason);
  // The entry was wanted: it and what it grew from count as used.
  void touch(const Hash128& key);

  // Drops the checkpoint of least value from memory, of those that alone hold KV pages if `must_hold_pages` and there
  // are any, and returns it. Null: no checkpoint is in memory.
  std::shared_ptr<const Checkpoint> evict(bool must_hold_pages);
  void remove(const Hash128& key);

  uint64_t frontier_bytes() const { return frontier_bytes_; }
  size_t n_in_memory() const { return n_in_memory_; }
  size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    CheckpointInfo info;
    std::shared_ptr<const Checkpoint> checkpoint;
    bool is_stored = false;
    bool is_overtaken = false;  // an end of a conversation that has gone on
    Hash128 ancestor;           // the longest entry that is a prefix of this one when it came, {} without one
    uint64_t last_used = 0;
    uint32_t n_hits = 0;
  };
  Entry& insert(const CheckpointInfo& info);
  double value(const Entry& entry) const;
  void overtake(const Hash128& key);
  void drop_checkpoint(Entry& entry);

  const Tokenizer* tokenizer_;
  std::unordered_map<Hash128, Entry> entries_;
  std::unordered_multimap<Hash128, Hash128> by_parent_;
  std::unordered_multimap<Hash128, Hash128> by_rendering_;
  std::unordered_map<Hash128, std::weak_ptr<const TokenPage>> pages_;
  uint64_t frontier_bytes_ = 0;
  size_t n_in_memory_ = 0;
  uint64_t clock_ = 0;
};

}  // namespace ds4
