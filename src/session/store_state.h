#pragma once

// What the engine's thread and the writer thread of a disk store share. Everything but the constants at the top is
// guarded by `mutex`, which nobody holds while the disk works.

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "session/disk_store.h"
#include "session/store_index.h"

namespace ds4 {

struct QueuedRecord {
  RecordHeader header;
  std::vector<std::byte> meta;
  std::vector<std::byte> payload;
};

struct StoreState {
  StoreState(const DiskStoreOptions& store_options, StoreFiles& store_files, const WallClock& store_clock)
      : options(store_options), files(store_files), clock(store_clock) {}

  const DiskStoreOptions options;  // with segment_bytes chosen
  StoreFiles& files;
  const WallClock& clock;

  std::mutex mutex;
  std::condition_variable work;  // for the writer: there is something to do
  std::condition_variable done;  // for flush(): flushes_done has risen

  StoreIndex index;
  std::deque<std::shared_ptr<const QueuedRecord>> queue;
  uint64_t queued_bytes = 0;
  // The youngest of each key in the queue. The front stays there until it is on disk.
  std::unordered_map<Hash128, std::shared_ptr<const QueuedRecord>> queued_pages, queued_checkpoints, queued_blobs;

  bool stopping = false;
  std::chrono::steady_clock::time_point stop_deadline;
  uint64_t flushes_asked = 0;
  uint64_t flushes_done = 0;
  std::vector<Error> flush_errors;  // of the last one; empty when it went well

  DiskStoreStatistics counts;  // those since the start, and `paused`
  std::vector<std::string> notices;

  std::string path_of(uint32_t segment) const { return options.directory + "/" + segment_name(segment); }
  bool hurried() const { return stopping || flushes_asked > flushes_done; }

  // --- With the mutex held.
  auto& queued(RecordKind kind) {
    return kind == RecordKind::kPage         ? queued_pages
           : kind == RecordKind::kCheckpoint ? queued_checkpoints
                                             : queued_blobs;
  }
  bool has(RecordKind kind, const Hash128& key) {
    return queued(kind).contains(key) || index.find_place(kind, key).has_value();
  }
  // With this value: the youngest counts.
  bool has_blob(const RecordHeader& header) {
    const auto waiting = queued_blobs.find(header.key);
    if (waiting != queued_blobs.end()) return waiting->second->header.payload_checksum == header.payload_checksum;
    const StoreIndex::Blob* const stored = index.find_blob(header.key);
    return stored != nullptr && stored->value_checksum == header.payload_checksum;
  }
  void notice(std::string text) {
    constexpr size_t kMaxNotices = 100;
    if (notices.size() < kMaxNotices) notices.push_back(std::move(text));
  }
  // A record that cannot be used, with all that depends on it.
  void drop_damaged(const StoreIndex::Record& record, const std::string& reason) {
    const StoreIndex::Removed removed = index.drop(record);
    const int64_t n = removed.n_pages + removed.n_checkpoints + removed.n_blobs;
    if (n == 0) return;
    counts.n_dropped_damaged += n;
    notice(fmt::format("{}, byte {}: record {} is dropped with {} that need it: {}", segment_name(record.place.segment),
                       record.place.offset, to_text(record.key), n - 1, reason));
  }
};

}  // namespace ds4
