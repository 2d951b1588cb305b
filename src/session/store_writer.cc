#include "session/store_writer.h"

#include <algorithm>

namespace ds4 {

namespace {

using std::chrono::steady_clock;

constexpr int kMaxDoublings = 6;
// Sealing a segment may take some bytes of the room that was made.
constexpr int kAttempts = 3;

}  // namespace

void StoreWriter::run() {
  Lock lock(state_.mutex);
  for (;;) {
    wait_for_work(lock);
    if (!state_.queue.empty() && may_write()) {
      write_front(lock);
      continue;
    }
    if (state_.flushes_asked > state_.flushes_done) finish_flush(lock, {});
    if (!state_.stopping) continue;
    drop_queue();
    finish_flush(lock, {});
    return;
  }
}

bool StoreWriter::may_write() const {
  if (state_.stopping) return !failed_while_stopping_ && steady_clock::now() < state_.stop_deadline;
  return state_.hurried() || steady_clock::now() >= paused_until_;
}

void StoreWriter::wait_for_work(Lock& lock) {
  const auto urgent = [this] { return state_.hurried(); };
  const auto any = [this] { return state_.hurried() || !state_.queue.empty(); };
  state_.work.wait(lock, any);
  if (steady_clock::now() < paused_until_) state_.work.wait_until(lock, paused_until_, urgent);
}

void StoreWriter::write_front(Lock& lock) {
  const std::shared_ptr<const QueuedRecord> record = state_.queue.front();
  lock.unlock();
  const auto written = write(*record);
  lock.lock();
  if (!written.ok()) {
    failed(*record, written.error());
    if (state_.flushes_asked > state_.flushes_done) finish_flush(lock, {written.error()});
    return;
  }
  if (n_failures_ > 0) state_.notice("the disk store writes again");
  n_failures_ = 0;
  state_.counts.paused = false;
  if (written.value().outcome == Outcome::kWritten) publish(*record, written.value());
  pop_front(written.value().outcome);
}

Result<StoreWriter::Written> StoreWriter::write(const QueuedRecord& record) {
  const uint64_t most = StoreSpace::limit_bytes(state_.options);
  {
    const std::lock_guard lock(state_.mutex);
    if (!state_.index.has_parent(record.header)) return Written{};
    if (SegmentWriter::sealed_bytes_alone(record.header) > most) {
      state_.notice(fmt::format("a record of {} bytes does not fit into the disk store's budget of {}",
                                record_bytes(record.header), state_.options.budget_bytes));
      return Written{};
    }
  }
  RecordHeader header = record.header;
  header.payload_checksum = checksum_of(record.payload);
  for (int attempt = 1;; ++attempt) {
    const bool has_room = (n_failures_ > 0 && space_.make_room(header, std::min(most, retry_limit_bytes_))) ||
                          space_.make_room(header, most);
    if (!has_room) return Written{};
    auto place = log_.append(header, record.meta, record.payload);
    if (place.ok()) return Written{Outcome::kWritten, header, place.value()};
    if (place.error().code != ErrorCode::kOutOfMemory || attempt == kAttempts) return place.take_error();
  }
}

void StoreWriter::publish(const QueuedRecord& record, const Written& written) {
  const RecordHeader& header = written.header;
  // Its parent may have been found damaged meanwhile.
  if (!state_.index.has_parent(header)) return;
  std::vector<int32_t> tail_tokens;
  if (header.kind == RecordKind::kCheckpoint) tail_tokens = decode_tokens(record.meta);
  state_.index.add(header, written.place, std::move(tail_tokens));
  if (header.kind != RecordKind::kBlob) return;
  constexpr uint64_t kMaxBlobsBytes = uint64_t{64} << 20;
  constexpr uint64_t kBudgetParts = 16;
  state_.index.limit_blobs(std::min(kMaxBlobsBytes, state_.options.budget_bytes / kBudgetParts));
}

void StoreWriter::pop_front(Outcome outcome) {
  const std::shared_ptr<const QueuedRecord> record = state_.queue.front();
  state_.queue.pop_front();
  state_.queued_bytes -= record_bytes(record->header);
  auto& queued = state_.queued(record->header.kind);
  if (const auto it = queued.find(record->header.key); it->second == record) queued.erase(it);
  if (record->header.parent != Hash128{}) state_.index.unpin(record->header.parent);
  if (outcome == Outcome::kDropped) ++state_.counts.n_dropped_queued;
}

void StoreWriter::failed(const QueuedRecord& record, const Error& error) {
  const auto pause = std::chrono::milliseconds(state_.options.retry_ms << std::min(n_failures_, kMaxDoublings));
  if (n_failures_ == 0) state_.notice("the disk store pauses writing: " + error.message);
  ++n_failures_;
  ++state_.counts.n_failed_writes;
  state_.counts.paused = true;
  failed_while_stopping_ = state_.stopping;
  paused_until_ = steady_clock::now() + pause;
  retry_limit_bytes_ = std::max(state_.index.disk_bytes(), SegmentWriter::sealed_bytes_alone(record.header));
}

void StoreWriter::drop_queue() {
  while (!state_.queue.empty()) pop_front(Outcome::kDropped);
}

void StoreWriter::finish_flush(Lock& lock, std::vector<Error> errors) {
  const uint64_t asked = state_.flushes_asked;
  lock.unlock();
  if (auto usage = log_.write_usage(); !usage.ok()) errors.push_back(usage.take_error());
  if (auto synced = log_.sync(); !synced.ok()) errors.push_back(synced.take_error());
  lock.lock();
  state_.flush_errors = std::move(errors);
  state_.flushes_done = asked;
  state_.done.notify_all();
}

}  // namespace ds4
