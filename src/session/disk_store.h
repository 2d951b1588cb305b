#pragma once

// KV pages and checkpoints on disk, under content addresses: the same key means the same content, so nothing is written
// twice and a checkpoint is a small record that names its last full page. Append-only segments in one directory that
// one process at a time may use; a write-behind thread; never more bytes on disk than the budget. Knows bytes and keys,
// no model. Always true: a page or checkpoint that the store says it has has its whole chain of pages there too.
// Damaged records are never served: they are dropped with all that depends on them.
//
// One thread (the engine's) calls everything; only read_page, read_checkpoint and find_blob may be called by others
// too. No call but flush(), the reads, find_blob() and the destructor waits for the disk. docs/kv_cache.md explains
// what is kept and what is evicted, docs/file_formats.md the bytes.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "session/hash.h"
#include "session/store_files.h"

namespace ds4 {

struct StoredPage {
  Hash128 key;
  Hash128 parent;               // the page before it, {} for the first
  std::vector<int32_t> tokens;  // the payload has DiskStoreOptions::page_bytes
};

struct StoredCheckpoint {
  Hash128 key;     // of all tokens
  Hash128 parent;  // the last full page, {} without one; the others follow from page to parent
  int32_t n_tokens = 0;
  std::vector<int32_t> tail_tokens;  // those after the last full page
  Hash128 rendered_key;              // the caller's, as is `reason`
  uint8_t reason = 0;
  uint64_t payload_bytes = 0;  // set by the store; put_checkpoint() takes it from its span
};

struct DiskStoreOptions {
  std::string directory;  // created when missing
  uint64_t budget_bytes = 0;
  Hash128 identity;  // of everything that decides what pages mean; other identities are never read
  uint64_t page_bytes = 0;
  uint64_t write_bytes_per_s = 0;              // 0: as fast as the disk goes
  uint64_t queue_bytes = uint64_t{256} << 20;  // waiting for the disk; one record may always wait
  uint64_t segment_bytes = 0;                  // 0: a 32nd of the budget, at most 256 MiB
  int64_t retry_ms = 30'000;                   // after a write that failed, doubled each time up to 64 times
  int64_t close_ms = 10'000;                   // what the destructor may take to write what is queued
};

struct DiskStoreStatistics {
  uint64_t disk_bytes = 0;  // all segments, those of other identities too
  uint64_t live_bytes = 0;  // records that can be read
  uint64_t queued_bytes = 0;
  int64_t n_segments = 0;
  int64_t n_pages = 0;  // on disk
  int64_t n_checkpoints = 0;
  int64_t n_blobs = 0;
  int64_t n_queued = 0;
  // Since the store was opened.
  uint64_t written_bytes = 0;             // everything, copies of compaction too
  uint64_t compacted_bytes = 0;           // those copies
  uint64_t written_checkpoint_bytes = 0;  // part of written_bytes
  int64_t n_written_checkpoints = 0;
  int64_t n_evicted_checkpoints = 0;
  int64_t n_evicted_pages = 0;
  int64_t n_dropped_damaged = 0;  // records on disk that could not be used, dependent ones included
  int64_t n_dropped_queued = 0;   // put and never written: no room, or a page that they need is gone
  int64_t n_failed_writes = 0;
  bool paused = false;  // the last write failed and the next try is due later
};

class DiskStore {
 public:
  // Creates or opens the directory and reads what is there (headers only). Errors: kBusy when another store has it
  // open, kIo or kNotFound when it cannot be used, kInvalidArgument for options that make no sense.
  static Result<std::unique_ptr<DiskStore>> open(const DiskStoreOptions& options,
                                                 const StoreEnvironment& environment = {});
  // Writes what is queued, for close_ms at most.
  ~DiskStore();
  DiskStore(const DiskStore&) = delete;
  DiskStore& operator=(const DiskStore&) = delete;

  // On disk or queued, with all pages before it.
  bool has_page(const Hash128& key) const;
  bool has_checkpoint(const Hash128& key) const;
  // The page and those before it, up to the first; what is not there ends it.
  std::vector<Hash128> page_chain(const Hash128& key) const;

  // Copies and queues; records are written in the order of these calls. False: the queue is full, try again later. True
  // without effect: it is there already, or its parent is not (evicted meanwhile), which only costs the record.
  bool put_page(const StoredPage& page, std::span<const std::byte> payload);
  bool put_checkpoint(const StoredCheckpoint& checkpoint, std::span<const std::byte> payload);
  // Small texts under keys of the caller's; the last put of a key counts. The oldest go when all of them together
  // exceed a 16th of the budget or 64 MiB. Precondition: key and value of at most kMaxBlobBytes together.
  bool put_blob(std::string_view key, std::string_view value);
  std::optional<std::string> find_blob(std::string_view key);
  static constexpr uint64_t kMaxBlobBytes = uint64_t{1} << 20;

  // All checkpoints that can be restored, on disk or queued, in no particular order.
  std::vector<StoredCheckpoint> checkpoints() const;

  // Fills `payload`, whose size must be that of the record, and verifies every byte. Errors: kNotFound; kCorrupt or kIo
  // when the record is damaged or cannot be read, and then it is dropped with what depends on it.
  Result<StoredPage> read_page(const Hash128& key, std::span<std::byte> payload);
  Result<StoredCheckpoint> read_checkpoint(const Hash128& key, std::span<std::byte> payload);

  // A checkpoint was of use: it is evicted later than it would be.
  void touch(const Hash128& key);

  // Tries to write everything that is queued at once, without regard to the rate or a pause, and syncs it.
  // Error: why something is still queued.
  Result<void> flush();

  DiskStoreStatistics statistics() const;
  // What went wrong since the last call, once each, for the log; at most 100 are kept.
  std::vector<std::string> take_notices();

 private:
  struct Parts;
  explicit DiskStore(std::unique_ptr<Parts> parts);
  std::unique_ptr<Parts> parts_;
};

}  // namespace ds4
