#include "tools/bench/runner.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "engine/sampler.h"
#include "model/synthetic.h"

namespace ds4 {

namespace {

constexpr double kMicro = 1e-6;

double per_second(double count, double us) { return count / (std::max(us, 1.0) * kMicro); }

double sum(std::span<const double> values) { return std::accumulate(values.begin(), values.end(), 0.0); }

}  // namespace

struct Runner::DecodeState {
  KvCheckpoint start;
  std::vector<KvState> sequences;
  std::vector<std::vector<int32_t>> tokens;  // per sequence, one for every step
};

Result<std::unique_ptr<Runner>> Runner::create(Subject& subject, const RunnerOptions& options, const Clock& clock) {
  std::unique_ptr<Runner> runner(new Runner(subject, options, clock));
  // Two more sequences' worth for the states that repetitions start from.
  const int32_t n_pages = (options.n_slots + 2) * ((options.ctx_tokens + kPageTokens - 1) / kPageTokens);
  runner->cache_ =
      TRY(KvCache::create(*subject.backend, subject.hyperparams(),
                          {.n_slots = options.n_slots, .ctx_tokens = options.ctx_tokens, .n_pages = n_pages}));
  runner->forward_ = TRY(ForwardPass::create(
      *subject.backend, *subject.model, *runner->cache_,
      {.batch_rows = std::max(options.chunk_tokens, options.n_slots), .logits_rows = options.n_slots},
      subject.steering.get()));
  return runner;
}

ProfileTarget Runner::profile_target(Backend& backend) {
  if (!backend.device_memory()) return {};
  return {.finish = [&backend] { CHECK(backend.finish().ok(), "the device failed"); },
          .download = [&backend](const TensorView& view, std::span<std::byte> bytes) { backend.download(view, bytes); },
          .whole_steps = true};
}

Result<ForwardPass*> Runner::profiled_forward() {
  if (profiled_forward_ == nullptr) {
    profiled_forward_ =
        TRY(ForwardPass::create(profiled_, *subject_.model, *cache_, forward_->limits(), subject_.steering.get()));
  }
  profile_ops_.reset();
  return profiled_forward_.get();
}

std::vector<int32_t> Runner::random_tokens(int32_t n_tokens) const {
  return synthetic_tokens("bench", n_tokens, subject_.hyperparams().n_vocab);
}

Result<std::span<const float>> Runner::append(ForwardPass& forward, KvState& kv, std::span<const int32_t> tokens,
                                              const SteeringScales& steering) {
  std::span<const float> logits;
  while (!tokens.empty()) {
    const auto piece = tokens.first(std::min(tokens.size(), static_cast<size_t>(options_.chunk_tokens)));
    tokens = tokens.subspan(piece.size());
    const SequenceInput input{&kv, piece, tokens.empty() ? LogitsWanted::kLast : LogitsWanted::kNone, steering};
    logits = TRY(forward.run({&input, 1}));
  }
  return logits;
}

Result<int64_t> Runner::first_step_us() {
  KvState kv = TRY(cache_->new_sequence());
  const int64_t since_us = clock_.now_us();
  const auto logits = TRY(append(*forward_, kv, random_tokens(1)));
  greedy_token(logits);
  return clock_.elapsed_us(since_us);
}

double Runner::prefill_macs(int32_t n_tokens) const {
  const Hyperparams& h = subject_.hyperparams();
  const ModelCost& cost = subject_.cost;
  const uint64_t row = cost.dense.macs + cost.expert.macs * static_cast<uint64_t>(h.n_expert_used);
  auto macs = static_cast<double>(row) * n_tokens + static_cast<double>(cost.head.macs);
  for (int32_t position = 0; position < n_tokens; ++position) {
    macs += static_cast<double>(attention_cost(h, cache_->layout(), position).macs);
    if (needs_index(h, position)) macs += static_cast<double>(cost.index_query.macs);
  }
  return macs;
}

Result<PrefillResult> Runner::prefill(int32_t n_tokens) {
  const std::vector<int32_t> tokens = random_tokens(n_tokens);
  KvState kv = TRY(cache_->new_sequence());
  std::vector<double> us;
  std::vector<double> rates;
  std::vector<double> first_token_ms;
  for (int32_t run = -options_.warmup; run < options_.repeat; ++run) {
    kv.clear();
    const int64_t since_us = clock_.now_us();
    const auto logits = TRY(append(*forward_, kv, tokens));
    const auto run_us = static_cast<double>(clock_.elapsed_us(since_us));
    greedy_token(logits);
    const auto first_us = static_cast<double>(clock_.elapsed_us(since_us));
    if (run < 0) continue;
    us.push_back(run_us);
    rates.push_back(per_second(n_tokens, run_us));
    first_token_ms.push_back(first_us * 1e-3);
  }
  const double macs = prefill_macs(n_tokens);
  return PrefillResult{.n_tokens = n_tokens,
                       .tokens_per_s = spread_of(rates),
                       .first_token_ms = spread_of(first_token_ms),
                       .macs_per_token = macs / n_tokens,
                       .macs_per_s = per_second(macs, spread_of(us).median)};
}

// Filled: the first tokens are computed, as many as end at the same place in a page and in the sliding window, and the
// first page is copied for every page between. Rows are valid and lie in memory of their own, which is all that the
// time of a step depends on.
Result<void> Runner::make_context(KvState& kv, std::span<const int32_t> tokens) {
  const auto n_tokens = static_cast<int32_t>(tokens.size());
  const int32_t n_computed = kPageTokens + n_tokens % kPageTokens;
  if (!options_.fill_kv || n_tokens <= n_computed) {
    TRY(append(*forward_, kv, tokens));
    return {};
  }
  TRY(append(*forward_, kv, tokens.first(static_cast<size_t>(n_computed))));
  const KvCheckpoint computed = kv.checkpoint();
  const std::vector<std::byte> page = cache_->read_page(computed.pages[0], kPageTokens);
  std::vector<PageRef> pages;
  pages.push_back(computed.pages[0].share());
  for (int32_t i = 1; i < n_tokens / kPageTokens; ++i) {
    if (cache_->n_free_pages() == 0) return make_error(ErrorCode::kOutOfMemory, "no free KV page to fill");
    pages.push_back(cache_->new_page());
    cache_->write_page(pages.back(), kPageTokens, page);
  }
  if (n_tokens % kPageTokens != 0) pages.push_back(computed.pages[1].share());
  kv.restore(n_tokens, pages, computed.frontier);
  return {};
}

Result<Runner::DecodeState> Runner::start_decode(int32_t n_sequences, int32_t ctx_tokens, int32_t gen_tokens) {
  DecodeState state;
  for (int32_t i = 0; i < n_sequences; ++i) state.sequences.push_back(TRY(cache_->new_sequence()));
  const std::vector<int32_t> tokens = random_tokens(ctx_tokens + n_sequences * gen_tokens);
  TRY(make_context(state.sequences[0], std::span(tokens).first(static_cast<size_t>(ctx_tokens))));
  state.start = state.sequences[0].checkpoint();
  for (int32_t i = 0; i < n_sequences; ++i) {
    const auto first = tokens.begin() + ctx_tokens + int64_t{i} * gen_tokens;
    state.tokens.emplace_back(first, first + gen_tokens);
  }
  return state;
}

// The time of every step in microseconds. The tokens are given, but each step chooses as if they were not.
Result<std::vector<double>> Runner::decode_steps(ForwardPass& forward, DecodeState& state) {
  for (KvState& sequence : state.sequences) sequence.restore(state.start);
  const auto n_vocab = static_cast<size_t>(subject_.hyperparams().n_vocab);
  std::vector<SequenceInput> inputs(state.sequences.size());
  std::vector<double> us;
  for (size_t step = 0; step < state.tokens[0].size(); ++step) {
    for (size_t i = 0; i < inputs.size(); ++i) {
      inputs[i] = {&state.sequences[i], std::span(state.tokens[i]).subspan(step, 1), LogitsWanted::kLast,
                   subject_.steering_settings.for_output()};
    }
    const int64_t since_us = clock_.now_us();
    const auto logits = TRY(forward.run(inputs));
    for (size_t i = 0; i < inputs.size(); ++i) greedy_token(logits.subspan(i * n_vocab, n_vocab));
    us.push_back(static_cast<double>(clock_.elapsed_us(since_us)));
  }
  return us;
}

Result<DecodeResult> Runner::decode(int32_t n_sequences, int32_t ctx_tokens, int32_t gen_tokens) {
  DecodeState state = TRY(start_decode(n_sequences, ctx_tokens, gen_tokens));
  std::vector<double> rates;
  std::vector<double> steady_rates;
  std::vector<double> steps_ms;
  for (int32_t run = -options_.warmup; run < options_.repeat; ++run) {
    const std::vector<double> us = TRY(decode_steps(*forward_, state));
    if (run < 0) continue;
    const double n_tokens = static_cast<double>(n_sequences) * gen_tokens;
    rates.push_back(per_second(n_tokens, sum(us)));
    if (us.size() > 1) steady_rates.push_back(per_second(n_tokens - n_sequences, sum(us) - us[0]));
    for (const double step : us) steps_ms.push_back(step * 1e-3);
  }
  DecodeResult result{.n_sequences = n_sequences,
                      .ctx_tokens = ctx_tokens,
                      .gen_tokens = gen_tokens,
                      .tokens_per_s = spread_of(rates),
                      .steady_tokens_per_s = spread_of(steady_rates),
                      .step_ms = spread_of(steps_ms),
                      .recorded_nodes = subject_.backend->n_recorded_nodes(),
                      .filled = options_.fill_kv};
  TRY(count_decode_work(state, result));
  return result;
}

// A few more steps show how many distinct experts they use; the rest follows from the shape.
Result<void> Runner::count_decode_work(DecodeState& state, DecodeResult& result) {
  constexpr size_t kCountedSteps = 8;
  for (auto& tokens : state.tokens) tokens.resize(std::min(tokens.size(), kCountedSteps));
  ForwardPass* forward = TRY(profiled_forward());
  TRY(decode_steps(*forward, state));
  const ProfileOps& ops = profile_ops_;
  result.distinct_experts = static_cast<double>(ops.distinct_experts()) / static_cast<double>(ops.expert_calls());

  const Hyperparams& h = subject_.hyperparams();
  const ModelCost& cost = subject_.cost;
  const int32_t middle = result.ctx_tokens + result.gen_tokens / 2;
  const WeightCost attention = attention_cost(h, cache_->layout(), middle);
  const uint64_t index_bytes = needs_index(h, middle) ? cost.index_query.bytes : 0;
  const uint64_t index_macs = needs_index(h, middle) ? cost.index_query.macs : 0;
  result.bytes_per_step =
      static_cast<double>(cost.dense.bytes + cost.head.bytes + index_bytes) +
      result.distinct_experts * static_cast<double>(cost.expert.bytes) +
      static_cast<double>(result.n_sequences) * static_cast<double>(cost.row_bytes + attention.bytes);
  const uint64_t row_macs = cost.dense.macs + cost.head.macs + index_macs + attention.macs +
                            cost.expert.macs * static_cast<uint64_t>(h.n_expert_used);
  result.macs_per_step = static_cast<double>(row_macs) * result.n_sequences;
  const double steps_per_s = result.tokens_per_s.median / result.n_sequences;
  result.bytes_per_s = result.bytes_per_step * steps_per_s;
  result.macs_per_s = result.macs_per_step * steps_per_s;
  return {};
}

Result<std::vector<OpProfile>> Runner::profile_prefill(int32_t n_tokens) {
  KvState kv = TRY(cache_->new_sequence());
  ForwardPass* forward = TRY(profiled_forward());
  TRY(append(*forward, kv, random_tokens(n_tokens)));
  kv.clear();
  profile_ops_.reset();
  TRY(append(*forward, kv, random_tokens(n_tokens)));
  return profile_ops_.profile();
}

Result<std::vector<OpProfile>> Runner::profile_decode(int32_t n_sequences, int32_t ctx_tokens, int32_t gen_tokens) {
  DecodeState state = TRY(start_decode(n_sequences, ctx_tokens, gen_tokens));
  ForwardPass* forward = TRY(profiled_forward());
  TRY(decode_steps(*forward, state));
  return profile_ops_.profile();
}

}  // namespace ds4
