#include "session/segment_file.h"

#include <algorithm>

namespace ds4 {

namespace {

// Read and verified in pieces that stay in the second-level cache between the two.
constexpr size_t kReadPieceBytes = size_t{256} << 10;
// The search for the next record behind damage.
constexpr size_t kSearchPieceBytes = size_t{1} << 20;

constexpr std::array<std::byte, kRecordAlignment> kZeros{};

Result<RecordHeader> read_header(const StoreFile& file, uint64_t seed, uint64_t offset) {
  RecordHeaderBytes bytes;
  TRY(file.read_at(offset, bytes));
  return decode_record_header(bytes, seed, offset);
}

bool fits(const RecordHeader& header, uint64_t offset, uint64_t size_bytes) {
  return offset <= size_bytes && record_bytes(header) <= size_bytes - offset;
}

// Adds what the index of a sealed segment lists. Error: there is none, or it is damaged.
Result<void> read_index(const StoreFile& file, SegmentScan& scan) {
  if (scan.size_bytes < kSegmentHeaderBytes + kRecordHeaderBytes + kTrailerBytes) {
    return make_error(ErrorCode::kNotFound, "not sealed");
  }
  const uint64_t trailer_offset = scan.size_bytes - kTrailerBytes;
  TrailerBytes trailer;
  TRY(file.read_at(trailer_offset, trailer));
  const uint64_t offset = TRY(decode_trailer(trailer, scan.seed, trailer_offset));
  const RecordHeader header = TRY(read_header(file, scan.seed, offset));
  if (header.kind != RecordKind::kIndex || !fits(header, offset, trailer_offset)) {
    return make_error(ErrorCode::kCorrupt, "the trailer does not name an index");
  }
  std::vector<std::byte> payload(header.payload_bytes);
  const RecordPlace place{.offset = offset, .payload_bytes = header.payload_bytes};
  TRY(read_record_payload(file, place, header, payload));
  auto entries = TRY(decode_index(payload, scan.seed, "segment index"));
  const bool sound = std::ranges::all_of(entries, [offset](const IndexEntry& entry) {
    return entry.header.kind != RecordKind::kIndex && fits(entry.header, entry.offset, offset);
  });
  if (!sound) return make_error(ErrorCode::kCorrupt, "the index lists records outside of the file");
  scan.records = std::move(entries);
  scan.sealed = true;
  scan.end_bytes = scan.size_bytes;
  return {};
}

// The header of the record at `offset` and what an index would say about it.
Result<IndexEntry> read_entry(const StoreFile& file, const SegmentScan& scan, uint64_t offset) {
  IndexEntry entry{.offset = offset, .header = TRY(read_header(file, scan.seed, offset)), .tail_tokens = {}};
  if (!fits(entry.header, offset, scan.size_bytes)) {
    return make_error(ErrorCode::kCorrupt, "the record at byte {} is cut off", offset);
  }
  if (entry.header.kind != RecordKind::kCheckpoint) return entry;
  std::vector<std::byte> meta(entry.header.meta_bytes);
  TRY(file.read_at(offset + kRecordHeaderBytes, meta));
  if (checksum_of(meta) != entry.header.meta_checksum) {
    return make_error(ErrorCode::kCorrupt, "the checksum of the tokens at byte {} is wrong", offset);
  }
  entry.tail_tokens = decode_tokens(meta);
  return entry;
}

// Where the next readable record begins, from `offset` on; the size of the file when there is none.
uint64_t find_record(const StoreFile& file, const SegmentScan& scan, uint64_t offset) {
  std::vector<std::byte> piece;
  for (uint64_t first = align_record(offset); first < scan.size_bytes; first += kSearchPieceBytes) {
    piece.resize(std::min<uint64_t>(kSearchPieceBytes, scan.size_bytes - first));
    if (!file.read_at(first, piece).ok()) continue;
    for (size_t at = 0; at < piece.size(); at += kRecordAlignment) {
      if (has_record_magic(std::span(piece).subspan(at)) && read_entry(file, scan, first + at).ok()) return first + at;
    }
  }
  return scan.size_bytes;
}

void walk(const StoreFile& file, SegmentScan& scan) {
  uint64_t offset = kSegmentHeaderBytes;
  while (offset < scan.size_bytes) {
    auto entry = read_entry(file, scan, offset);
    if (!entry.ok()) {
      const uint64_t next = find_record(file, scan, offset + 1);
      scan.problems.push_back(
          fmt::format("{} bytes from byte {} on are no records: {}", next - offset, offset, entry.error().message));
      offset = next;
      continue;
    }
    if (entry.value().header.kind == RecordKind::kIndex) break;  // sealing was interrupted behind this
    offset += record_bytes(entry.value().header);
    scan.end_bytes = offset;
    scan.records.push_back(entry.take_value());
  }
}

}  // namespace

Result<SegmentOwner> read_segment_owner(const StoreFile& file) {
  SegmentHeaderBytes bytes;
  TRY(file.read_at(0, bytes));
  return SegmentOwner{TRY(decode_segment_header(bytes)), segment_seed(bytes)};
}

Result<SegmentScan> scan_segment(const StoreFile& file) {
  const SegmentOwner owner = TRY(read_segment_owner(file));
  SegmentScan scan{.header = owner.header, .seed = owner.seed};
  scan.size_bytes = TRY(file.size());
  scan.end_bytes = kSegmentHeaderBytes;
  if (!read_index(file, scan).ok()) walk(file, scan);
  return scan;
}

Result<RecordHead> read_record_head(const StoreFile& file, uint64_t seed, const RecordPlace& place) {
  CHECK(place.meta_bytes <= kMaxMetaBytes, "{} bytes of meta", place.meta_bytes);
  std::vector<std::byte> bytes(kRecordHeaderBytes + place.meta_bytes);
  TRY(file.read_at(place.offset, bytes));
  const auto header_bytes = std::span(bytes).first<kRecordHeaderBytes>();
  RecordHead head{.header = TRY(decode_record_header(header_bytes, seed, place.offset)), .meta = {}};
  if (head.header.meta_bytes != place.meta_bytes || head.header.payload_bytes != place.payload_bytes) {
    return make_error(ErrorCode::kCorrupt, "another record is in its place");
  }
  bytes.erase(bytes.begin(), bytes.begin() + kRecordHeaderBytes);
  head.meta = std::move(bytes);
  if (checksum_of(head.meta) != head.header.meta_checksum) {
    return make_error(ErrorCode::kCorrupt, "the checksum before the payload is wrong");
  }
  return head;
}

Result<void> read_record_payload(const StoreFile& file, const RecordPlace& place, const RecordHeader& header,
                                 std::span<std::byte> payload) {
  CHECK(payload.size() == header.payload_bytes, "a span of {} bytes for {}", payload.size(), header.payload_bytes);
  StreamChecksum checksum;
  uint64_t offset = place.offset + payload_offset(header.meta_bytes);
  for (auto rest = payload; !rest.empty();) {
    const auto piece = rest.first(std::min(rest.size(), kReadPieceBytes));
    TRY(file.read_at(offset, piece));
    checksum.add(piece);
    offset += piece.size();
    rest = rest.subspan(piece.size());
  }
  if (checksum.value() != header.payload_checksum) {
    return make_error(ErrorCode::kCorrupt, "the checksum of the payload is wrong");
  }
  return {};
}

Result<SegmentWriter> SegmentWriter::start(std::unique_ptr<StoreFile> file, const SegmentHeader& header) {
  const SegmentHeaderBytes bytes = encode_segment_header(header);
  SegmentWriter writer(std::move(file), header.number, segment_seed(bytes));
  TRY(writer.file_->write_at(0, bytes));
  return writer;
}

Result<SegmentWriter> SegmentWriter::resume(std::unique_ptr<StoreFile> file, const SegmentScan& scan) {
  CHECK(!scan.sealed, "segment {} is sealed", scan.header.number);
  SegmentWriter writer(std::move(file), scan.header.number, scan.seed);
  writer.end_bytes_ = scan.end_bytes;
  writer.n_records_ = static_cast<int32_t>(scan.records.size());
  for (const IndexEntry& entry : scan.records) append_index_entry(entry, scan.seed, writer.index_);
  if (scan.size_bytes > scan.end_bytes) TRY(writer.file_->truncate(scan.end_bytes));
  return writer;
}

uint64_t SegmentWriter::sealed_bytes_with(const RecordHeader& header) const {
  return sealed_bytes(end_bytes_ + record_bytes(header),
                      index_.size() + index_entry_bytes(header.kind, header.meta_bytes));
}

uint64_t SegmentWriter::sealed_bytes_alone(const RecordHeader& header) {
  return sealed_bytes(kSegmentHeaderBytes + record_bytes(header), index_entry_bytes(header.kind, header.meta_bytes));
}

Result<uint64_t> SegmentWriter::append(RecordHeader header, std::span<const std::byte> meta,
                                       std::span<const std::byte> payload) {
  CHECK(!damaged_ && meta.size() == header.meta_bytes && payload.size() == header.payload_bytes,
        "record of {} + {} bytes, damaged {}", meta.size(), payload.size(), damaged_);
  header.meta_checksum = checksum_of(meta);
  const uint64_t offset = end_bytes_;
  const uint64_t end = end_bytes_ + record_bytes(header);
  if (auto written = write_record(header, meta, payload); !written.ok()) {
    cut_off(end);
    return written.take_error();
  }
  IndexEntry entry{.offset = offset, .header = header, .tail_tokens = {}};
  if (header.kind == RecordKind::kCheckpoint) entry.tail_tokens = decode_tokens(meta);
  append_index_entry(entry, seed_, index_);
  ++n_records_;
  end_bytes_ = end;
  return offset;
}

Result<void> SegmentWriter::write_record(const RecordHeader& header, std::span<const std::byte> meta,
                                         std::span<const std::byte> payload) {
  const uint64_t payload_at = end_bytes_ + payload_offset(header.meta_bytes);
  const uint64_t padding = align_record(payload.size()) - payload.size();
  TRY(file_->write_at(payload_at, payload));
  TRY(file_->write_at(payload_at + payload.size(), std::span(kZeros).first(padding)));
  const RecordHeaderBytes encoded = encode_record_header(header, seed_, end_bytes_);
  std::vector<std::byte> head(payload_offset(header.meta_bytes));
  std::ranges::copy(encoded, head.begin());
  std::ranges::copy(meta, head.begin() + kRecordHeaderBytes);
  return file_->write_at(end_bytes_, head);
}

void SegmentWriter::cut_off(uint64_t limit_bytes) {
  if (file_->truncate(end_bytes_).ok()) return;
  damaged_ = true;
  torn_bytes_ = limit_bytes;
}

Result<void> SegmentWriter::seal() {
  CHECK(!damaged_, "segment {} is damaged", number_);
  const uint64_t sealed_size = sealed_bytes();
  const RecordHeader header{.kind = RecordKind::kIndex,
                            .n_tokens = n_records_,
                            .payload_bytes = index_.size(),
                            .meta_checksum = checksum_of({}),
                            .payload_checksum = checksum_of(index_)};
  auto written = write_record(header, {}, index_);
  const uint64_t trailer_offset = sealed_size - kTrailerBytes;
  if (written.ok()) written = file_->write_at(trailer_offset, encode_trailer(end_bytes_, seed_, trailer_offset));
  if (!written.ok()) {
    cut_off(sealed_size);
    return written;
  }
  end_bytes_ = sealed_size;
  return file_->sync();
}

}  // namespace ds4
