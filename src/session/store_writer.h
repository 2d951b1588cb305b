#pragma once

// The write-behind thread of a disk store: takes records from the front of the queue, makes room, writes, publishes.
// When a write fails it keeps what is queued and tries again later, without growing: the disk may be full, so it first
// gives back as many bytes as it wants to write. The object lives on the thread that runs it.

#include <chrono>
#include <cstdint>
#include <mutex>

#include "session/segment_log.h"
#include "session/store_space.h"
#include "session/store_state.h"

namespace ds4 {

class StoreWriter {
 public:
  StoreWriter(StoreState& state, SegmentLog& log, StoreSpace& space) : state_(state), log_(log), space_(space) {}

  // Until state.stopping, and then until the queue is empty or the deadline has passed.
  void run();

 private:
  using Lock = std::unique_lock<std::mutex>;
  enum class Outcome { kWritten, kDropped };

  bool may_write() const;
  void wait_for_work(Lock& lock);
  void write_front(Lock& lock);
  struct Written {
    Outcome outcome = Outcome::kDropped;
    RecordHeader header;  // as it is on disk
    RecordPlace place;
  };
  Result<Written> write(const QueuedRecord& record);
  void publish(const QueuedRecord& record, const Written& written);
  // The front of the queue is done with, one way or the other.
  void pop_front(Outcome outcome);
  void failed(const QueuedRecord& record, const Error& error);
  void drop_queue();
  void finish_flush(Lock& lock, std::vector<Error> errors);

  StoreState& state_;
  SegmentLog& log_;
  StoreSpace& space_;
  int n_failures_ = 0;  // since the last success
  bool failed_while_stopping_ = false;
  std::chrono::steady_clock::time_point paused_until_;
  uint64_t retry_limit_bytes_ = 0;  // most bytes on disk after the retry: what was there when the write failed
};

}  // namespace ds4
