#include "session/store_space.h"

#include <algorithm>
#include <map>
#include <mutex>

namespace ds4 {

namespace {

using Record = StoreIndex::Record;
using Segment = StoreIndex::Segment;

// What a segment has beyond its records and their index entries.
constexpr uint64_t kSegmentOverheadBytes = kSegmentHeaderBytes + payload_offset(0) + kRecordAlignment + kTrailerBytes;

}  // namespace

uint64_t StoreSpace::limit_bytes(const DiskStoreOptions& options) {
  const uint64_t reserve = options.segment_bytes / 2 + 2 * kSegmentOverheadBytes;
  return options.budget_bytes - std::min(reserve, options.budget_bytes / 2);
}

bool StoreSpace::make_room(const RecordHeader& header, uint64_t limit_bytes) {
  return free_until(&header, limit_bytes);
}

bool StoreSpace::shrink_to(uint64_t limit_bytes) { return free_until(nullptr, limit_bytes); }

bool StoreSpace::free_until(const RecordHeader* header, uint64_t limit_bytes) {
  for (;;) {
    {
      const std::lock_guard lock(state_.mutex);
      const uint64_t growth = header == nullptr ? 0 : log_.growth(*header);
      if (state_.index.disk_bytes() + growth <= limit_bytes) return true;
    }
    if (free_some() == Step::kNothingLeft) return false;
  }
}

// Ends, for every step removes a segment, a record, or the unsealed segment's state of being that.
StoreSpace::Step StoreSpace::free_some() {
  if (const auto foreign = least_used_foreign()) {
    remove_segment(*foreign);
    return Step::kFreed;
  }
  if (const auto dead = deadest()) {
    reclaim(*dead);
    return Step::kFreed;
  }
  if (evict_next()) return Step::kFreed;
  if (log_.active_number() != 0) {
    log_.seal();
    return Step::kFreed;
  }
  return Step::kNothingLeft;
}

std::optional<uint32_t> StoreSpace::least_used_foreign() const {
  const std::lock_guard lock(state_.mutex);
  std::map<Hash128, int64_t> used_s;
  for (const auto& [number, segment] : state_.index.segments()) {
    if (!segment.ours) used_s[segment.identity] = std::max(used_s[segment.identity], segment.modified_s);
  }
  std::optional<uint32_t> least;
  int64_t least_s = 0;
  for (const auto& [number, segment] : state_.index.segments()) {
    if (segment.ours || segment.stuck) continue;
    if (least && used_s[segment.identity] >= least_s) continue;
    least = number;
    least_s = used_s[segment.identity];
  }
  return least;
}

std::optional<uint32_t> StoreSpace::deadest() const {
  const std::lock_guard lock(state_.mutex);
  std::optional<uint32_t> found;
  uint64_t most = 0;
  for (const auto& [number, segment] : state_.index.segments()) {
    if (!segment.ours || segment.stuck || number == log_.active_number()) continue;
    const uint64_t kept = segment.live_bytes + kSegmentOverheadBytes;
    const uint64_t dead = segment.file_bytes - std::min(segment.file_bytes, kept);
    const bool half_dead = segment.live_bytes == 0 || (dead > 0 && dead >= segment.live_bytes);
    if (!half_dead || (found && dead <= most)) continue;
    found = number;
    most = dead;
  }
  return found;
}

bool StoreSpace::evict_next() {
  const std::lock_guard lock(state_.mutex);
  StoreIndex& index = state_.index;
  const auto evict = [&](const Victim& victim) -> std::optional<StoreIndex::Removed> {
    if (!victim.is_page) {
      const StoreIndex::Checkpoint* const checkpoint = index.find_checkpoint(victim.key);
      if (checkpoint == nullptr || checkpoint->used_s != victim.used_s) return std::nullopt;
      return index.evict_checkpoint(victim.key);
    }
    const StoreIndex::Page* const page = index.find_page(victim.key);
    if (page == nullptr || page->n_children > 0 || index.is_pinned(victim.key)) return std::nullopt;
    return index.evict_page(victim.key);
  };
  // The second round, with victims chosen anew, is for when those of before are all gone, needed or used.
  for (int round = 0; round < 2; ++round) {
    if (victims_.empty()) {
      victims_ = eviction_order(index, state_.clock.unix_s());
      std::ranges::reverse(victims_);
    }
    while (!victims_.empty()) {
      const Victim victim = victims_.back();
      victims_.pop_back();
      const auto removed = evict(victim);
      if (!removed) continue;
      state_.counts.n_evicted_checkpoints += removed->n_checkpoints;
      state_.counts.n_evicted_pages += removed->n_pages;
      return true;
    }
  }
  return false;
}

bool StoreSpace::remove_file(uint32_t number) {
  const auto removed = state_.files.remove(state_.path_of(number));
  if (removed.ok() || removed.error().code == ErrorCode::kNotFound) return true;
  set_stuck(number, removed.error().message);
  return false;
}

void StoreSpace::set_stuck(uint32_t number, const std::string& reason) {
  const std::lock_guard lock(state_.mutex);
  state_.index.segment(number).stuck = true;
  state_.notice(reason);
}

void StoreSpace::remove_segment(uint32_t number) {
  if (!remove_file(number)) return;
  const std::lock_guard lock(state_.mutex);
  state_.index.remove_segment(number);
}

void StoreSpace::reclaim(uint32_t number) {
  bool live;
  {
    const std::lock_guard lock(state_.mutex);
    live = state_.index.segment(number).live_bytes > 0;
  }
  if (!live) return remove_segment(number);
  const auto file = state_.files.open_for_reading(state_.path_of(number));
  if (!file.ok() && file.error().code == ErrorCode::kNotFound) return remove_segment(number);
  if (!file.ok()) return set_stuck(number, file.error().message);
  // What was copied must have reached the disk before the original goes.
  if (copy_live(number, *file.value()).ok() && log_.sync().ok()) return remove_segment(number);
  carry_over(number, *file.value());
}

Result<void> StoreSpace::copy_live(uint32_t number, const StoreFile& file) {
  std::vector<Record> records;
  uint64_t seed;
  {
    const std::lock_guard lock(state_.mutex);
    records = state_.index.segment(number).records;
    seed = state_.index.segment(number).seed;
  }
  for (const Record& record : records) {
    if (const auto copy = read_live(file, record, seed)) TRY(append_copy(*copy, record));
  }
  return {};
}

void StoreSpace::carry_over(uint32_t number, const StoreFile& file) {
  std::vector<Record> records;
  uint64_t seed;
  {
    const std::lock_guard lock(state_.mutex);
    Segment& segment = state_.index.segment(number);
    records = segment.records;
    seed = segment.seed;
    segment.moving = true;
  }
  std::vector<std::pair<QueuedRecord, Record>> carried;
  for (const Record& record : records) {
    if (auto copy = read_live(file, record, seed)) carried.emplace_back(std::move(*copy), record);
  }
  const bool removed = remove_file(number);
  {
    const std::lock_guard lock(state_.mutex);
    log_.set_most_bytes(std::max(state_.options.budget_bytes, state_.index.disk_bytes()));
    if (removed) state_.index.set_file_bytes(number, 0);
    if (!removed) state_.index.segment(number).moving = false;
  }
  if (!removed) return log_.set_most_bytes(state_.options.budget_bytes);
  for (const auto& [copy, record] : carried) {
    if (!append_copy(copy, record).ok()) break;
  }
  log_.set_most_bytes(state_.options.budget_bytes);
  const std::lock_guard lock(state_.mutex);
  const StoreIndex::Removed lost = state_.index.remove_segment(number);
  state_.counts.n_evicted_checkpoints += lost.n_checkpoints;
  state_.counts.n_evicted_pages += lost.n_pages;
}

std::optional<QueuedRecord> StoreSpace::read_live(const StoreFile& file, const Record& record, uint64_t seed) {
  {
    const std::lock_guard lock(state_.mutex);
    if (!state_.index.is_live(record)) return std::nullopt;
  }
  QueuedRecord copy;
  const auto read = [&]() -> Result<void> {
    RecordHead head = TRY(read_record_head(file, seed, record.place));
    copy.header = head.header;
    copy.meta = std::move(head.meta);
    copy.payload.resize(copy.header.payload_bytes);
    return read_record_payload(file, record.place, copy.header, copy.payload);
  }();
  const std::lock_guard lock(state_.mutex);
  if (!read.ok()) {
    state_.drop_damaged(record, read.error().message);
    return std::nullopt;
  }
  if (record.kind == RecordKind::kCheckpoint) {
    const StoreIndex::Checkpoint* const checkpoint = state_.index.find_checkpoint(record.key);
    if (checkpoint == nullptr) return std::nullopt;
    copy.header.used_s = checkpoint->used_s;
    copy.header.hits = checkpoint->hits;
  }
  return copy;
}

Result<void> StoreSpace::append_copy(const QueuedRecord& copy, const Record& record) {
  const RecordPlace place = TRY(log_.append(copy.header, copy.meta, copy.payload));
  const std::lock_guard lock(state_.mutex);
  state_.counts.compacted_bytes += place.n_bytes();
  if (state_.index.is_live(record)) state_.index.move(record, place);
  return {};
}

}  // namespace ds4
