#pragma once

// The part of a disk store that outlives the process for chat/replay_map.h: tool calls as they were sampled, as blobs.
// put() on the store's one thread only, which is the engine's; find() on any.

#include "chat/replay_map.h"
#include "session/disk_store.h"

namespace ds4 {

class DiskReplayStore final : public ReplayStore {
 public:
  // The store must outlive this object.
  explicit DiskReplayStore(DiskStore& store) : store_(store) {}

  // A full queue loses the record: later it only means the canonical form.
  void put(std::string_view key, std::string_view value) override { store_.put_blob(key, value); }
  std::optional<std::string> find(std::string_view key) override { return store_.find_blob(key); }
  size_t max_record_bytes() const override { return DiskStore::kMaxBlobBytes; }

 private:
  DiskStore& store_;
};

}  // namespace ds4
