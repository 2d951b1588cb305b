#pragma once

// Reads large parts of a file into memory of the caller, by any number of threads at once. Past the page cache
// (O_DIRECT) where that is asked for and the file system does it: a model that goes to a device is read once, and
// copying it through the cache costs memory and half the speed. The first refusal turns that off for good. Every error
// names the file, the place, what was expected there and what was found.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/error.h"

namespace ds4 {

class BulkReader {
 public:
  // Of buffers, and of places and sizes of direct reads; a multiple of every disk's block.
  static constexpr uint64_t kAlignmentBytes = 4096;
  // What a buffer for any part of so many bytes needs.
  static constexpr uint64_t buffer_bytes(uint64_t part_bytes) {
    return (part_bytes + kAlignmentBytes - 1) / kAlignmentBytes * kAlignmentBytes + kAlignmentBytes;
  }

  static Result<std::unique_ptr<BulkReader>> open(const std::string& path, bool direct);
  ~BulkReader();
  BulkReader(const BulkReader&) = delete;
  BulkReader& operator=(const BulkReader&) = delete;

  // The bytes [offset, offset + part_bytes) of the file, somewhere in `buffer`, which is aligned and has
  // buffer_bytes(part_bytes). Errors: kIo, and kCorrupt where the file ends before the part does.
  Result<std::span<const std::byte>> read(uint64_t offset, uint64_t part_bytes, std::span<std::byte> buffer) const;

  bool is_direct() const { return direct_ >= 0 && !refused_; }

 private:
  BulkReader(std::string path, int buffered, int direct)
      : path_(std::move(path)), buffered_(buffered), direct_(direct) {}
  Result<uint64_t> fill(int descriptor, uint64_t offset, std::span<std::byte> out, uint64_t least) const;

  std::string path_;
  int buffered_;
  int direct_;  // -1: none
  mutable std::atomic<bool> refused_ = false;
};

// Whether most of a mapped file's bytes are in the page cache, by samples. False where the system does not say.
bool is_mostly_cached(std::span<const std::byte> mapping);

}  // namespace ds4
