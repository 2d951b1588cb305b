#pragma once

// What the engine remembers of conversations: takes checkpoints of running sequences, and gives a new request the
// longest one that its prompt starts with, so that only the tokens after it are computed. Checkpoints hold KV pages;
// they give them up when running sequences need them. With a disk store, conversations outlive the process: what is
// written of one is its pages, once, and a checkpoint at its head, every so many tokens and where it rests.
// Engine thread only.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/clock.h"
#include "session/disk_mirror.h"
#include "session/prefix_index.h"

namespace ds4 {

struct SessionOptions {
  uint64_t max_frontier_bytes = uint64_t{2} << 30;  // of checkpoints in memory; their pages are the pool's
  int32_t min_tokens = 32;                          // fewer are computed sooner than they are kept
  int32_t disk_interval_tokens = 16384;             // between checkpoints of one conversation on disk
  int32_t disk_rest_tokens = 8192;                  // least after the last one for another when there is a pause
  int32_t disk_least_tokens = 512;                  // and at the end; a checkpoint is as large as many pages
  const Clock* clock = nullptr;                     // for the times in SessionStatistics; null: none are taken
};

// Since the store was made.
struct SessionStatistics {
  int64_t n_saved = 0;  // checkpoints that were taken; those that were there already do not count
  uint64_t saved_frontier_bytes = 0;
  uint64_t most_frontier_bytes = 0;  // of one
  int64_t save_us = 0;               // of save(), with what it hands to the disk store
  int64_t n_restored = 0;
  int64_t n_loaded = 0;  // of these from disk
  int64_t restore_us = 0;
  int64_t n_given_up = 0;  // ends of conversations that the disk has no room for
};

enum class PrefixKind : uint8_t {
  kSameTokens,
  kSameText,  // or the same text in other tokens
};

enum class RestKind : uint8_t { kPause, kEnd };

struct RestoredPrefix {
  int32_t n_tokens = 0;         // in the KV state
  int32_t n_prompt_tokens = 0;  // of the prompt as it came
};

class SessionStore {
 public:
  // The cache must outlive the store and be used by the same thread. tokenizer and disk may be null.
  SessionStore(KvCache& cache, const Tokenizer* tokenizer, const SessionOptions& options,
               std::unique_ptr<DiskStore> disk = nullptr);

  // Brings kv to the longest remembered prefix of the prompt, leaving at least one token to run. Where that prefix was
  // run in other tokens than the prompt's, the prompt takes those; it never grows beyond max_tokens.
  // root: of what else than tokens the KV rows depend on; states of different roots never meet.
  RestoredPrefix restore(std::vector<int32_t>& prompt, KvState& kv, PrefixKind kind, size_t max_tokens,
                         const Hash128& root = {});

  // Remembers kv, which holds exactly these tokens. before_control: the next token is, or will be, a control token.
  void save(std::span<const int32_t> tokens, bool before_control, CheckpointReason reason, const KvState& kv,
            const Hash128& root = {});

  // Forgets checkpoints until n_pages are free. False: there are not so many even without any checkpoint.
  bool make_room(int32_t n_pages);

  // Puts where conversations stand now on their way to the disk: those that have come far when there is nothing else to
  // do, all at the end. False: the queue is full, and after flush() there is more. At the end, what gets no further
  // from one try to the next is given up, so that it comes to one.
  bool store_resting(RestKind kind);
  // Waits until all of that is on disk. Error: why something is not.
  Result<void> flush();

  const PrefixIndex& index() const { return index_; }
  const SessionStatistics& statistics() const { return statistics_; }
  // Null without one.
  DiskStore* disk() { return disk_.has_value() ? &disk_->store() : nullptr; }

 private:
  std::shared_ptr<const TokenPage> page_of(const Hash128& key, std::shared_ptr<const TokenPage> parent,
                                           std::span<const int32_t> tokens, PageRef kv);
  std::shared_ptr<const Checkpoint> load(const PrefixMatch& match, std::span<const int32_t> prompt,
                                         const Hash128& root);
  std::shared_ptr<const Checkpoint> load_from_disk(const Hash128& key, const Hash128& root);
  void keep_within_budget();
  bool forget_one(bool must_hold_pages);
  void plan_storing(const std::shared_ptr<const Checkpoint>& checkpoint);
  int32_t tokens_after_stored(const Checkpoint& checkpoint) const;

  int64_t now_us() const { return options_.clock == nullptr ? 0 : options_.clock->now_us(); }

  KvCache& cache_;
  const Tokenizer* tokenizer_;
  SessionOptions options_;
  SessionStatistics statistics_;
  PrefixIndex index_;
  std::optional<DiskMirror> disk_;
  // An end of a conversation that is not on disk.
  struct Resting {
    std::weak_ptr<const Checkpoint> checkpoint;
    int32_t n_tokens = 0;             // after what was on disk when it came
    std::optional<size_t> n_missing;  // pages that the last try at the end left out
  };
  std::vector<Resting> resting_;
};

}  // namespace ds4
