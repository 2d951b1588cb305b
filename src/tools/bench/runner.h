#pragma once

// Runs steps of a model and takes their times: prompts of given lengths, and decoding of one or many sequences at once.
// A measurement is repeated from the same KV state, so that every repetition computes the same; its result is the
// median with the spread. Tokens are random but the same in every run, except where the caller gives them. One thread.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "backends/backend_with_ops.h"
#include "base/clock.h"
#include "model/forward.h"
#include "model/kv_cache.h"
#include "ops/profile_ops.h"
#include "tools/bench/spread.h"
#include "tools/bench/subject.h"

namespace ds4 {

struct RunnerOptions {
  int32_t n_slots = 1;
  int32_t ctx_tokens = 0;
  int32_t chunk_tokens = 0;
  int32_t repeat = 1;
  int32_t warmup = 0;
  bool fill_kv = false;  // contexts before decoding are copies of their first tokens' KV rows, not computed
};

struct PrefillResult {
  int32_t n_tokens = 0;
  Spread tokens_per_s;
  Spread first_token_ms;  // until the first token of the answer is known
  double macs_per_token = 0;
  double macs_per_s = 0;  // at the median
};

struct DecodeResult {
  int32_t n_sequences = 0;
  int32_t ctx_tokens = 0;  // in every sequence before the first step
  int32_t gen_tokens = 0;
  Spread tokens_per_s;          // of all sequences together; one value per repetition
  Spread steady_tokens_per_s;   // without the first step
  Spread step_ms;               // of every step
  double distinct_experts = 0;  // per layer and step
  double bytes_per_step = 0;    // that a step must read
  double macs_per_step = 0;
  double bytes_per_s = 0;  // at the median
  double macs_per_s = 0;
  size_t recorded_nodes = 0;  // kernels and copies of a step that a device replays; 0: it does not
  bool filled = false;        // RunnerOptions::fill_kv
};

class Runner {
 public:
  static Result<std::unique_ptr<Runner>> create(Subject& subject, const RunnerOptions& options, const Clock& clock);

  const KvCache& cache() const { return *cache_; }
  std::vector<int32_t> random_tokens(int32_t n_tokens) const;

  // A first step of one token and its time: pages of the file come in as they are needed.
  Result<int64_t> first_step_us();
  Result<PrefillResult> prefill(int32_t n_tokens);
  // n_sequences copies of a prompt of ctx_tokens, each decoded with tokens of its own.
  Result<DecodeResult> decode(int32_t n_sequences, int32_t ctx_tokens, int32_t gen_tokens);
  // Where the time of a prompt, or of decoding, goes.
  Result<std::vector<OpProfile>> profile_prefill(int32_t n_tokens);
  Result<std::vector<OpProfile>> profile_decode(int32_t n_sequences, int32_t ctx_tokens, int32_t gen_tokens);

  // Appends tokens of a prompt in chunks; the logits of the last one.
  Result<std::span<const float>> append(ForwardPass& forward, KvState& kv, std::span<const int32_t> tokens) {
    return append(forward, kv, tokens, subject_.steering_settings.for_prompt());
  }
  // A token of the answer.
  Result<std::span<const float>> append_chosen(KvState& kv, int32_t token) {
    return append(*forward_, kv, {&token, 1}, subject_.steering_settings.for_output());
  }
  ForwardPass& forward() { return *forward_; }
  Result<KvState> new_sequence() { return cache_->new_sequence(); }

 private:
  struct DecodeState;
  Runner(Subject& subject, const RunnerOptions& options, const Clock& clock)
      : subject_(subject),
        options_(options),
        clock_(clock),
        profile_ops_(subject.backend->ops(), clock, profile_target(*subject.backend)),
        profiled_(*subject.backend, profile_ops_) {}
  Result<std::span<const float>> append(ForwardPass& forward, KvState& kv, std::span<const int32_t> tokens,
                                        const SteeringScales& steering);
  static ProfileTarget profile_target(Backend& backend);
  Result<ForwardPass*> profiled_forward();
  // Appends a context of random tokens, or fills it.
  Result<void> make_context(KvState& kv, std::span<const int32_t> tokens);
  Result<DecodeState> start_decode(int32_t n_sequences, int32_t ctx_tokens, int32_t gen_tokens);
  Result<std::vector<double>> decode_steps(ForwardPass& forward, DecodeState& state);
  Result<void> count_decode_work(DecodeState& state, DecodeResult& result);
  double prefill_macs(int32_t n_tokens) const;

  Subject& subject_;
  RunnerOptions options_;
  const Clock& clock_;
  ProfileOps profile_ops_;
  BackendWithOps profiled_;
  std::unique_ptr<KvCache> cache_;
  std::unique_ptr<ForwardPass> forward_;
  std::unique_ptr<ForwardPass> profiled_forward_;
};

}  // namespace ds4
