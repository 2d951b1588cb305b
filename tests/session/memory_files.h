#pragma once

// Files in memory for the disk store's tests: fast, and they fail on demand. Also the most bytes that were ever there
// at once. Thread safe.

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "session/store_files.h"

namespace ds4::test {

class FakeWallClock final : public WallClock {
 public:
  int64_t unix_s() const override {
    const std::lock_guard lock(mutex_);
    return now_s_;
  }
  void set(int64_t now_s) {
    const std::lock_guard lock(mutex_);
    now_s_ = now_s;
  }
  void advance(int64_t seconds) { set(unix_s() + seconds); }

 private:
  mutable std::mutex mutex_;
  int64_t now_s_ = 1'000'000;
};

enum class FileCall { kOpen, kCreate, kRead, kWrite, kTruncate, kSync, kRemove };

class MemoryFiles final : public StoreFiles {
 public:
  using Bytes = std::vector<std::byte>;

  Result<void> create_directory(const std::string& directory) override;
  Result<std::vector<StoreFileEntry>> list(const std::string& directory) override;
  Result<std::unique_ptr<StoreFile>> lock(const std::string& path) override;
  Result<std::unique_ptr<StoreFile>> create(const std::string& path) override;
  Result<std::unique_ptr<StoreFile>> open_for_reading(const std::string& path) override;
  Result<std::unique_ptr<StoreFile>> open_for_writing(const std::string& path) override;
  Result<void> remove(const std::string& path) override;

  // --- What tests do to them.
  // Calls number `first` to `last` of this kind from now on, counted from 1, fail; writes then get half of their bytes
  // into the file.
  void fail(FileCall call, int64_t first, int64_t last);
  void repair();
  int64_t n_calls(FileCall call) const;
  // No more than so many bytes fit in all.
  void set_capacity(uint64_t bytes);
  uint64_t total_bytes() const;
  uint64_t peak_bytes() const;
  std::vector<std::string> paths() const;
  // Of a file that is there.
  Bytes contents(const std::string& path) const;
  void set_contents(const std::string& path, Bytes bytes);
  void set_modified(const std::string& path, int64_t modified_s);
  std::map<std::string, Bytes> snapshot() const;
  void restore(const std::map<std::string, Bytes>& snapshot);

 private:
  friend class MemoryFile;
  struct Data {
    Bytes bytes;
    int64_t modified_s = 0;
  };
  struct Fault {
    int64_t calls = 0;
    int64_t first = 0;
    int64_t last = 0;
  };

  Result<void> check(FileCall call, const std::string& path);  // with the mutex held
  uint64_t count_bytes() const;
  void note_peak();

  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Data>> files_;
  std::set<std::string> locked_;
  std::map<FileCall, Fault> faults_;
  uint64_t capacity_ = UINT64_MAX;
  uint64_t peak_ = 0;
};

}  // namespace ds4::test
