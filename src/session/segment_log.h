#pragma once

// The end of the log: appends records to the segment that is being written, seals it when it is full and begins the
// next one. Keeps the index's count of bytes on disk: a file is counted as long as it will be when sealed, before it
// grows. Belongs to the writer thread (and to open() before that thread starts).

#include <cstdint>
#include <optional>
#include <span>

#include "session/rate_limiter.h"
#include "session/store_state.h"

namespace ds4 {

class SegmentLog {
 public:
  SegmentLog(StoreState& state, uint32_t last_number)
      : state_(state),
        last_number_(last_number),
        most_bytes_(state.options.budget_bytes),
        limiter_(state.options.write_bytes_per_s) {}

  // Goes on with a segment that an earlier run left unsealed.
  Result<void> resume(const SegmentScan& scan);

  // By how much the bytes on disk would grow.
  uint64_t growth(const RecordHeader& header) const;
  // Waits for the rate, then writes. Errors: kOutOfMemory when it would exceed the budget; what the disk says.
  Result<RecordPlace> append(const RecordHeader& header, std::span<const std::byte> meta,
                             std::span<const std::byte> payload);
  // The most bytes on disk, the budget at first. More only for who has just removed more: a budget that was lowered
  // between two runs is reached step by step.
  void set_most_bytes(uint64_t n_bytes) { most_bytes_ = n_bytes; }
  // Seals what is being written, if anything is; a failure costs the next open some time, not data.
  void seal();
  // Everything that was appended reaches the disk.
  Result<void> sync();
  // Appends the usage of checkpoints that has changed, where the budget allows.
  Result<void> write_usage();
  // 0: none is being written.
  uint32_t active_number() const { return active_ ? active_->number() : 0; }

 private:
  bool fits_active(const RecordHeader& header) const;
  Result<void> begin_segment();
  Result<RecordPlace> append_to_active(const RecordHeader& header, std::span<const std::byte> meta,
                                       std::span<const std::byte> payload);
  void wait_for_rate(uint64_t n_bytes);
  void count_file(uint32_t number, uint64_t file_bytes);

  StoreState& state_;
  std::optional<SegmentWriter> active_;
  uint32_t last_number_;
  uint64_t most_bytes_;
  RateLimiter limiter_;
};

}  // namespace ds4
