#pragma once

// Room within the budget: removes segments of other identities, evicts checkpoints of little value, and copies what is
// left of half-dead segments to the end of the log, so that their files can go. A byte is copied at most for a byte
// that becomes free. Belongs to the writer thread (and to open() before that thread starts).

#include <cstdint>
#include <optional>
#include <vector>

#include "session/eviction.h"
#include "session/segment_log.h"
#include "session/store_state.h"

namespace ds4 {

class StoreSpace {
 public:
  StoreSpace(StoreState& state, SegmentLog& log) : state_(state), log_(log) {}

  // Most bytes on disk before a record is written; the rest of the budget is for copies of compaction.
  static uint64_t limit_bytes(const DiskStoreOptions& options);

  // Removes until `header` can be appended and at most limit_bytes are then on disk. False: not possible.
  bool make_room(const RecordHeader& header, uint64_t limit_bytes);
  // The same for no record.
  bool shrink_to(uint64_t limit_bytes);

 private:
  enum class Step { kFreed, kNothingLeft };
  bool free_until(const RecordHeader* header, uint64_t limit_bytes);
  Step free_some();
  std::optional<uint32_t> least_used_foreign() const;
  // The sealed segment with most dead bytes, if it is at least half dead.
  std::optional<uint32_t> deadest() const;
  bool evict_next();
  bool remove_file(uint32_t number);
  void remove_segment(uint32_t number);
  void reclaim(uint32_t number);
  // Copies what is of use. Error: the log cannot take it.
  Result<void> copy_live(uint32_t number, const StoreFile& file);
  // For when there is no room for copies: reads what is of use, removes the file, and then writes.
  void carry_over(uint32_t number, const StoreFile& file);
  void set_stuck(uint32_t number, const std::string& reason);
  std::optional<QueuedRecord> read_live(const StoreFile& file, const StoreIndex::Record& record, uint64_t seed);
  Result<void> append_copy(const QueuedRecord& copy, const StoreIndex::Record& record);

  StoreState& state_;
  SegmentLog& log_;
  std::vector<Victim> victims_;  // least value last; kept while they last, for choosing them takes time
};

}  // namespace ds4
