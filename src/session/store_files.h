#pragma once

// What the disk store asks of the operating system, so that tests can break it: files in one directory, a lock, the
// time. Paths are whole paths. Objects may be used by several threads at once; one file is written by one thread.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"

namespace ds4 {

class StoreFile {
 public:
  virtual ~StoreFile() = default;
  virtual Result<uint64_t> size() const = 0;
  // Whole span or an error; reading beyond the end is kCorrupt.
  virtual Result<void> read_at(uint64_t offset, std::span<std::byte> out) const = 0;
  // After an error any part of the span may have been written.
  virtual Result<void> write_at(uint64_t offset, std::span<const std::byte> bytes) = 0;
  virtual Result<void> truncate(uint64_t size_bytes) = 0;
  virtual Result<void> sync() = 0;
};

struct StoreFileEntry {
  std::string name;
  uint64_t size_bytes = 0;
  int64_t modified_s = 0;  // Unix time
};

class StoreFiles {
 public:
  virtual ~StoreFiles() = default;
  // The directory and those above it, for the owner alone, where they are missing.
  virtual Result<void> create_directory(const std::string& directory) = 0;
  // Regular files only.
  virtual Result<std::vector<StoreFileEntry>> list(const std::string& directory) = 0;
  // Held until the object is destroyed or the process ends. Error: kBusy when another holds it.
  virtual Result<std::unique_ptr<StoreFile>> lock(const std::string& path) = 0;
  // Mode 0600; an error when it exists.
  virtual Result<std::unique_ptr<StoreFile>> create(const std::string& path) = 0;
  virtual Result<std::unique_ptr<StoreFile>> open_for_reading(const std::string& path) = 0;
  virtual Result<std::unique_ptr<StoreFile>> open_for_writing(const std::string& path) = 0;
  virtual Result<void> remove(const std::string& path) = 0;
};

class WallClock {
 public:
  virtual ~WallClock() = default;
  virtual int64_t unix_s() const = 0;
};

StoreFiles& system_store_files();
const WallClock& system_wall_clock();

// Null means the system's. What is given must outlive the store.
struct StoreEnvironment {
  StoreFiles* files = nullptr;
  const WallClock* clock = nullptr;
};

}  // namespace ds4
