#pragma once

// From the ids of tool calls to the blocks that the engine sampled them in (chat/sampled_calls.h), so that a client
// that returns its calls as JSON gets the prompt that was computed. Bounded: the least recently used ids go first, and
// a block goes with its last id. All calls of a turn share one block, and so do turns with the same block. Ids work as
// keys: they must be unguessable and given out by the server alone. Optionally backed by a ReplayStore, which outlives
// the process. Any thread: connections look up while the engine's thread records.

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "chat/message.h"
#include "chat/sampled_calls.h"

namespace ds4 {

// Where the map keeps what must survive a restart: small values under keys, the oldest of which may be lost at any
// time. What is found must be what was put, byte for byte. Called by several threads at once, never under the map's
// lock.
class ReplayStore {
 public:
  virtual ~ReplayStore() = default;
  // May be ignored, but only as a whole.
  virtual void put(std::string_view key, std::string_view value) = 0;
  virtual std::optional<std::string> find(std::string_view key) = 0;
  // Of key and value together.
  virtual size_t max_record_bytes() const = 0;
};

struct ReplayLimits {
  size_t max_ids = 100'000;
  size_t max_bytes = size_t{512} << 20;
};

struct ReplayStatistics {
  size_t n_ids = 0;
  size_t n_blocks = 0;
  size_t n_bytes = 0;
  // Assistant messages with calls, by where their block was: in memory, in the store, or nowhere.
  uint64_t n_memory = 0;
  uint64_t n_store = 0;
  uint64_t n_canonical = 0;
  // Why canonical: ids that were found nowhere, and messages whose client changed the calls or mixed turns.
  uint64_t n_missing_ids = 0;
  uint64_t n_changed = 0;
};

class ReplayMap {
 public:
  // store may be null; else it must outlive the map.
  explicit ReplayMap(const ReplayLimits& limits = {}, ReplayStore* store = nullptr) : limits_(limits), store_(store) {}
  ReplayMap(const ReplayMap&) = delete;
  ReplayMap& operator=(const ReplayMap&) = delete;

  // `ids` are all calls of one turn, in order.
  void record(std::span<const std::string> ids, SampledCalls sampled);

  // The block of a message with these calls. Null when an id is not known, the ids are of several blocks, or the block
  // does not say what the calls say: then the client's word counts. Counts as one use of all ids.
  std::shared_ptr<const SampledCalls> find(std::span<const ToolCall> calls);

  ReplayStatistics statistics() const;

 private:
  using Block = std::shared_ptr<const SampledCalls>;
  struct Entry {
    std::string id;
    Block block;
  };
  // By content.
  struct BlockHash {
    size_t operator()(const Block& block) const { return std::hash<std::string_view>()(block->text); }
  };
  struct BlockEqual {
    bool operator()(const Block& a, const Block& b) const { return *a == *b; }
  };
  struct Found {
    Block block;
    bool in_memory = true;
  };

  static size_t bytes_of(const Entry& entry);
  static size_t bytes_of(const SampledCalls& sampled);
  void write(std::span<const std::string> ids, const SampledCalls& sampled);
  Found look_up(const std::string& id);
  Block read(const std::string& id);
  Block insert(const std::string& id, Block block);
  // Precondition: the mutex is locked.
  void erase_locked(std::list<Entry>::iterator entry);

  const ReplayLimits limits_;
  ReplayStore* const store_;
  mutable std::mutex mutex_;
  std::list<Entry> entries_;                                                // the most recently used first
  std::unordered_map<std::string_view, std::list<Entry>::iterator> by_id_;  // keys are in the entries
  std::unordered_map<Block, size_t, BlockHash, BlockEqual> n_ids_of_block_;
  ReplayStatistics statistics_;
};

}  // namespace ds4
