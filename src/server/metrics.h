#pragma once

// What the server counts, for GET /metrics: requests and their answers, tokens, latencies, and the state of the engine
// as its thread saw it last. The text is Prometheus' exposition format 0.0.4. Counters are atomics; a mutex guards what
// is touched once per request or step. Any thread.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "chat/events.h"
#include "session/disk_store.h"
#include "session/session_store.h"

namespace ds4 {

// Bucket bounds in seconds; they serve from one token to a long answer.
inline constexpr std::array kLatencyBounds{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1,  0.25, 0.5,
                                           1.0,   2.5,    5.0,   10.0, 25.0,  50.0, 100., 250., 500.};

class LatencyHistogram {
 public:
  void observe_us(int64_t us);
  // HELP, TYPE, buckets, sum and count.
  void write(std::string_view name, std::string_view help, std::string& out) const;

 private:
  std::array<std::atomic<uint64_t>, kLatencyBounds.size() + 1> counts_{};  // the last: above all bounds
  std::atomic<int64_t> sum_us_{0};
};

// A look at the scheduler, its KV memory and what is remembered.
struct EngineState {
  size_t n_waiting = 0;
  size_t n_running = 0;
  size_t n_slots = 0;
  uint64_t n_preemptions = 0;
  uint64_t n_prefilled_tokens = 0;
  uint64_t n_decoded_tokens = 0;
  int64_t kv_pages_used = 0;
  int64_t kv_pages_total = 0;
  std::optional<SessionStatistics> sessions;
  std::optional<DiskStoreStatistics> disk;
};

class Metrics {
 public:
  // A request reached a path. `endpoint` is one of the server's own names.
  void request_began() { n_in_flight_ += 1; }
  void request_ended(std::string_view endpoint, int status, int64_t duration_us);
  // One that was refused before it reached any.
  void request_refused(int status) { count_request("none", status); }
  size_t n_in_flight() const { return n_in_flight_; }

  // Of generations.
  void generation_ended(std::string_view finish, const Usage* usage, int64_t duration_us);
  LatencyHistogram time_to_first_token;
  LatencyHistogram time_between_outputs;

  // By the engine's thread.
  void publish(const EngineState& state, int64_t now_us);
  EngineState state() const;

  std::string text() const;

 private:
  struct RatePoint {
    int64_t at_us;
    uint64_t n_prefilled;
    uint64_t n_decoded;
  };
  void count_request(std::string_view endpoint, int status);
  void write_requests(std::string& out) const;
  void write_engine(std::string& out) const;
  static void write_memory(const EngineState& state, std::string& out);

  std::atomic<size_t> n_in_flight_{0};
  std::atomic<uint64_t> n_prompt_tokens_{0};
  std::atomic<uint64_t> n_cached_tokens_{0};
  std::atomic<uint64_t> n_generated_tokens_{0};
  LatencyHistogram request_duration_;
  LatencyHistogram generation_duration_;

  mutable std::mutex mutex_;  // guards what follows
  std::map<std::pair<std::string, int>, uint64_t> requests_;
  std::map<std::string, uint64_t, std::less<>> finishes_;
  EngineState state_;
  std::deque<RatePoint> rate_points_;  // ascending, over the last seconds
};

}  // namespace ds4
