#include "session/segment_format.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "base/bytes.h"

namespace ds4 {

namespace {

constexpr uint64_t kSegmentMagic = 0x474553564B345344;  // "DS4KVSEG"
constexpr uint32_t kVersion = 1;
constexpr uint32_t kRecordMagic = 0x52564B34;           // "4KVR"
constexpr uint64_t kTrailerMagic = 0x444E45564B345344;  // "DS4KVEND"
constexpr std::string_view kNamePrefix = "kv-";
constexpr std::string_view kNameSuffix = ".seg";
constexpr size_t kNameDigits = 8;
constexpr size_t kUsageEntryBytes = 32;
constexpr size_t kChecksumBytes = sizeof(uint64_t);
constexpr size_t kTokenBytes = sizeof(int32_t);

void write_hash(ByteWriter& writer, const Hash128& hash) {
  writer.write(hash.low);
  writer.write(hash.high);
}

Result<Hash128> read_hash(ByteReader& reader, std::string_view field) {
  const auto low = TRY(reader.read<uint64_t>(field));
  const auto high = TRY(reader.read<uint64_t>(field));
  return Hash128{low, high};
}

// The fields, zeros, and in the last 8 bytes the checksum of all before.
template <size_t kBytes>
std::array<std::byte, kBytes> sealed_bytes(const ByteWriter& fields, uint64_t seed) {
  std::array<std::byte, kBytes> bytes{};
  CHECK(fields.size() <= kBytes - kChecksumBytes, "{} bytes of fields", fields.size());
  std::ranges::copy(fields.bytes(), bytes.begin());
  const uint64_t checksum = checksum_of(std::span(bytes).first(kBytes - kChecksumBytes), seed);
  std::memcpy(bytes.data() + kBytes - kChecksumBytes, &checksum, kChecksumBytes);
  return bytes;
}

template <size_t kBytes>
bool is_sealed(std::span<const std::byte, kBytes> bytes, uint64_t seed) {
  uint64_t checksum;
  std::memcpy(&checksum, bytes.data() + kBytes - kChecksumBytes, kChecksumBytes);
  return checksum == checksum_of(bytes.template first<kBytes - kChecksumBytes>(), seed);
}

Error corrupt(std::string_view what) { return make_error(ErrorCode::kCorrupt, "{}", what); }

bool lengths_fit_kind(const RecordHeader& header) {
  if (header.meta_bytes > kMaxMetaBytes || header.payload_bytes > kMaxPayloadBytes || header.n_tokens < 0) return false;
  const bool whole_tokens = header.meta_bytes % kTokenBytes == 0;
  const auto n_meta_tokens = static_cast<int64_t>(header.meta_bytes / kTokenBytes);
  switch (header.kind) {
    case RecordKind::kPage: return whole_tokens && n_meta_tokens == header.n_tokens;
    case RecordKind::kCheckpoint: return whole_tokens && n_meta_tokens <= header.n_tokens;
    case RecordKind::kBlob: return true;
    case RecordKind::kUsage: return header.meta_bytes == 0 && header.payload_bytes % kUsageEntryBytes == 0;
    case RecordKind::kIndex: return header.meta_bytes == 0;
  }
  return false;
}

}  // namespace

uint64_t index_entry_bytes(RecordKind kind, uint64_t meta_bytes) {
  return sizeof(uint64_t) + kRecordHeaderBytes + (kind == RecordKind::kCheckpoint ? meta_bytes : 0);
}

SegmentHeaderBytes encode_segment_header(const SegmentHeader& header) {
  ByteWriter writer;
  writer.write(kSegmentMagic);
  writer.write(kVersion);
  writer.write(header.number);
  write_hash(writer, header.identity);
  writer.write(header.page_bytes);
  writer.write(header.created_s);
  return sealed_bytes<kSegmentHeaderBytes>(writer, 0);
}

Result<SegmentHeader> decode_segment_header(std::span<const std::byte, kSegmentHeaderBytes> bytes) {
  ByteReader reader(bytes, "segment header");
  if (TRY(reader.read<uint64_t>("magic")) != kSegmentMagic) return corrupt("not a segment file");
  const auto version = TRY(reader.read<uint32_t>("version"));
  if (version != kVersion) return make_error(ErrorCode::kUnsupported, "version {} of the format", version);
  if (!is_sealed(bytes, 0)) return corrupt("the checksum of the segment header is wrong");
  SegmentHeader header;
  header.number = TRY(reader.read<uint32_t>("number"));
  header.identity = TRY(read_hash(reader, "identity"));
  header.page_bytes = TRY(reader.read<uint64_t>("page bytes"));
  header.created_s = TRY(reader.read<int64_t>("created"));
  return header;
}

uint64_t segment_seed(std::span<const std::byte, kSegmentHeaderBytes> bytes) { return checksum_of(bytes); }

RecordHeaderBytes encode_record_header(const RecordHeader& header, uint64_t seed, uint64_t offset) {
  ByteWriter writer;
  writer.write(kRecordMagic);
  writer.write(static_cast<uint8_t>(header.kind));
  writer.write(header.reason);
  writer.write(uint16_t{0});
  writer.write(header.meta_bytes);
  writer.write(header.n_tokens);
  writer.write(header.payload_bytes);
  write_hash(writer, header.key);
  write_hash(writer, header.parent);
  write_hash(writer, header.rendered_key);
  writer.write(header.meta_checksum);
  writer.write(header.payload_checksum);
  writer.write(header.used_s);
  writer.write(header.hits);
  return sealed_bytes<kRecordHeaderBytes>(writer, seed + offset);
}

Result<RecordHeader> decode_record_header(std::span<const std::byte, kRecordHeaderBytes> bytes, uint64_t seed,
                                          uint64_t offset) {
  ByteReader reader(bytes, "record header");
  if (TRY(reader.read<uint32_t>("magic")) != kRecordMagic) return corrupt("no record begins here");
  if (!is_sealed(bytes, seed + offset)) return corrupt("the checksum of the record's header is wrong");
  RecordHeader header;
  header.kind = static_cast<RecordKind>(TRY(reader.read<uint8_t>("kind")));
  header.reason = TRY(reader.read<uint8_t>("reason"));
  TRY(reader.skip(sizeof(uint16_t), "zero"));
  header.meta_bytes = TRY(reader.read<uint32_t>("meta bytes"));
  header.n_tokens = TRY(reader.read<int32_t>("tokens"));
  header.payload_bytes = TRY(reader.read<uint64_t>("payload bytes"));
  header.key = TRY(read_hash(reader, "key"));
  header.parent = TRY(read_hash(reader, "parent"));
  header.rendered_key = TRY(read_hash(reader, "rendered key"));
  header.meta_checksum = TRY(reader.read<uint64_t>("meta checksum"));
  header.payload_checksum = TRY(reader.read<uint64_t>("payload checksum"));
  header.used_s = TRY(reader.read<int64_t>("used"));
  header.hits = TRY(reader.read<double>("hits"));
  if (!lengths_fit_kind(header)) return corrupt("the lengths of the record contradict its kind");
  return header;
}

bool has_record_magic(std::span<const std::byte> bytes) {
  uint32_t magic;
  if (bytes.size() < sizeof(magic)) return false;
  std::memcpy(&magic, bytes.data(), sizeof(magic));
  return magic == kRecordMagic;
}

TrailerBytes encode_trailer(uint64_t index_offset, uint64_t seed, uint64_t offset) {
  ByteWriter writer;
  writer.write(kTrailerMagic);
  writer.write(index_offset);
  return sealed_bytes<kTrailerBytes>(writer, seed + offset);
}

Result<uint64_t> decode_trailer(std::span<const std::byte, kTrailerBytes> bytes, uint64_t seed, uint64_t offset) {
  ByteReader reader(bytes, "trailer");
  if (TRY(reader.read<uint64_t>("magic")) != kTrailerMagic) return corrupt("no trailer");
  if (!is_sealed(bytes, seed + offset)) return corrupt("the checksum of the trailer is wrong");
  return TRY(reader.read<uint64_t>("index offset"));
}

void append_index_entry(const IndexEntry& entry, uint64_t seed, std::vector<std::byte>& index) {
  const auto append = [&index](std::span<const std::byte> bytes) {
    index.insert(index.end(), bytes.begin(), bytes.end());
  };
  append(std::as_bytes(std::span(&entry.offset, 1)));
  append(encode_record_header(entry.header, seed, entry.offset));
  if (entry.header.kind == RecordKind::kCheckpoint) append(std::as_bytes(std::span(entry.tail_tokens)));
}

Result<std::vector<IndexEntry>> decode_index(std::span<const std::byte> payload, uint64_t seed,
                                             std::string_view subject) {
  ByteReader reader(payload, subject);
  std::vector<IndexEntry> entries;
  while (reader.remaining() > 0) {
    IndexEntry entry;
    entry.offset = TRY(reader.read<uint64_t>("offset"));
    const auto bytes = TRY(reader.read_span(kRecordHeaderBytes, "record header"));
    entry.header = TRY(decode_record_header(bytes.first<kRecordHeaderBytes>(), seed, entry.offset));
    if (entry.header.kind == RecordKind::kCheckpoint) {
      entry.tail_tokens = decode_tokens(TRY(reader.read_span(entry.header.meta_bytes, "tail tokens")));
    }
    entries.push_back(std::move(entry));
  }
  return entries;
}

std::vector<std::byte> encode_usage(std::span<const UsageEntry> entries) {
  ByteWriter writer;
  for (const UsageEntry& entry : entries) {
    write_hash(writer, entry.key);
    writer.write(entry.used_s);
    writer.write(entry.hits);
  }
  return writer.take();
}

Result<std::vector<UsageEntry>> decode_usage(std::span<const std::byte> payload) {
  ByteReader reader(payload, "usage record");
  std::vector<UsageEntry> entries;
  while (reader.remaining() > 0) {
    UsageEntry entry;
    entry.key = TRY(read_hash(reader, "key"));
    entry.used_s = TRY(reader.read<int64_t>("used"));
    entry.hits = TRY(reader.read<double>("hits"));
    entries.push_back(entry);
  }
  return entries;
}

std::vector<int32_t> decode_tokens(std::span<const std::byte> bytes) {
  CHECK(bytes.size() % kTokenBytes == 0, "{} bytes of tokens", bytes.size());
  std::vector<int32_t> tokens(bytes.size() / kTokenBytes);
  if (!tokens.empty()) std::memcpy(tokens.data(), bytes.data(), bytes.size());
  return tokens;
}

StoredCheckpoint checkpoint_of(const RecordHeader& header, std::vector<int32_t> tail_tokens) {
  return {.key = header.key,
          .parent = header.parent,
          .n_tokens = header.n_tokens,
          .tail_tokens = std::move(tail_tokens),
          .rendered_key = header.rendered_key,
          .reason = header.reason,
          .payload_bytes = header.payload_bytes};
}

std::string segment_name(uint32_t number) {
  return fmt::format("{}{:0{}}{}", kNamePrefix, number, kNameDigits, kNameSuffix);
}

uint32_t segment_number(std::string_view name) {
  if (!name.starts_with(kNamePrefix) || !name.ends_with(kNameSuffix)) return 0;
  name = name.substr(kNamePrefix.size(), name.size() - kNamePrefix.size() - kNameSuffix.size());
  uint32_t number = 0;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (error != std::errc{} || end != name.data() + name.size()) return 0;
  return number;
}

}  // namespace ds4
