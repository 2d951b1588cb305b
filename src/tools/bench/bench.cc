#include "tools/bench/bench.h"

#include <algorithm>
#include <cstdio>

#include "base/file.h"
#include "tools/bench/report.h"

namespace ds4 {

namespace {

constexpr int32_t kRepeats = 3;

Result<void> write_text(const std::string& path, const std::string& text) {
  if (path != "-") return atomic_write(path, std::as_bytes(std::span(text)));
  std::fwrite(text.data(), 1, text.size(), stdout);
  return {};
}

int32_t largest(const std::vector<int32_t>& values) {
  return values.empty() ? 0 : *std::max_element(values.begin(), values.end());
}

RunnerOptions measure_options(const BenchOptions& options) {
  const int32_t decode_ctx = options.sequence_counts.empty() ? 0 : options.decode_ctx + options.gen_tokens;
  return {.n_slots = std::max(largest(options.sequence_counts), 1),
          .ctx_tokens = std::max({largest(options.prefill_lengths), decode_ctx, 1}) + 1,
          .chunk_tokens = options.chunk_tokens,
          .repeat = options.repeat > 0 ? options.repeat : kRepeats,
          .warmup = options.warmup,
          .fill_kv = options.fill_kv};
}

// Progress, where nobody reads stdout as data.
void say(const std::string& text) { fmt::print(stderr, "ds4-bench: {}\n", text); }

Result<void> measure(const BenchOptions& options, Runner& runner, BenchReport& report) {
  for (const int32_t n_tokens : options.prefill_lengths) {
    report.prefill.push_back(TRY(runner.prefill(n_tokens)));
    say(fmt::format("prefill {}: {:.2f} tokens/s", n_tokens, report.prefill.back().tokens_per_s.median));
  }
  for (const int32_t n_sequences : options.sequence_counts) {
    report.decode.push_back(TRY(runner.decode(n_sequences, options.decode_ctx, options.gen_tokens)));
    const DecodeResult& result = report.decode.back();
    say(fmt::format("decode {} at {}: {:.2f} tokens/s", n_sequences, result.ctx_tokens, result.tokens_per_s.median));
  }
  report.peak_memory_bytes = process_memory().peak_resident_bytes;
  if (!options.profile_ops) return {};
  for (const int32_t n_tokens : options.prefill_lengths) {
    report.profiles.push_back({fmt::format("prefill of {} tokens", n_tokens), TRY(runner.profile_prefill(n_tokens))});
  }
  for (const int32_t n_sequences : options.sequence_counts) {
    report.profiles.push_back({fmt::format("decode of {} tokens by {} sequences", options.gen_tokens, n_sequences),
                               TRY(runner.profile_decode(n_sequences, options.decode_ctx, options.gen_tokens))});
  }
  return {};
}

Result<void> sweep(const BenchOptions& options, Subject& subject, const Clock& clock, BenchReport& report) {
  const SweepOptions& wanted = options.sweep;
  const std::vector<int32_t> tokens = TRY(sweep_tokens(wanted, subject));
  const int32_t ctx_tokens = wanted.ctx_alloc > 0 ? wanted.ctx_alloc : wanted.ctx_max + options.gen_tokens + 1;
  const auto runner =
      TRY(Runner::create(subject, {.ctx_tokens = ctx_tokens, .chunk_tokens = options.chunk_tokens}, clock));
  const SweepSettings settings{.gen_tokens = options.gen_tokens,
                               .repeat = std::max(options.repeat, 1),
                               .warmup = options.warmup,
                               .logits_dir = wanted.logits_dir};
  std::FILE* csv = stdout;
  if (!wanted.csv_path.empty()) csv = std::fopen(wanted.csv_path.c_str(), "w");
  if (csv == nullptr) return make_error(ErrorCode::kIo, "{}: cannot be written", wanted.csv_path);
  fmt::print(csv, "{}", sweep_csv_header());
  const auto on_row = [&](const SweepRow& row) -> Result<void> {
    fmt::print(csv, "{}", sweep_csv_line(row));
    std::fflush(csv);
    report.sweep.push_back(row);
    return {};
  };
  Result<void> result = run_sweep(*runner, subject, tokens, sweep_frontiers(wanted), settings, on_row);
  if (csv != stdout && std::fclose(csv) != 0 && result.ok()) {
    result = make_error(ErrorCode::kIo, "{}: cannot be written", wanted.csv_path);
  }
  report.peak_memory_bytes = process_memory().peak_resident_bytes;
  return result;
}

void warm_weights(const GgufFile& file) {
  constexpr uint64_t kPageBytes = 4096;
  uint64_t sum = 0;
  for (const TensorInfo& tensor : file.tensors()) {
    const std::byte* data = file.view(tensor).data<std::byte>();
    for (uint64_t at = 0; at < tensor.size_bytes; at += kPageBytes) sum += static_cast<uint64_t>(data[at]);
  }
  say(fmt::format("weights read, checksum {}", sum));
}

Result<void> measure_start(const BenchOptions& options, const Subject& subject, Runner& runner, int64_t loaded_us,
                           BenchReport& report) {
  // A device has read them all, or made them.
  if (options.warm_weights && !subject.backend->device_memory()) warm_weights(*subject.model->file);
  const int64_t step_us = TRY(runner.first_step_us());
  report.start_up = {.first_token_ms = static_cast<double>(loaded_us + step_us) * 1e-3,
                     .first_step_ms = static_cast<double>(step_us) * 1e-3,
                     .resident_bytes = process_memory().resident_bytes,
                     .storage_read_bytes = storage_read_bytes()};
  return {};
}

// Pages for what repetitions start from are counted as in Runner::create.
SubjectOptions with_plan(const BenchOptions& options) {
  const RunnerOptions runner = measure_options(options);
  SubjectOptions subject = options.subject;
  subject.plan_slots = runner.n_slots + 2;
  subject.plan_ctx_tokens = runner.ctx_tokens;
  subject.plan_chunk_tokens = runner.chunk_tokens;
  return subject;
}

}  // namespace

Result<void> run_bench(const BenchOptions& options, const Clock& clock, int64_t start_us) {
  BenchReport report{.started = utc_time_now(), .machine = machine_info(), .chunk_tokens = options.chunk_tokens};
  Subject subject = TRY(load_subject(with_plan(options), clock));
  const auto runner = TRY(Runner::create(subject, measure_options(options), clock));
  report.kv = runner->cache().layout();
  TRY(measure_start(options, subject, *runner, clock.elapsed_us(start_us) - subject.make_us - subject.save_us, report));
  if (const auto memory = subject.backend->device_memory()) {
    report.device_memory = memory;
    if (!options.no_limits) report.limits = TRY(measure_device(report.device_name));
  } else {
    ThreadPool threads(options.subject.engine.n_threads);
    report.n_threads = threads.n_threads();
    if (!options.no_limits) report.limits = TRY(measure_limits(*subject.backend, threads, clock));
  }
  // The buffers of the limits are no part of what the model needs.
  if (report.limits && !reset_peak_memory()) say("the peak of memory includes the buffers that measured the limits");
  TRY(measure(options, *runner, report));
  if (options.sweep.is_wanted()) TRY(sweep(options, subject, clock, report));

  const bool stdout_is_data = options.json_path == "-" || (options.sweep.is_wanted() && options.sweep.csv_path.empty());
  fmt::print(stdout_is_data ? stderr : stdout, "{}", report_text(report, subject));
  if (!options.json_path.empty()) TRY(write_text(options.json_path, report_json(report, subject)));
  if (!options.svg_path.empty()) TRY(write_text(options.svg_path, report_svg(report, subject)));
  return {};
}

}  // namespace ds4
