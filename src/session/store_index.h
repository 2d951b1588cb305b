#pragma once

// What is on disk, in memory: pages, checkpoints, blobs and segments, who needs whom, and how many bytes of each
// segment are still of use. Always true between calls: every page's and every checkpoint's parent is here. Does no I/O;
// whoever shares it between threads locks.

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <unordered_map>
#include <utility>
#include <vector>

#include "session/segment_file.h"

namespace ds4 {

class StoreIndex {
 public:
  struct Page {
    Hash128 key;
    Page* parent = nullptr;  // nodes of the map do not move
    RecordPlace place;
    int32_t n_own_tokens = 0;
    int64_t n_tokens = 0;    // with those of all pages before it
    int32_t n_children = 0;  // pages and checkpoints whose parent it is
    int64_t written_s = 0;
    enum class Mark { kUnknown, kVisiting, kSound, kCondemned } mark = Mark::kUnknown;  // for sweep()
    // For eviction_order(): tokens of the longest checkpoint here, and here or at any page before; -1 not known yet.
    mutable int64_t longest_here = 0;
    mutable int64_t longest_so_far = -1;
  };
  struct Checkpoint {
    StoredCheckpoint stored;
    Page* parent = nullptr;
    RecordPlace place;
    int64_t used_s = 0;
    double hits = 0;             // decayed until used_s
    uint32_t usage_segment = 0;  // where used_s and hits were last written
    bool usage_changed = false;  // since then
    bool condemned = false;      // for sweep()
  };
  struct Blob {
    RecordPlace place;
    uint64_t value_checksum = 0;
    uint64_t sequence = 0;  // larger is younger
  };
  struct Record {  // of a segment, of use or not
    RecordKind kind = RecordKind::kPage;
    Hash128 key;
    RecordPlace place;
  };
  struct Segment {
    Hash128 identity;
    bool ours = false;    // of this identity and version
    bool moving = false;  // its file is gone and its records are on their way to another one
    bool stuck = false;   // its file cannot be removed
    uint64_t seed = 0;
    uint64_t file_bytes = 0;  // of one being written: what it will have when sealed
    uint64_t live_bytes = 0;  // records that count, with their entries in the index
    int64_t modified_s = 0;
    std::vector<Record> records;
  };
  struct Removed {
    int64_t n_pages = 0;
    int64_t n_checkpoints = 0;
    int64_t n_blobs = 0;
  };

  // --- Segments. Their numbers rise with time.
  Segment& add_segment(uint32_t number, Segment segment);
  // What still lies in it is removed with all that depends on it.
  Removed remove_segment(uint32_t number);
  Segment& segment(uint32_t number) { return segments_.at(number); }
  const Segment* find_segment(uint32_t number) const;
  const std::map<uint32_t, Segment>& segments() const { return segments_; }
  void set_file_bytes(uint32_t number, uint64_t file_bytes);
  uint64_t disk_bytes() const { return disk_bytes_; }
  uint64_t live_bytes() const { return live_bytes_; }

  // --- Start: records in any order, then settle() once. Of two with one key the later place counts.
  void load(const IndexEntry& entry, uint32_t segment_number);
  // Usage records, in the order of their places, after settle().
  void load_usage(const UsageEntry& entry, uint32_t segment_number);
  // Removes what has no complete chain.
  Removed settle();

  // --- Records. Preconditions of add: absent (but for a blob, which is replaced); the parent is there.
  const Page* find_page(const Hash128& key) const;
  const Checkpoint* find_checkpoint(const Hash128& key) const;
  const Blob* find_blob(const Hash128& key) const;
  std::optional<RecordPlace> find_place(RecordKind kind, const Hash128& key) const;
  bool has_parent(const RecordHeader& header) const { return header.parent == Hash128{} || find_page(header.parent); }
  // The record lies at `place`; `tail_tokens` of a checkpoint.
  void add(const RecordHeader& header, const RecordPlace& place, std::vector<int32_t> tail_tokens);
  // Whether this place is the one that counts.
  bool is_live(const Record& record) const;
  // The record was copied. Precondition: is_live(record).
  void move(const Record& record, const RecordPlace& place);
  // A damaged record and all that depends on it; nothing when the place does not count any more.
  Removed drop(const Record& record);

  // --- Eviction.
  // A page that nothing needs goes with its last child, unless it is pinned: something that is still to be written
  // needs it.
  void pin(const Hash128& page) { ++pins_[page]; }
  void unpin(const Hash128& page);
  bool is_pinned(const Hash128& page) const { return pins_.contains(page); }
  Removed evict_checkpoint(const Hash128& key);
  // Precondition: no children, not pinned.
  Removed evict_page(const Hash128& key);
  // The oldest of them until they take at most this much.
  Removed limit_blobs(uint64_t max_bytes);

  const std::unordered_map<Hash128, Page>& pages() const { return pages_; }
  const std::unordered_map<Hash128, Checkpoint>& checkpoints() const { return checkpoints_; }
  int64_t n_blobs() const { return static_cast<int64_t>(blobs_.size()); }

  // --- Usage of checkpoints.
  void touch(const Hash128& checkpoint, int64_t now_s);
  // Those that were not written since they changed, and that now are, in this segment.
  std::vector<UsageEntry> changed_usage() const;
  void usage_written(std::span<const UsageEntry> entries, uint32_t segment_number);

 private:
  void count_live(RecordKind kind, const RecordPlace& place, bool live);
  void release(Page* page, Removed& removed);
  void erase_checkpoint(const Hash128& key, Removed& removed);
  void erase_blob(const Hash128& key, Removed& removed);
  void load_page(const IndexEntry& entry, const RecordPlace& place);
  void load_checkpoint(const IndexEntry& entry, const RecordPlace& place);
  void add_blob(const RecordHeader& header, const RecordPlace& place);
  // Removes condemned pages and checkpoints with all that depends on them, and counts children and tokens anew.
  Removed sweep();
  void mark_chain(Page& first);

  std::map<uint32_t, Segment> segments_;
  std::unordered_map<Hash128, Page> pages_;
  std::unordered_map<Hash128, Checkpoint> checkpoints_;
  std::unordered_map<Hash128, Blob> blobs_;
  std::map<uint64_t, Hash128> blob_order_;  // sequence to key
  // Until settle(): parents of what was loaded, and blobs.
  std::unordered_map<Hash128, Hash128> loaded_parents_;
  std::vector<std::pair<RecordHeader, RecordPlace>> loaded_blobs_;
  std::unordered_map<Hash128, int32_t> pins_;
  uint64_t disk_bytes_ = 0;
  uint64_t live_bytes_ = 0;
  uint64_t blob_bytes_ = 0;
  uint64_t next_blob_ = 1;
};

}  // namespace ds4
