#include "session/segment_log.h"

#include <chrono>

namespace ds4 {

namespace {

int64_t steady_us(std::chrono::steady_clock::time_point time) {
  return std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count();
}

}  // namespace

Result<void> SegmentLog::resume(const SegmentScan& scan) {
  const uint32_t number = scan.header.number;
  auto file = TRY(state_.files.open_for_writing(state_.path_of(number)));
  active_ = TRY(SegmentWriter::resume(std::move(file), scan));
  count_file(number, active_->sealed_bytes());
  return {};
}

bool SegmentLog::fits_active(const RecordHeader& header) const {
  return active_ && (active_->empty() || active_->sealed_bytes_with(header) <= state_.options.segment_bytes);
}

uint64_t SegmentLog::growth(const RecordHeader& header) const {
  if (fits_active(header)) return active_->sealed_bytes_with(header) - active_->sealed_bytes();
  return SegmentWriter::sealed_bytes_alone(header);
}

Result<RecordPlace> SegmentLog::append(const RecordHeader& header, std::span<const std::byte> meta,
                                       std::span<const std::byte> payload) {
  wait_for_rate(record_bytes(header));
  if (!fits_active(header)) {
    // With the usage of checkpoints as it is, for a crash keeps what was sealed.
    if (active_) TRY(write_usage());
    seal();
  }
  {
    const std::lock_guard lock(state_.mutex);
    const uint64_t wanted = state_.index.disk_bytes() + growth(header);
    if (wanted > most_bytes_) {
      return make_error(ErrorCode::kOutOfMemory, "{}: {} bytes would exceed the budget of {}", state_.options.directory,
                        wanted, most_bytes_);
    }
  }
  if (!active_) TRY(begin_segment());
  return append_to_active(header, meta, payload);
}

Result<void> SegmentLog::begin_segment() {
  const uint32_t number = ++last_number_;
  const SegmentHeader header{.identity = state_.options.identity,
                             .page_bytes = state_.options.page_bytes,
                             .number = number,
                             .created_s = state_.clock.unix_s()};
  const uint64_t seed = segment_seed(encode_segment_header(header));
  {
    const std::lock_guard lock(state_.mutex);
    state_.index.add_segment(number,
                             {.identity = header.identity, .ours = true, .seed = seed, .modified_s = header.created_s});
    state_.index.set_file_bytes(number, kSegmentHeaderBytes);
  }
  const std::string path = state_.path_of(number);
  auto file = state_.files.create(path);
  auto writer = file.ok() ? SegmentWriter::start(file.take_value(), header) : Result<SegmentWriter>(file.take_error());
  if (writer.ok()) {
    active_.emplace(writer.take_value());
    count_file(number, active_->sealed_bytes());
    return {};
  }
  // What cannot be removed stays counted.
  const auto removed = state_.files.remove(path);
  const std::lock_guard lock(state_.mutex);
  if (removed.ok() || removed.error().code == ErrorCode::kNotFound) state_.index.remove_segment(number);
  return writer.take_error();
}

Result<RecordPlace> SegmentLog::append_to_active(const RecordHeader& header, std::span<const std::byte> meta,
                                                 std::span<const std::byte> payload) {
  const uint32_t number = active_->number();
  count_file(number, active_->sealed_bytes_with(header));
  auto offset = active_->append(header, meta, payload);
  if (offset.ok()) {
    const std::lock_guard lock(state_.mutex);
    state_.counts.written_bytes += record_bytes(header);
    if (header.kind == RecordKind::kCheckpoint) {
      ++state_.counts.n_written_checkpoints;
      state_.counts.written_checkpoint_bytes += record_bytes(header);
    }
    return RecordPlace{number, header.meta_bytes, offset.value(), header.payload_bytes};
  }
  count_file(number, active_->damaged() ? active_->size_limit_bytes() : active_->sealed_bytes());
  if (active_->damaged()) active_.reset();
  return offset.take_error();
}

void SegmentLog::seal() {
  if (!active_) return;
  const uint32_t number = active_->number();
  const auto sealed = active_->seal();
  count_file(number, active_->size_limit_bytes());
  active_.reset();
  if (sealed.ok()) return;
  const std::lock_guard lock(state_.mutex);
  ++state_.counts.n_failed_writes;
}

Result<void> SegmentLog::sync() { return active_ ? active_->sync() : Result<void>(); }

Result<void> SegmentLog::write_usage() {
  std::vector<UsageEntry> entries;
  {
    const std::lock_guard lock(state_.mutex);
    entries = state_.index.changed_usage();
  }
  if (entries.empty()) return {};
  const std::vector<std::byte> payload = encode_usage(entries);
  const RecordHeader header{.kind = RecordKind::kUsage,
                            .n_tokens = static_cast<int32_t>(entries.size()),
                            .payload_bytes = payload.size(),
                            .payload_checksum = checksum_of(payload),
                            .used_s = state_.clock.unix_s()};
  // Into the segment that is there even when that is full: this must not begin another one.
  const uint64_t more = active_ ? active_->sealed_bytes_with(header) - active_->sealed_bytes()
                                : SegmentWriter::sealed_bytes_alone(header);
  {
    const std::lock_guard lock(state_.mutex);
    if (state_.index.disk_bytes() + more > most_bytes_) return {};
  }
  if (!active_) TRY(begin_segment());
  const RecordPlace place = TRY(append_to_active(header, {}, payload));
  const std::lock_guard lock(state_.mutex);
  state_.index.usage_written(entries, place.segment);
  return {};
}

void SegmentLog::wait_for_rate(uint64_t n_bytes) {
  using std::chrono::steady_clock;
  std::unique_lock lock(state_.mutex);
  const auto start = steady_clock::now();
  const auto free_at = start + std::chrono::microseconds(limiter_.wait_us(steady_us(start)));
  state_.work.wait_until(lock, free_at, [this] { return state_.hurried(); });
  limiter_.spend(n_bytes, steady_us(steady_clock::now()));
}

void SegmentLog::count_file(uint32_t number, uint64_t file_bytes) {
  const std::lock_guard lock(state_.mutex);
  state_.index.set_file_bytes(number, file_bytes);
}

}  // namespace ds4
