#include "session/disk_store.h"

#include <algorithm>
#include <functional>
#include <thread>

#include "session/segment_log.h"
#include "session/store_loader.h"
#include "session/store_space.h"
#include "session/store_state.h"
#include "session/store_writer.h"

namespace ds4 {

namespace {

using Record = StoreIndex::Record;

// Of the largest pages and frontiers a segment holds a dozen: few files, and little to copy when one is half dead.
constexpr uint64_t kMaxSegmentBytes = uint64_t{256} << 20;
constexpr uint64_t kSegmentsOfBudget = 32;
constexpr uint64_t kFewestSegments = 8;
// A record may be moved between looking it up and opening its file, but not again and again.
constexpr int kReadAttempts = 8;

DiskStoreOptions with_segment_bytes(DiskStoreOptions options) {
  const uint64_t chosen = std::min(kMaxSegmentBytes, options.budget_bytes / kSegmentsOfBudget);
  if (options.segment_bytes == 0) options.segment_bytes = chosen;
  options.segment_bytes = std::min(options.segment_bytes, options.budget_bytes / kFewestSegments);
  return options;
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace

struct DiskStore::Parts {
  // Where a record is: in the queue or at a place on disk.
  struct Found {
    std::shared_ptr<const QueuedRecord> queued;
    Record record;
    uint64_t seed = 0;
    bool moving = false;
    uint64_t payload_bytes() const { return queued ? queued->header.payload_bytes : record.place.payload_bytes; }
  };

  Parts(const DiskStoreOptions& options, const StoreEnvironment& environment)
      : state(options, environment.files != nullptr ? *environment.files : system_store_files(),
              environment.clock != nullptr ? *environment.clock : system_wall_clock()) {}

  Result<void> open();
  enum class Admission { kTaken, kNotNeeded, kFull };
  Admission admit(const RecordHeader& header);
  // Lengths and time in `header` are filled in. False: the queue is full.
  bool put(RecordHeader header, std::span<const std::byte> meta, std::span<const std::byte> payload);
  std::optional<Found> find(RecordKind kind, const Hash128& key);
  Result<RecordHead> read_from(const StoreFile& file, const Found& found, std::span<std::byte> payload);
  // `place_payload` gives the memory for a payload of so many bytes, or a span of another size to refuse it.
  using PlacePayload = std::function<std::span<std::byte>(uint64_t n_bytes)>;
  Result<RecordHead> read(RecordKind kind, const Hash128& key, const PlacePayload& place_payload);

  StoreState state;
  std::unique_ptr<StoreFile> lock_file;
  std::optional<SegmentLog> log;
  std::optional<StoreSpace> space;
  std::thread thread;
};

Result<void> DiskStore::Parts::open() {
  const std::string& directory = state.options.directory;
  TRY(state.files.create_directory(directory));
  auto lock = state.files.lock(directory + "/lock");
  if (!lock.ok()) return with_context(lock.take_error(), fmt::format("cannot use the KV directory {}", directory));
  lock_file = lock.take_value();
  LoadedSegments loaded = TRY(load_segments(state));
  log.emplace(state, loaded.last_number);
  space.emplace(state, *log);
  if (loaded.unsealed) {
    if (auto resumed = log->resume(*loaded.unsealed); !resumed.ok()) state.notice(resumed.error().message);
  }
  if (!space->shrink_to(state.options.budget_bytes)) {
    return make_error(ErrorCode::kIo, "{}: cannot be brought within its budget of {} bytes", directory,
                      state.options.budget_bytes);
  }
  thread = std::thread([this] { StoreWriter(state, *log, *space).run(); });
  return {};
}

DiskStore::DiskStore(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Result<std::unique_ptr<DiskStore>> DiskStore::open(const DiskStoreOptions& options,
                                                   const StoreEnvironment& environment) {
  constexpr uint64_t kLeastBudget = 4096;
  if (options.directory.empty() || options.budget_bytes < kLeastBudget || options.page_bytes > kMaxPayloadBytes ||
      options.retry_ms < 0 || options.close_ms < 0) {
    return make_error(
        ErrorCode::kInvalidArgument,
        "disk store: directory \"{}\", budget {} (at least {} bytes), page of {} bytes, retry after {} ms, "
        "close within {} ms",
        options.directory, options.budget_bytes, kLeastBudget, options.page_bytes, options.retry_ms, options.close_ms);
  }
  auto parts = std::make_unique<Parts>(with_segment_bytes(options), environment);
  TRY(parts->open());
  return std::unique_ptr<DiskStore>(new DiskStore(std::move(parts)));
}

DiskStore::~DiskStore() {
  {
    const std::lock_guard lock(parts_->state.mutex);
    parts_->state.stopping = true;
    parts_->state.stop_deadline =
        std::chrono::steady_clock::now() + std::chrono::milliseconds(parts_->state.options.close_ms);
  }
  parts_->state.work.notify_all();
  parts_->thread.join();
}

bool DiskStore::has_page(const Hash128& key) const {
  const std::lock_guard lock(parts_->state.mutex);
  return parts_->state.has(RecordKind::kPage, key);
}

bool DiskStore::has_checkpoint(const Hash128& key) const {
  const std::lock_guard lock(parts_->state.mutex);
  return parts_->state.has(RecordKind::kCheckpoint, key);
}

std::vector<Hash128> DiskStore::page_chain(const Hash128& key) const {
  StoreState& state = parts_->state;
  const std::lock_guard lock(state.mutex);
  std::vector<Hash128> keys;
  Hash128 next = key;
  while (next != Hash128{}) {
    const auto waiting = state.queued_pages.find(next);
    const StoreIndex::Page* const stored = state.index.find_page(next);
    if (waiting == state.queued_pages.end() && stored == nullptr) break;
    keys.push_back(next);
    if (waiting != state.queued_pages.end()) {
      next = waiting->second->header.parent;
    } else {
      next = stored->parent == nullptr ? Hash128{} : stored->parent->key;
    }
  }
  return keys;
}

DiskStore::Parts::Admission DiskStore::Parts::admit(const RecordHeader& header) {
  const std::lock_guard lock(state.mutex);
  if (header.kind == RecordKind::kBlob ? state.has_blob(header) : state.has(header.kind, header.key)) {
    return Admission::kNotNeeded;
  }
  if (header.parent != Hash128{} && !state.has(RecordKind::kPage, header.parent)) {
    ++state.counts.n_dropped_queued;
    return Admission::kNotNeeded;
  }
  const bool takes = state.queue.empty() || state.queued_bytes + record_bytes(header) <= state.options.queue_bytes;
  return takes ? Admission::kTaken : Admission::kFull;
}

bool DiskStore::Parts::put(RecordHeader header, std::span<const std::byte> meta, std::span<const std::byte> payload) {
  CHECK(meta.size() <= kMaxMetaBytes && payload.size() <= kMaxPayloadBytes, "a record of {} + {} bytes", meta.size(),
        payload.size());
  header.meta_bytes = static_cast<uint32_t>(meta.size());
  header.payload_bytes = payload.size();
  header.used_s = state.clock.unix_s();
  const Admission admission = admit(header);
  if (admission != Admission::kTaken) return admission == Admission::kNotNeeded;
  // Copied without the lock: only this thread adds to the queue.
  auto record = std::make_shared<QueuedRecord>();
  record->header = header;
  record->meta.assign(meta.begin(), meta.end());
  record->payload.assign(payload.begin(), payload.end());
  {
    const std::lock_guard lock(state.mutex);
    if (header.parent != Hash128{}) state.index.pin(header.parent);
    state.queued_bytes += record_bytes(header);
    state.queued(header.kind)[header.key] = record;
    state.queue.push_back(std::move(record));
  }
  state.work.notify_all();
  return true;
}

bool DiskStore::put_page(const StoredPage& page, std::span<const std::byte> payload) {
  CHECK(payload.size() == parts_->state.options.page_bytes && page.key != Hash128{}, "a page of {} bytes, not {}",
        payload.size(), parts_->state.options.page_bytes);
  return parts_->put({.kind = RecordKind::kPage,
                      .n_tokens = static_cast<int32_t>(page.tokens.size()),
                      .key = page.key,
                      .parent = page.parent},
                     std::as_bytes(std::span(page.tokens)), payload);
}

bool DiskStore::put_checkpoint(const StoredCheckpoint& checkpoint, std::span<const std::byte> payload) {
  CHECK(std::ssize(checkpoint.tail_tokens) <= checkpoint.n_tokens, "{} tokens with a tail of {}", checkpoint.n_tokens,
        checkpoint.tail_tokens.size());
  return parts_->put({.kind = RecordKind::kCheckpoint,
                      .reason = checkpoint.reason,
                      .n_tokens = checkpoint.n_tokens,
                      .key = checkpoint.key,
                      .parent = checkpoint.parent,
                      .rendered_key = checkpoint.rendered_key},
                     std::as_bytes(std::span(checkpoint.tail_tokens)), payload);
}

bool DiskStore::put_blob(std::string_view key, std::string_view value) {
  CHECK(key.size() + value.size() <= kMaxBlobBytes, "a blob of {} + {} bytes", key.size(), value.size());
  return parts_->put(
      {.kind = RecordKind::kBlob, .key = hash_bytes(bytes_of(key)), .payload_checksum = checksum_of(bytes_of(value))},
      bytes_of(key), bytes_of(value));
}

std::optional<DiskStore::Parts::Found> DiskStore::Parts::find(RecordKind kind, const Hash128& key) {
  const std::lock_guard lock(state.mutex);
  const auto& queued = state.queued(kind);
  if (const auto it = queued.find(key); it != queued.end()) return Found{.queued = it->second};
  const auto place = state.index.find_place(kind, key);
  if (!place) return std::nullopt;
  const StoreIndex::Segment& segment = state.index.segment(place->segment);
  return Found{.record = {kind, key, *place}, .seed = segment.seed, .moving = segment.moving};
}

Result<RecordHead> DiskStore::Parts::read_from(const StoreFile& file, const Found& found,
                                               std::span<std::byte> payload) {
  RecordHead head = TRY(read_record_head(file, found.seed, found.record.place));
  if (head.header.kind != found.record.kind || head.header.key != found.record.key) {
    return make_error(ErrorCode::kCorrupt, "another record is in its place");
  }
  TRY(read_record_payload(file, found.record.place, head.header, payload));
  return head;
}

Result<RecordHead> DiskStore::Parts::read(RecordKind kind, const Hash128& key, const PlacePayload& place_payload) {
  for (int attempt = 0; attempt < kReadAttempts; ++attempt) {
    const auto found = find(kind, key);
    if (!found) break;
    const std::span<std::byte> payload = place_payload(found->payload_bytes());
    if (payload.size() != found->payload_bytes()) {
      return make_error(ErrorCode::kInvalidArgument, "record {} has {} bytes, not {}", to_text(key),
                        found->payload_bytes(), payload.size());
    }
    if (found->queued) {
      std::ranges::copy(found->queued->payload, payload.begin());
      return RecordHead{found->queued->header, found->queued->meta};
    }
    const auto file = state.files.open_for_reading(state.path_of(found->record.place.segment));
    auto head = file.ok() ? read_from(*file.value(), *found, payload) : Result<RecordHead>(file.error());
    if (head.ok()) return head;
    const std::lock_guard lock(state.mutex);
    if (!state.index.is_live(found->record)) continue;  // moved or evicted meanwhile
    // A file that cannot be opened for another reason than that it is gone (too many are open) is not damaged.
    const bool vanished = !file.ok() && head.error().code == ErrorCode::kNotFound;
    if (file.ok() || (vanished && !found->moving)) state.drop_damaged(found->record, head.error().message);
    return head;
  }
  return make_error(ErrorCode::kNotFound, "record {} is not in the disk store", to_text(key));
}

Result<StoredPage> DiskStore::read_page(const Hash128& key, std::span<std::byte> payload) {
  const RecordHead head = TRY(parts_->read(RecordKind::kPage, key, [payload](uint64_t) { return payload; }));
  return StoredPage{.key = key, .parent = head.header.parent, .tokens = decode_tokens(head.meta)};
}

Result<StoredCheckpoint> DiskStore::read_checkpoint(const Hash128& key, std::span<std::byte> payload) {
  const RecordHead head = TRY(parts_->read(RecordKind::kCheckpoint, key, [payload](uint64_t) { return payload; }));
  return checkpoint_of(head.header, decode_tokens(head.meta));
}

std::optional<std::string> DiskStore::find_blob(std::string_view key) {
  std::string value;
  const auto head = parts_->read(RecordKind::kBlob, hash_bytes(bytes_of(key)), [&value](uint64_t n_bytes) {
    value.resize(n_bytes);
    return std::as_writable_bytes(std::span(value));
  });
  if (!head.ok() || !std::ranges::equal(head.value().meta, bytes_of(key))) return std::nullopt;
  return value;
}

std::vector<StoredCheckpoint> DiskStore::checkpoints() const {
  const StoreState& state = parts_->state;
  const std::lock_guard lock(parts_->state.mutex);
  std::vector<StoredCheckpoint> all;
  all.reserve(state.index.checkpoints().size() + state.queued_checkpoints.size());
  for (const auto& [key, checkpoint] : state.index.checkpoints()) all.push_back(checkpoint.stored);
  for (const auto& [key, record] : state.queued_checkpoints) {
    all.push_back(checkpoint_of(record->header, decode_tokens(record->meta)));
  }
  return all;
}

void DiskStore::touch(const Hash128& key) {
  const std::lock_guard lock(parts_->state.mutex);
  parts_->state.index.touch(key, parts_->state.clock.unix_s());
}

Result<void> DiskStore::flush() {
  StoreState& state = parts_->state;
  std::unique_lock lock(state.mutex);
  const uint64_t asked = ++state.flushes_asked;
  state.work.notify_all();
  state.done.wait(lock, [&] { return state.flushes_done >= asked; });
  if (state.flush_errors.empty()) return {};
  return state.flush_errors.front();
}

DiskStoreStatistics DiskStore::statistics() const {
  const StoreState& state = parts_->state;
  const std::lock_guard lock(parts_->state.mutex);
  DiskStoreStatistics statistics = state.counts;
  statistics.disk_bytes = state.index.disk_bytes();
  statistics.live_bytes = state.index.live_bytes();
  statistics.queued_bytes = state.queued_bytes;
  statistics.n_segments = std::ssize(state.index.segments());
  statistics.n_pages = std::ssize(state.index.pages());
  statistics.n_checkpoints = std::ssize(state.index.checkpoints());
  statistics.n_blobs = state.index.n_blobs();
  statistics.n_queued = std::ssize(state.queue);
  return statistics;
}

std::vector<std::string> DiskStore::take_notices() {
  const std::lock_guard lock(parts_->state.mutex);
  return std::exchange(parts_->state.notices, {});
}

}  // namespace ds4
