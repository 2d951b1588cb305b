#pragma once

// What the disk store's tests put into it: content that follows from its key alone, so that whatever is read back can
// be checked without knowing how it got there.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "session/disk_store.h"
#include "session/memory_files.h"

namespace ds4::test {

inline constexpr int kTokensPerPage = 8;
inline constexpr uint64_t kPageBytes = 1000;

std::vector<std::byte> payload_of(const Hash128& key, uint64_t n_bytes);
// A checkpoint's size follows from its key too.
uint64_t checkpoint_bytes_of(const Hash128& key);
std::string blob_of(const std::string& key);

// A conversation: tokens by number, and its first `n_shared` tokens are those of every other one.
class Conversation {
 public:
  explicit Conversation(int number, int n_shared = 0) : number_(number), n_shared_(n_shared) {}
  StoredPage page(int index) const;
  // After n_tokens.
  StoredCheckpoint checkpoint(int n_tokens) const;

 private:
  std::vector<int32_t> tokens(int first, int last) const;

  int number_;
  int n_shared_;
};

// Puts everything up to n_tokens that is not there yet, a checkpoint at the end; false when the queue was full.
bool put_conversation(DiskStore& store, const Conversation& conversation, int n_tokens);
bool put_page(DiskStore& store, const StoredPage& page);
bool put_checkpoint(DiskStore& store, const StoredCheckpoint& checkpoint);

// Restores a checkpoint with all its pages and compares every byte. Empty when all is well, "missing" when the store
// refuses a part of it, else what is wrong.
std::string check_restore(DiskStore& store, const StoredCheckpoint& checkpoint);
// The same for everything that the store lists; the number that could be restored is added to `n_restored`. Returns
// what is wrong.
std::string check_everything(DiskStore& store, int* n_restored = nullptr);

// A store over files in memory.
class MemoryStore {
 public:
  MemoryStore() {
    options.directory = "dir";
    options.budget_bytes = uint64_t{1} << 20;
    options.identity = {1, 2};
    options.page_bytes = kPageBytes;
    options.retry_ms = 1;
  }
  Result<std::unique_ptr<DiskStore>> try_open() { return DiskStore::open(options, {&files, &clock}); }
  std::unique_ptr<DiskStore> open() { return try_open().take_value(); }

  DiskStoreOptions options;
  MemoryFiles files;
  FakeWallClock clock;
};

}  // namespace ds4::test
