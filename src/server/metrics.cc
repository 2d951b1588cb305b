#include "server/metrics.h"

#include <algorithm>

#include <fmt/format.h>

namespace ds4 {
namespace {

// Rates are over so much time, while there is work.
constexpr int64_t kRateWindowUs = 10'000'000;
constexpr int64_t kRatePointUs = 250'000;

void write_head(std::string_view name, std::string_view type, std::string_view help, std::string& out) {
  out += fmt::format("# HELP {} {}\n# TYPE {} {}\n", name, help, name, type);
}

template <class Value>
void write_one(std::string_view name, std::string_view type, std::string_view help, Value value, std::string& out) {
  write_head(name, type, help, out);
  out += fmt::format("{} {}\n", name, value);
}

}  // namespace

void LatencyHistogram::observe_us(int64_t us) {
  const double seconds = static_cast<double>(us) / 1e6;
  const auto bucket = std::ranges::lower_bound(kLatencyBounds, seconds) - kLatencyBounds.begin();
  counts_[static_cast<size_t>(bucket)].fetch_add(1, std::memory_order_relaxed);
  sum_us_.fetch_add(us, std::memory_order_relaxed);
}

void LatencyHistogram::write(std::string_view name, std::string_view help, std::string& out) const {
  write_head(name, "histogram", help, out);
  uint64_t n = 0;
  for (size_t i = 0; i < kLatencyBounds.size(); ++i) {
    n += counts_[i].load(std::memory_order_relaxed);
    out += fmt::format("{}_bucket{{le=\"{}\"}} {}\n", name, kLatencyBounds[i], n);
  }
  n += counts_.back().load(std::memory_order_relaxed);
  out += fmt::format("{}_bucket{{le=\"+Inf\"}} {}\n", name, n);
  out += fmt::format("{}_sum {}\n", name, static_cast<double>(sum_us_.load(std::memory_order_relaxed)) / 1e6);
  out += fmt::format("{}_count {}\n", name, n);
}

void Metrics::request_ended(std::string_view endpoint, int status, int64_t duration_us) {
  n_in_flight_ -= 1;
  request_duration_.observe_us(duration_us);
  count_request(endpoint, status);
}

void Metrics::count_request(std::string_view endpoint, int status) {
  const std::lock_guard lock(mutex_);
  ++requests_[{std::string(endpoint), status}];
}

void Metrics::generation_ended(std::string_view finish, const Usage* usage, int64_t duration_us) {
  if (usage != nullptr) {
    n_prompt_tokens_ += usage->prompt_tokens;
    n_cached_tokens_ += usage->cached_tokens;
    n_generated_tokens_ += usage->completion_tokens;
  }
  generation_duration_.observe_us(duration_us);
  const std::lock_guard lock(mutex_);
  ++finishes_[std::string(finish)];
}

void Metrics::publish(const EngineState& state, int64_t now_us) {
  const std::lock_guard lock(mutex_);
  state_ = state;
  // The newest point moves until it is old enough to stay.
  const bool is_new = rate_points_.size() < 2 || now_us - (rate_points_.end() - 2)->at_us >= kRatePointUs;
  if (!is_new) rate_points_.pop_back();
  rate_points_.push_back({now_us, state_.n_prefilled_tokens, state_.n_decoded_tokens});
  while (rate_points_.size() > 2 && now_us - rate_points_[1].at_us >= kRateWindowUs) rate_points_.pop_front();
}

EngineState Metrics::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

std::string Metrics::text() const {
  std::string out;
  write_requests(out);
  request_duration_.write("ds4_http_request_duration_seconds", "From a request's arrival to the end of its answer.",
                          out);
  write_one("ds4_prompt_tokens_total", "counter", "Prompt tokens of ended requests.", n_prompt_tokens_.load(), out);
  write_one("ds4_cached_tokens_total", "counter", "Those of them that were not computed again.",
            n_cached_tokens_.load(), out);
  write_one("ds4_generated_tokens_total", "counter", "Tokens of answers.", n_generated_tokens_.load(), out);
  time_to_first_token.write("ds4_time_to_first_token_seconds",
                            "From a request's handing over to the first text, reasoning or tool call.", out);
  time_between_outputs.write("ds4_inter_token_seconds", "Between two pieces of output of one request.", out);
  generation_duration_.write("ds4_generation_duration_seconds", "From a request's handing over to its end.", out);
  write_engine(out);
  return out;
}

void Metrics::write_requests(std::string& out) const {
  write_one("ds4_http_requests_in_flight", "gauge", "Requests whose answer has not ended.", n_in_flight_.load(), out);
  const std::lock_guard lock(mutex_);
  write_head("ds4_http_requests_total", "counter", "Answers by path and status.", out);
  for (const auto& [key, n] : requests_) {
    out += fmt::format("ds4_http_requests_total{{endpoint=\"{}\",status=\"{}\"}} {}\n", key.first, key.second, n);
  }
  write_head("ds4_generations_total", "counter", "Generations by how they ended.", out);
  for (const auto& [finish, n] : finishes_)
    out += fmt::format("ds4_generations_total{{finish=\"{}\"}} {}\n", finish, n);
}

void Metrics::write_engine(std::string& out) const {
  const std::lock_guard lock(mutex_);
  write_one("ds4_queue_depth", "gauge", "Requests without a slot.", state_.n_waiting, out);
  write_one("ds4_running_slots", "gauge", "Requests that are being computed.", state_.n_running, out);
  write_one("ds4_slots", "gauge", "Requests that can be computed at once.", state_.n_slots, out);
  write_one("ds4_preemptions_total", "counter", "Requests that had to give way to others.", state_.n_preemptions, out);
  write_one("ds4_prefilled_tokens_total", "counter", "Prompt tokens computed.", state_.n_prefilled_tokens, out);
  write_one("ds4_decoded_tokens_total", "counter", "Answer tokens computed.", state_.n_decoded_tokens, out);
  double prefill_rate = 0;
  double decode_rate = 0;
  if (rate_points_.size() >= 2 && state_.n_running > 0) {
    const RatePoint& first = rate_points_.front();
    const RatePoint& last = rate_points_.back();
    const double seconds = std::max(static_cast<double>(last.at_us - first.at_us) / 1e6, 1e-6);
    prefill_rate = static_cast<double>(last.n_prefilled - first.n_prefilled) / seconds;
    decode_rate = static_cast<double>(last.n_decoded - first.n_decoded) / seconds;
  }
  write_one("ds4_prefill_tokens_per_second", "gauge", "Over the last seconds; 0 while nothing runs.", prefill_rate,
            out);
  write_one("ds4_decode_tokens_per_second", "gauge", "Over the last seconds, of all requests together.", decode_rate,
            out);
  write_one("ds4_kv_pages_used", "gauge", "KV pages of running and remembered sequences.", state_.kv_pages_used, out);
  write_one("ds4_kv_pages", "gauge", "KV pages that there are.", state_.kv_pages_total, out);
  write_memory(state_, out);
}

void Metrics::write_memory(const EngineState& state, std::string& out) {
  if (state.sessions) {
    const SessionStatistics& sessions = *state.sessions;
    write_one("ds4_checkpoints_saved_total", "counter", "Checkpoints taken.", sessions.n_saved, out);
    write_one("ds4_checkpoints_restored_total", "counter", "Prompts that began with one.", sessions.n_restored, out);
    write_one("ds4_checkpoints_loaded_total", "counter", "Those that came from disk.", sessions.n_loaded, out);
  }
  if (!state.disk) return;
  const DiskStoreStatistics& disk = *state.disk;
  write_one("ds4_disk_store_bytes", "gauge", "Size of the disk store.", disk.disk_bytes, out);
  write_one("ds4_disk_store_live_bytes", "gauge", "The part that can be read.", disk.live_bytes, out);
  write_one("ds4_disk_store_queued_bytes", "gauge", "What waits to be written.", disk.queued_bytes, out);
  write_one("ds4_disk_store_checkpoints", "gauge", "Checkpoints on disk.", disk.n_checkpoints, out);
  write_one("ds4_disk_store_pages", "gauge", "KV pages on disk.", disk.n_pages, out);
  write_one("ds4_disk_store_written_bytes_total", "counter", "Everything written.", disk.written_bytes, out);
  write_one("ds4_disk_store_evicted_checkpoints_total", "counter", "Checkpoints given up for others.",
            disk.n_evicted_checkpoints, out);
  write_one("ds4_disk_store_damaged_total", "counter", "Records that could not be used.", disk.n_dropped_damaged, out);
  write_one("ds4_disk_store_failed_writes_total", "counter", "Writes that the disk refused.", disk.n_failed_writes,
            out);
}

}  // namespace ds4
