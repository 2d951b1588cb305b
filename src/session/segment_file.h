#pragma once

// One segment file: finding its records when a store opens, appending, sealing, and reading single records back with
// every checksum verified. A record's payload is written before its header, so a process that is killed at any byte
// leaves no header without its payload. SegmentWriter belongs to the writer thread; the functions may run anywhere.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "session/segment_format.h"
#include "session/store_files.h"

namespace ds4 {

struct SegmentScan {
  SegmentHeader header;
  uint64_t seed = 0;
  bool sealed = false;
  uint64_t size_bytes = 0;
  uint64_t end_bytes = 0;           // behind the last record (of a sealed segment: behind everything)
  std::vector<IndexEntry> records;  // in the order of their places, each within the file
  std::vector<std::string> problems;
};

// Reads the index, or walks from header to header; payloads are not read. What is damaged is left out and named in
// `problems`. Error: the segment header is damaged (kCorrupt), of another version (kUnsupported) or cannot be read.
Result<SegmentScan> scan_segment(const StoreFile& file);
// The same header and nothing else: whose segment it is.
struct SegmentOwner {
  SegmentHeader header;
  uint64_t seed = 0;
};
Result<SegmentOwner> read_segment_owner(const StoreFile& file);

struct RecordPlace {
  uint32_t segment = 0;
  uint32_t meta_bytes = 0;
  uint64_t offset = 0;
  uint64_t payload_bytes = 0;

  uint64_t n_bytes() const { return record_bytes(meta_bytes, payload_bytes); }
  bool operator==(const RecordPlace&) const = default;
};

struct RecordHead {
  RecordHeader header;
  std::vector<std::byte> meta;
};
// Header and meta, verified. Errors: kCorrupt, kIo.
Result<RecordHead> read_record_head(const StoreFile& file, uint64_t seed, const RecordPlace& place);
// Fills `payload` (of the record's size) and verifies it while it is in the cache.
Result<void> read_record_payload(const StoreFile& file, const RecordPlace& place, const RecordHeader& header,
                                 std::span<std::byte> payload);

class SegmentWriter {
 public:
  // Writes the segment header into a file that is to be empty.
  static Result<SegmentWriter> start(std::unique_ptr<StoreFile> file, const SegmentHeader& header);
  // Goes on behind the records of an unsealed segment, after what a crash may have left there is cut off.
  static Result<SegmentWriter> resume(std::unique_ptr<StoreFile> file, const SegmentScan& scan);

  uint32_t number() const { return number_; }
  uint64_t seed() const { return seed_; }
  uint64_t end_bytes() const { return end_bytes_; }
  bool empty() const { return end_bytes_ == kSegmentHeaderBytes; }
  // What seal() will make of the file when no record follows.
  uint64_t sealed_bytes() const { return sealed_bytes(end_bytes_, index_.size()); }
  // The same after one more record.
  uint64_t sealed_bytes_with(const RecordHeader& header) const;
  // Of a segment of this one record.
  static uint64_t sealed_bytes_alone(const RecordHeader& header);

  // Fills in the checksum of `header.meta_checksum`; that of the payload is the caller's. Returns the record's offset.
  // After an error the file ends where it ended before, or damaged() is set and nothing may be appended any more.
  Result<uint64_t> append(RecordHeader header, std::span<const std::byte> meta, std::span<const std::byte> payload);
  // Writes index and trailer and syncs. After an error the segment is readable, but must be walked.
  Result<void> seal();
  Result<void> sync() { return file_->sync(); }
  bool damaged() const { return damaged_; }
  // How long the file may be, whatever failed.
  uint64_t size_limit_bytes() const { return std::max(end_bytes_, torn_bytes_); }

 private:
  SegmentWriter(std::unique_ptr<StoreFile> file, uint32_t number, uint64_t seed)
      : file_(std::move(file)), number_(number), seed_(seed) {}
  static uint64_t sealed_bytes(uint64_t end_bytes, uint64_t index_bytes) {
    return end_bytes + record_bytes(0, index_bytes) + kTrailerBytes;
  }
  Result<void> write_record(const RecordHeader& header, std::span<const std::byte> meta,
                            std::span<const std::byte> payload);
  // Cuts off what a failed write of up to `limit_bytes` left behind.
  void cut_off(uint64_t limit_bytes);

  std::unique_ptr<StoreFile> file_;
  uint32_t number_;
  uint64_t seed_;
  uint64_t end_bytes_ = kSegmentHeaderBytes;
  uint64_t torn_bytes_ = 0;
  int32_t n_records_ = 0;
  bool damaged_ = false;
  std::vector<std::byte> index_;
};

}  // namespace ds4
