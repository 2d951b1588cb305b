#include "session/store_loader.h"

#include <algorithm>

namespace ds4 {

namespace {

struct FoundSegment {
  uint32_t number = 0;
  StoreFileEntry file;
};

struct UsageRecord {
  RecordPlace place;
  uint64_t seed = 0;
};

class Loader {
 public:
  explicit Loader(StoreState& state) : state_(state) {}

  Result<LoadedSegments> run() {
    std::vector<FoundSegment> found;
    for (StoreFileEntry& file : TRY(state_.files.list(state_.options.directory))) {
      const uint32_t number = segment_number(file.name);
      if (number != 0 && file.name == segment_name(number)) found.push_back({number, std::move(file)});
    }
    std::ranges::sort(found, {}, &FoundSegment::number);
    for (const FoundSegment& segment : found) load(segment);
    state_.index.settle();
    // In the order of their places: the last one counts.
    for (const UsageRecord& usage : usage_) apply(usage);
    return std::move(loaded_);
  }

 private:
  void load(const FoundSegment& found) {
    loaded_.last_number = std::max(loaded_.last_number, found.number);
    const auto file = state_.files.open_for_reading(state_.path_of(found.number));
    if (!file.ok()) return load_foreign(found, {}, file.error().message);
    const auto owner = read_segment_owner(*file.value());
    if (!owner.ok() && owner.error().code == ErrorCode::kCorrupt) return remove(found, owner.error().message);
    if (!owner.ok()) return load_foreign(found, {}, owner.error().message);
    const SegmentHeader& header = owner.value().header;
    if (header.identity != state_.options.identity || header.page_bytes != state_.options.page_bytes ||
        header.number != found.number) {
      return load_foreign(found, header.identity, "");
    }
    auto scan = scan_segment(*file.value());
    if (!scan.ok()) return load_foreign(found, header.identity, scan.error().message);
    load_own(found, scan.take_value());
  }

  // Counted, never read, and the first to go when room is needed.
  void load_foreign(const FoundSegment& found, const Hash128& identity, const std::string& reason) {
    if (!reason.empty()) state_.notice(fmt::format("{} is left alone: {}", found.file.name, reason));
    state_.index.add_segment(
        found.number, {.identity = identity, .file_bytes = found.file.size_bytes, .modified_s = found.file.modified_s});
  }

  // A file whose header was never finished, or is damaged: nothing in it can be trusted.
  void remove(const FoundSegment& found, const std::string& reason) {
    state_.notice(fmt::format("{} is removed: {}", found.file.name, reason));
    if (!state_.files.remove(state_.path_of(found.number)).ok()) load_foreign(found, {}, "");
  }

  void load_own(const FoundSegment& found, SegmentScan scan) {
    for (const std::string& problem : scan.problems) {
      state_.notice(fmt::format("{}: {}", found.file.name, problem));
      ++state_.counts.n_dropped_damaged;
    }
    state_.index.add_segment(found.number, {.identity = scan.header.identity,
                                            .ours = true,
                                            .seed = scan.seed,
                                            .file_bytes = scan.size_bytes,
                                            .modified_s = found.file.modified_s});
    for (const IndexEntry& entry : scan.records) {
      const RecordHeader& header = entry.header;
      if (header.kind == RecordKind::kUsage) {
        usage_.push_back({{found.number, header.meta_bytes, entry.offset, header.payload_bytes}, scan.seed});
      }
      const bool usable = header.kind != RecordKind::kPage || header.payload_bytes == state_.options.page_bytes;
      if (usable) state_.index.load(entry, found.number);
    }
    loaded_.unsealed.reset();
    const bool open_ended = !scan.sealed && scan.end_bytes < state_.options.segment_bytes;
    if (open_ended) loaded_.unsealed = std::move(scan);
  }

  void apply(const UsageRecord& usage) {
    const auto entries = [&]() -> Result<std::vector<UsageEntry>> {
      const auto file = TRY(state_.files.open_for_reading(state_.path_of(usage.place.segment)));
      const RecordHead head = TRY(read_record_head(*file, usage.seed, usage.place));
      std::vector<std::byte> payload(head.header.payload_bytes);
      TRY(read_record_payload(*file, usage.place, head.header, payload));
      return decode_usage(payload);
    }();
    if (!entries.ok()) return;  // only the order of eviction suffers
    for (const UsageEntry& entry : entries.value()) state_.index.load_usage(entry, usage.place.segment);
  }

  StoreState& state_;
  LoadedSegments loaded_;
  std::vector<UsageRecord> usage_;
};

}  // namespace

Result<LoadedSegments> load_segments(StoreState& state) { return Loader(state).run(); }

}  // namespace ds4
