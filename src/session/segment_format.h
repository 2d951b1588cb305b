#pragma once

// The bytes of a segment file, once, for reader and writer (docs/file_formats.md has the table). A segment is a header,
// records, and when it is sealed an index record and a trailer, so that opening it reads the index alone. Everything
// but payloads is covered by checksums seeded with the segment and the place in it: bytes that were written elsewhere
// are not taken for a record. Nothing here touches a file.

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "session/disk_store.h"
#include "session/hash.h"

namespace ds4 {

enum class RecordKind : uint8_t { kPage = 1, kCheckpoint = 2, kBlob = 3, kUsage = 4, kIndex = 5 };

struct SegmentHeader {
  Hash128 identity;
  uint64_t page_bytes = 0;
  uint32_t number = 0;  // also in the file's name
  int64_t created_s = 0;
};

struct RecordHeader {
  RecordKind kind = RecordKind::kPage;
  uint8_t reason = 0;
  uint32_t meta_bytes = 0;  // page: tokens; checkpoint: tail tokens; blob: its key
  int32_t n_tokens = 0;     // page: its own; checkpoint: all; index: entries
  uint64_t payload_bytes = 0;
  Hash128 key;
  Hash128 parent;
  Hash128 rendered_key;
  uint64_t meta_checksum = 0;
  uint64_t payload_checksum = 0;
  int64_t used_s = 0;  // last use of a checkpoint, else when it was first written
  double hits = 0;     // of a checkpoint, decayed until used_s
};

struct UsageEntry {
  Hash128 key;
  int64_t used_s = 0;
  double hits = 0;
};

struct IndexEntry {
  uint64_t offset = 0;
  RecordHeader header;
  std::vector<int32_t> tail_tokens;  // of a checkpoint
};

inline constexpr size_t kSegmentHeaderBytes = 64;
inline constexpr size_t kRecordHeaderBytes = 128;
inline constexpr size_t kTrailerBytes = 32;
inline constexpr uint64_t kRecordAlignment = 64;
// Readers refuse more: no allocation follows a damaged or hostile length.
inline constexpr uint64_t kMaxMetaBytes = uint64_t{1} << 20;
inline constexpr uint64_t kMaxPayloadBytes = uint64_t{1} << 40;

constexpr uint64_t align_record(uint64_t n_bytes) {
  return (n_bytes + kRecordAlignment - 1) / kRecordAlignment * kRecordAlignment;
}
// Where the payload begins, from the record's first byte.
constexpr uint64_t payload_offset(uint64_t meta_bytes) { return align_record(kRecordHeaderBytes + meta_bytes); }
constexpr uint64_t record_bytes(uint64_t meta_bytes, uint64_t payload_bytes) {
  return payload_offset(meta_bytes) + align_record(payload_bytes);
}
inline uint64_t record_bytes(const RecordHeader& header) {
  return record_bytes(header.meta_bytes, header.payload_bytes);
}
// What a record adds to the index of its segment.
uint64_t index_entry_bytes(RecordKind kind, uint64_t meta_bytes);

using SegmentHeaderBytes = std::array<std::byte, kSegmentHeaderBytes>;
SegmentHeaderBytes encode_segment_header(const SegmentHeader& header);
// Errors: kCorrupt; kUnsupported for another version.
Result<SegmentHeader> decode_segment_header(std::span<const std::byte, kSegmentHeaderBytes> bytes);
// Of all checksums in the segment.
uint64_t segment_seed(std::span<const std::byte, kSegmentHeaderBytes> bytes);

using RecordHeaderBytes = std::array<std::byte, kRecordHeaderBytes>;
RecordHeaderBytes encode_record_header(const RecordHeader& header, uint64_t seed, uint64_t offset);
// Error kCorrupt: not a record of this segment at this offset, or its lengths contradict its kind.
Result<RecordHeader> decode_record_header(std::span<const std::byte, kRecordHeaderBytes> bytes, uint64_t seed,
                                          uint64_t offset);
// Whether a record may begin with these bytes; cheap.
bool has_record_magic(std::span<const std::byte> bytes);

using TrailerBytes = std::array<std::byte, kTrailerBytes>;
TrailerBytes encode_trailer(uint64_t index_offset, uint64_t seed, uint64_t offset);
// The offset of the index record. Error kCorrupt: no trailer of this segment at this offset.
Result<uint64_t> decode_trailer(std::span<const std::byte, kTrailerBytes> bytes, uint64_t seed, uint64_t offset);

void append_index_entry(const IndexEntry& entry, uint64_t seed, std::vector<std::byte>& index);
Result<std::vector<IndexEntry>> decode_index(std::span<const std::byte> payload, uint64_t seed,
                                             std::string_view subject);

std::vector<std::byte> encode_usage(std::span<const UsageEntry> entries);
Result<std::vector<UsageEntry>> decode_usage(std::span<const std::byte> payload);

// Precondition: a multiple of 4 bytes.
std::vector<int32_t> decode_tokens(std::span<const std::byte> bytes);

StoredCheckpoint checkpoint_of(const RecordHeader& header, std::vector<int32_t> tail_tokens);

std::string segment_name(uint32_t number);
// 0: not the name of a segment.
uint32_t segment_number(std::string_view name);

}  // namespace ds4
