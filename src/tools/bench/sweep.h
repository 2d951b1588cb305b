#pragma once

// The frontier method: one sequence grows through a prompt; at certain lengths the time of the last piece of prompt
// and of a number of decoded tokens is taken, and the decoded tokens are forgotten again. prefill_tps is therefore the
// rate of that piece at that depth, not of a whole prompt. One thread.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/error.h"
#include "tools/bench/bench_options.h"
#include "tools/bench/runner.h"

namespace ds4 {

struct SweepRow {
  int32_t ctx_tokens = 0;
  int32_t prefill_tokens = 0;
  Spread prefill_tps;
  int32_t gen_tokens = 0;
  Spread gen_tps;
  Spread gen_steady_tps;  // without the first step
  uint64_t kvcache_bytes = 0;
};

// The lengths at which a sweep measures: ascending, the last is ctx_max.
std::vector<int32_t> sweep_frontiers(const SweepOptions& options);

// The prompt as ids, at least ctx_max of them. Errors: no vocabulary, too short.
Result<std::vector<int32_t>> sweep_tokens(const SweepOptions& options, const Subject& subject);

struct SweepSettings {
  int32_t gen_tokens = 128;
  int32_t repeat = 1;
  int32_t warmup = 1;
  std::string logits_dir;
};

// Calls on_row after every frontier.
Result<void> run_sweep(Runner& runner, const Subject& subject, std::span<const int32_t> tokens,
                       std::span<const int32_t> frontiers, const SweepSettings& settings,
                       const std::function<Result<void>(const SweepRow&)>& on_row);

// "ctx_tokens,prefill_tokens,prefill_tps,gen_tokens,gen_tps,kvcache_bytes", and a line of it.
std::string sweep_csv_header();
std::string sweep_csv_line(const SweepRow& row);

}  // namespace ds4
