// A segment file from outside: scanning, reading back, and the index made of it. The first byte chooses what is made
// sound, so that checksums do not stop the fuzzer: bit 0 the segment header, bit 1 the headers of records (the input is
// then 128 bytes of fields, a length byte, and so many bytes behind the header, again and again), bit 2 index and
// trailer.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "session/eviction.h"
#include "session/segment_file.h"
#include "session/store_index.h"

namespace {

using Bytes = std::vector<std::byte>;

class InputFile final : public ds4::StoreFile {
 public:
  explicit InputFile(Bytes bytes) : bytes_(std::move(bytes)) {}
  ds4::Result<uint64_t> size() const override { return bytes_.size(); }
  ds4::Result<void> read_at(uint64_t offset, std::span<std::byte> out) const override {
    if (offset > bytes_.size() || out.size() > bytes_.size() - offset) {
      return ds4::make_error(ds4::ErrorCode::kCorrupt, "ends early");
    }
    std::copy_n(bytes_.begin() + static_cast<std::ptrdiff_t>(offset), out.size(), out.begin());
    return {};
  }
  ds4::Result<void> write_at(uint64_t, std::span<const std::byte>) override { return {}; }
  ds4::Result<void> truncate(uint64_t) override { return {}; }
  ds4::Result<void> sync() override { return {}; }

 private:
  Bytes bytes_;
};

// Fields that the input chooses, with the checksum of the place.
ds4::RecordHeaderBytes sound_header(std::span<const std::byte> fields, uint64_t seed, uint64_t offset) {
  ds4::RecordHeaderBytes bytes{};
  std::copy_n(fields.begin(), std::min(fields.size(), bytes.size()), bytes.begin());
  const auto model = ds4::encode_record_header({}, seed, offset);
  std::copy_n(model.begin(), 4, bytes.begin());  // the magic
  const uint64_t checksum = ds4::checksum_of(std::span(bytes).first(bytes.size() - 8), seed + offset);
  std::memcpy(bytes.data() + bytes.size() - 8, &checksum, 8);
  return bytes;
}

void append(Bytes& file, std::span<const std::byte> bytes) { file.insert(file.end(), bytes.begin(), bytes.end()); }

void append_records(Bytes& file, std::span<const std::byte> input, uint64_t seed, Bytes& index) {
  while (input.size() > ds4::kRecordHeaderBytes) {
    const uint64_t offset = file.size();
    const auto header = sound_header(input.first(ds4::kRecordHeaderBytes), seed, offset);
    input = input.subspan(ds4::kRecordHeaderBytes);
    const size_t n = std::min<size_t>(static_cast<size_t>(input[0]), input.size() - 1);
    append(file, header);
    append(file, input.subspan(1, n));
    append(index, std::as_bytes(std::span(&offset, 1)));
    append(index, header);
    append(index, input.subspan(1, n / 2));
    input = input.subspan(1 + n);
    file.resize(ds4::align_record(file.size()));
  }
}

void append_index(Bytes& file, std::span<const std::byte> index, uint64_t seed) {
  const uint64_t offset = file.size();
  append(file, ds4::encode_record_header({.kind = ds4::RecordKind::kIndex,
                                          .payload_bytes = index.size(),
                                          .meta_checksum = ds4::checksum_of({}),
                                          .payload_checksum = ds4::checksum_of(index)},
                                         seed, offset));
  append(file, index);
  file.resize(ds4::align_record(file.size()));
  append(file, ds4::encode_trailer(offset, seed, file.size()));
}

Bytes file_of(uint8_t mode, std::span<const std::byte> input) {
  if ((mode & 1) == 0) return {input.begin(), input.end()};
  const auto header = ds4::encode_segment_header({.identity = {1, 2}, .number = 1});
  const uint64_t seed = ds4::segment_seed(header);
  Bytes file(header.begin(), header.end());
  Bytes index;
  if ((mode & 2) == 0) append(file, input);
  if ((mode & 2) != 0) append_records(file, input, seed, index);
  if ((mode & 4) != 0) append_index(file, index, seed);
  return file;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const InputFile file(file_of(data[0], std::as_bytes(std::span(data, size)).subspan(1)));
  const uint64_t file_bytes = file.size().value();
  const auto scan = ds4::scan_segment(file);
  if (!scan.ok()) return 0;
  ds4::StoreIndex index;
  index.add_segment(1, {.ours = true, .file_bytes = file_bytes});
  for (const ds4::IndexEntry& entry : scan.value().records) {
    const ds4::RecordPlace place{1, entry.header.meta_bytes, entry.offset, entry.header.payload_bytes};
    CHECK(place.offset + place.n_bytes() <= file_bytes, "a record outside of the file");
    index.load(entry, 1);
    const auto head = ds4::read_record_head(file, scan.value().seed, place);
    if (!head.ok()) continue;
    Bytes payload(place.payload_bytes);
    const auto read = ds4::read_record_payload(file, place, head.value().header, payload);
    CHECK(!read.ok() || ds4::checksum_of(payload) == head.value().header.payload_checksum, "damage was served");
    if (entry.header.kind == ds4::RecordKind::kUsage && read.ok()) {
      const auto usage = ds4::decode_usage(payload);
      for (const ds4::UsageEntry& used : usage.value()) index.load_usage(used, 1);
    }
  }
  index.settle();
  for (const auto& [key, checkpoint] : index.checkpoints()) {
    CHECK(checkpoint.stored.parent == ds4::Hash128{} || index.find_page(checkpoint.stored.parent), "a broken chain");
  }
  for (int i = 0; i < 1000 && !ds4::eviction_order(index, 0).empty(); ++i) {
    const ds4::Victim victim = ds4::eviction_order(index, i).front();
    if (victim.is_page) index.evict_page(victim.key);
    if (!victim.is_page) index.evict_checkpoint(victim.key);
  }
  CHECK(!index.pages().empty() || !index.checkpoints().empty() || index.n_blobs() > 0 || index.live_bytes() == 0,
        "{} bytes of nothing", index.live_bytes());
  return 0;
}
