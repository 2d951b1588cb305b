#include "session/store_index.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "session/eviction.h"

namespace ds4 {

namespace {

bool later(const RecordPlace& a, const RecordPlace& b) {
  return std::tie(a.segment, a.offset) > std::tie(b.segment, b.offset);
}

RecordPlace place_of(const IndexEntry& entry, uint32_t segment_number) {
  return {.segment = segment_number,
          .meta_bytes = entry.header.meta_bytes,
          .offset = entry.offset,
          .payload_bytes = entry.header.payload_bytes};
}

}  // namespace

StoreIndex::Segment& StoreIndex::add_segment(uint32_t number, Segment segment) {
  disk_bytes_ += segment.file_bytes;
  const auto [it, added] = segments_.emplace(number, std::move(segment));
  CHECK(added, "segment {} is there already", number);
  return it->second;
}

const StoreIndex::Segment* StoreIndex::find_segment(uint32_t number) const {
  const auto it = segments_.find(number);
  return it == segments_.end() ? nullptr : &it->second;
}

void StoreIndex::set_file_bytes(uint32_t number, uint64_t file_bytes) {
  uint64_t& counted = segments_.at(number).file_bytes;
  disk_bytes_ = disk_bytes_ - counted + file_bytes;
  counted = file_bytes;
}

StoreIndex::Removed StoreIndex::remove_segment(uint32_t number) {
  const Segment& segment = segments_.at(number);
  Removed removed;
  if (segment.live_bytes > 0) {
    for (const Record& record : segment.records) {
      if (!is_live(record)) continue;
      switch (record.kind) {
        case RecordKind::kPage: pages_.at(record.key).mark = Page::Mark::kCondemned; break;
        case RecordKind::kCheckpoint: checkpoints_.at(record.key).condemned = true; break;
        case RecordKind::kBlob: erase_blob(record.key, removed); break;
        case RecordKind::kUsage:
        case RecordKind::kIndex: break;
      }
    }
    const Removed swept = sweep();
    removed.n_pages += swept.n_pages;
    removed.n_checkpoints += swept.n_checkpoints;
  }
  for (auto& [key, checkpoint] : checkpoints_) {
    if (checkpoint.usage_segment == number) checkpoint.usage_changed = true;
  }
  set_file_bytes(number, 0);
  segments_.erase(number);
  return removed;
}

void StoreIndex::count_live(RecordKind kind, const RecordPlace& place, bool live) {
  const uint64_t n_bytes = place.n_bytes() + index_entry_bytes(kind, place.meta_bytes);
  uint64_t& in_segment = segments_.at(place.segment).live_bytes;
  in_segment = live ? in_segment + n_bytes : in_segment - n_bytes;
  live_bytes_ = live ? live_bytes_ + n_bytes : live_bytes_ - n_bytes;
}

void StoreIndex::load(const IndexEntry& entry, uint32_t segment_number) {
  const RecordPlace place = place_of(entry, segment_number);
  switch (entry.header.kind) {
    case RecordKind::kPage: load_page(entry, place); break;
    case RecordKind::kCheckpoint: load_checkpoint(entry, place); break;
    case RecordKind::kBlob: loaded_blobs_.emplace_back(entry.header, place); break;
    case RecordKind::kUsage:
    case RecordKind::kIndex: return;
  }
  segments_.at(segment_number).records.push_back({entry.header.kind, entry.header.key, place});
}

void StoreIndex::load_page(const IndexEntry& entry, const RecordPlace& place) {
  const auto [it, added] = pages_.try_emplace(entry.header.key);
  Page& page = it->second;
  if (!added && !later(place, page.place)) return;
  if (!added) count_live(RecordKind::kPage, page.place, false);
  page = {
      .key = entry.header.key, .place = place, .n_own_tokens = entry.header.n_tokens, .written_s = entry.header.used_s};
  loaded_parents_[entry.header.key] = entry.header.parent;
  count_live(RecordKind::kPage, place, true);
}

void StoreIndex::load_checkpoint(const IndexEntry& entry, const RecordPlace& place) {
  const auto [it, added] = checkpoints_.try_emplace(entry.header.key);
  Checkpoint& checkpoint = it->second;
  if (!added && !later(place, checkpoint.place)) return;
  if (!added) count_live(RecordKind::kCheckpoint, checkpoint.place, false);
  checkpoint = {.stored = checkpoint_of(entry.header, entry.tail_tokens),
                .place = place,
                .used_s = entry.header.used_s,
                .hits = entry.header.hits,
                .usage_segment = place.segment};
  count_live(RecordKind::kCheckpoint, place, true);
}

void StoreIndex::load_usage(const UsageEntry& entry, uint32_t segment_number) {
  const auto it = checkpoints_.find(entry.key);
  // A copy made later carries the usage of its time.
  if (it == checkpoints_.end() || it->second.usage_segment > segment_number) return;
  it->second.used_s = entry.used_s;
  it->second.hits = entry.hits;
  it->second.usage_segment = segment_number;
}

StoreIndex::Removed StoreIndex::settle() {
  const Hash128 none;
  for (auto& [key, page] : pages_) {
    const Hash128& parent = loaded_parents_.at(key);
    if (parent == none) continue;
    const auto it = pages_.find(parent);
    page.parent = it == pages_.end() ? nullptr : &it->second;
    if (page.parent == nullptr) page.mark = Page::Mark::kCondemned;
  }
  for (auto& [key, checkpoint] : checkpoints_) {
    if (checkpoint.stored.parent == none) continue;
    const auto it = pages_.find(checkpoint.stored.parent);
    checkpoint.parent = it == pages_.end() ? nullptr : &it->second;
    checkpoint.condemned = checkpoint.parent == nullptr;
  }
  loaded_parents_.clear();
  const auto order = [](const auto& loaded) {
    return std::tuple(loaded.first.used_s, loaded.second.segment, loaded.second.offset);
  };
  std::ranges::sort(loaded_blobs_, {}, order);
  for (const auto& [header, place] : loaded_blobs_) {
    const Blob* const known = find_blob(header.key);
    if (known == nullptr || later(place, known->place)) add_blob(header, place);
  }
  loaded_blobs_.clear();
  return sweep();
}

const StoreIndex::Page* StoreIndex::find_page(const Hash128& key) const {
  const auto it = pages_.find(key);
  return it == pages_.end() ? nullptr : &it->second;
}

const StoreIndex::Checkpoint* StoreIndex::find_checkpoint(const Hash128& key) const {
  const auto it = checkpoints_.find(key);
  return it == checkpoints_.end() ? nullptr : &it->second;
}

const StoreIndex::Blob* StoreIndex::find_blob(const Hash128& key) const {
  const auto it = blobs_.find(key);
  return it == blobs_.end() ? nullptr : &it->second;
}

void StoreIndex::add(const RecordHeader& header, const RecordPlace& place, std::vector<int32_t> tail_tokens) {
  Page* parent = nullptr;
  if (header.parent != Hash128{}) {
    parent = &pages_.at(header.parent);
    ++parent->n_children;
  }
  switch (header.kind) {
    case RecordKind::kPage:
      pages_[header.key] = {.key = header.key,
                            .parent = parent,
                            .place = place,
                            .n_own_tokens = header.n_tokens,
                            .n_tokens = header.n_tokens + (parent == nullptr ? 0 : parent->n_tokens),
                            .written_s = header.used_s};
      count_live(header.kind, place, true);
      break;
    case RecordKind::kCheckpoint:
      checkpoints_[header.key] = {.stored = checkpoint_of(header, std::move(tail_tokens)),
                                  .parent = parent,
                                  .place = place,
                                  .used_s = header.used_s,
                                  .hits = header.hits,
                                  .usage_segment = place.segment};
      count_live(header.kind, place, true);
      break;
    case RecordKind::kBlob: add_blob(header, place); break;
    case RecordKind::kUsage:
    case RecordKind::kIndex: return;
  }
  segments_.at(place.segment).records.push_back({header.kind, header.key, place});
}

void StoreIndex::add_blob(const RecordHeader& header, const RecordPlace& place) {
  Removed replaced;
  erase_blob(header.key, replaced);
  blobs_[header.key] = {.place = place, .value_checksum = header.payload_checksum, .sequence = next_blob_};
  blob_order_[next_blob_++] = header.key;
  blob_bytes_ += place.n_bytes();
  count_live(RecordKind::kBlob, place, true);
}

std::optional<RecordPlace> StoreIndex::find_place(RecordKind kind, const Hash128& key) const {
  const auto place = [](const auto* found) { return found ? std::optional(found->place) : std::nullopt; };
  switch (kind) {
    case RecordKind::kPage: return place(find_page(key));
    case RecordKind::kCheckpoint: return place(find_checkpoint(key));
    case RecordKind::kBlob: return place(find_blob(key));
    case RecordKind::kUsage:
    case RecordKind::kIndex: return std::nullopt;
  }
  return std::nullopt;
}

bool StoreIndex::is_live(const Record& record) const { return find_place(record.kind, record.key) == record.place; }

void StoreIndex::move(const Record& record, const RecordPlace& place) {
  count_live(record.kind, record.place, false);
  switch (record.kind) {
    case RecordKind::kPage: pages_.at(record.key).place = place; break;
    case RecordKind::kCheckpoint: {
      Checkpoint& checkpoint = checkpoints_.at(record.key);
      checkpoint.place = place;
      checkpoint.usage_segment = place.segment;
      break;
    }
    case RecordKind::kBlob: blobs_.at(record.key).place = place; break;
    case RecordKind::kUsage:
    case RecordKind::kIndex: break;
  }
  count_live(record.kind, place, true);
  segments_.at(place.segment).records.push_back({record.kind, record.key, place});
}

StoreIndex::Removed StoreIndex::drop(const Record& record) {
  Removed removed;
  if (!is_live(record)) return removed;
  switch (record.kind) {
    case RecordKind::kPage: pages_.at(record.key).mark = Page::Mark::kCondemned; return sweep();
    case RecordKind::kCheckpoint: erase_checkpoint(record.key, removed); break;
    case RecordKind::kBlob: erase_blob(record.key, removed); break;
    case RecordKind::kUsage:
    case RecordKind::kIndex: break;
  }
  return removed;
}

void StoreIndex::unpin(const Hash128& page) {
  const auto it = pins_.find(page);
  CHECK(it != pins_.end(), "a page that is not pinned");
  if (--it->second == 0) pins_.erase(it);
}

void StoreIndex::release(Page* page, Removed& removed) {
  if (page == nullptr) return;
  --page->n_children;
  while (page != nullptr && page->n_children == 0 && !is_pinned(page->key)) {
    Page* const parent = page->parent;
    count_live(RecordKind::kPage, page->place, false);
    pages_.erase(Hash128(page->key));
    ++removed.n_pages;
    if (parent != nullptr) --parent->n_children;
    page = parent;
  }
}

void StoreIndex::erase_checkpoint(const Hash128& key, Removed& removed) {
  const auto it = checkpoints_.find(key);
  Page* const parent = it->second.parent;
  count_live(RecordKind::kCheckpoint, it->second.place, false);
  checkpoints_.erase(it);
  ++removed.n_checkpoints;
  release(parent, removed);
}

void StoreIndex::erase_blob(const Hash128& key, Removed& removed) {
  const auto it = blobs_.find(key);
  if (it == blobs_.end()) return;
  const uint64_t n_bytes = it->second.place.n_bytes();
  count_live(RecordKind::kBlob, it->second.place, false);
  blob_bytes_ -= n_bytes;
  blob_order_.erase(it->second.sequence);
  blobs_.erase(it);
  ++removed.n_blobs;
}

StoreIndex::Removed StoreIndex::evict_checkpoint(const Hash128& key) {
  Removed removed;
  erase_checkpoint(key, removed);
  return removed;
}

StoreIndex::Removed StoreIndex::evict_page(const Hash128& key) {
  Page& page = pages_.at(key);
  CHECK(page.n_children == 0 && !is_pinned(key), "a page with {} children", page.n_children);
  Removed removed;
  ++page.n_children;  // as if its last child went
  release(&page, removed);
  return removed;
}

StoreIndex::Removed StoreIndex::limit_blobs(uint64_t max_bytes) {
  Removed removed;
  while (blob_bytes_ > max_bytes) erase_blob(Hash128(blob_order_.begin()->second), removed);
  return removed;
}

// Every page of the chain gets its mark; the walk to the root is a loop, for chains are long.
void StoreIndex::mark_chain(Page& first) {
  using Mark = Page::Mark;
  std::vector<Page*> chain;
  Page* page = &first;
  for (; page != nullptr && page->mark == Mark::kUnknown; page = page->parent) {
    page->mark = Mark::kVisiting;
    chain.push_back(page);
  }
  // A page that is being visited closes a circle, which no chain of hashes does.
  Mark mark = page == nullptr || page->mark == Mark::kSound ? Mark::kSound : Mark::kCondemned;
  for (; !chain.empty(); chain.pop_back()) {
    chain.back()->mark = mark;
    if (mark == Mark::kCondemned) continue;
    Page* const parent = chain.back()->parent;
    chain.back()->n_tokens = chain.back()->n_own_tokens + (parent == nullptr ? 0 : parent->n_tokens);
  }
}

StoreIndex::Removed StoreIndex::sweep() {
  using Mark = Page::Mark;
  Removed removed;
  for (auto& [key, page] : pages_) {
    if (page.mark == Mark::kUnknown) mark_chain(page);
  }
  removed.n_checkpoints = static_cast<int64_t>(std::erase_if(checkpoints_, [this](const auto& item) {
    const Checkpoint& checkpoint = item.second;
    const bool condemned =
        checkpoint.condemned || (checkpoint.parent != nullptr && checkpoint.parent->mark == Mark::kCondemned);
    if (condemned) count_live(RecordKind::kCheckpoint, checkpoint.place, false);
    return condemned;
  }));
  removed.n_pages = static_cast<int64_t>(std::erase_if(pages_, [this](const auto& item) {
    const bool condemned = item.second.mark == Mark::kCondemned;
    if (condemned) count_live(RecordKind::kPage, item.second.place, false);
    return condemned;
  }));
  for (auto& [key, page] : pages_) {
    page.mark = Mark::kUnknown;
    page.n_children = 0;
  }
  for (auto& [key, page] : pages_) {
    if (page.parent != nullptr) ++page.parent->n_children;
  }
  for (auto& [key, checkpoint] : checkpoints_) {
    if (checkpoint.parent != nullptr) ++checkpoint.parent->n_children;
  }
  return removed;
}

void StoreIndex::touch(const Hash128& checkpoint, int64_t now_s) {
  const auto it = checkpoints_.find(checkpoint);
  if (it == checkpoints_.end()) return;
  it->second.hits = it->second.hits * std::exp2(-half_lives(it->second.used_s, now_s)) + 1;
  it->second.used_s = now_s;
  it->second.usage_changed = true;
}

std::vector<UsageEntry> StoreIndex::changed_usage() const {
  std::vector<UsageEntry> entries;
  for (const auto& [key, checkpoint] : checkpoints_) {
    if (checkpoint.usage_changed) entries.push_back({key, checkpoint.used_s, checkpoint.hits});
  }
  return entries;
}

void StoreIndex::usage_written(std::span<const UsageEntry> entries, uint32_t segment_number) {
  for (const UsageEntry& entry : entries) {
    const auto it = checkpoints_.find(entry.key);
    if (it == checkpoints_.end()) continue;
    it->second.usage_segment = segment_number;
    const bool same = it->second.used_s == entry.used_s && it->second.hits == entry.hits;
    it->second.usage_changed = !same;
  }
}

}  // namespace ds4
