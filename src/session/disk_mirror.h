#pragma once

// Checkpoints on their way to the disk store and back: full pages go as soon as they exist, the small rest of a
// checkpoint when it is worth a record of its own (disk_store.h writes behind). What comes back is made of pages in
// memory where there are any, and its tokens are for the caller to compare. Engine thread only.

#include <functional>
#include <memory>
#include <vector>

#include "session/disk_store.h"
#include "session/prefix_index.h"

namespace ds4 {

class DiskMirror {
 public:
  // The cache must outlive the mirror.
  DiskMirror(KvCache& cache, std::unique_ptr<DiskStore> store) : cache_(cache), store_(std::move(store)) {}

  std::vector<CheckpointInfo> stored() const;

  // A page with those before it that are missing. False: the queue is full, try again later.
  bool store_pages(const TokenPage* page);
  // With the pages it needs. False: the queue is full, or what was put is gone already; try again later.
  bool store(const Checkpoint& checkpoint);
  // Pages of it that are neither on disk nor queued.
  size_t n_missing_pages(const Checkpoint& checkpoint) const;

  struct MemorySource {
    std::function<std::shared_ptr<const TokenPage>(const Hash128&)> find_page;  // null: not in memory
    std::function<bool(int32_t)> make_room;                                     // so many free pages in the cache
  };
  // Error: kOutOfMemory without room; else the record is damaged or gone, and forgotten.
  Result<std::shared_ptr<const Checkpoint>> load(const CheckpointInfo& info, const MemorySource& memory);

  void touch(const Hash128& key) { store_->touch(key); }
  DiskStore& store() { return *store_; }

 private:
  struct LoadedPage {
    StoredPage page;
    PageRef kv;
  };
  Result<std::vector<LoadedPage>> read_pages(std::span<const Hash128> keys, const MemorySource& memory);
  Result<void> read_into(std::span<const Hash128> keys, std::span<LoadedPage> pages);

  KvCache& cache_;
  std::unique_ptr<DiskStore> store_;
};

}  // namespace ds4
