#include "tools/bench/sweep.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "chat/renderer.h"
#include "engine/sampler.h"
#include "model/synthetic.h"

namespace ds4 {

namespace {

constexpr uint64_t kMaxPromptBytes = uint64_t{1} << 30;
constexpr int32_t kWarmupTokens = 32;

Result<std::vector<int32_t>> chat_tokens(const std::string& text, const SweepOptions& options, const Subject& subject) {
  Conversation conversation;
  if (!options.system.empty()) conversation.messages.push_back({.role = Role::kSystem, .content = options.system});
  conversation.messages.push_back({.role = Role::kUser, .content = text});
  const RenderedPrompt prompt =
      TRY(render(conversation, {.thinking_mode = ThinkingMode::kChat, .format = subject.chat_format}));
  return subject.tokenizer->encode(prompt.segments);
}

// The most likely token that does not end the answer.
int32_t next_token(std::span<const float> logits, const Tokenizer* tokenizer) {
  const size_t end = tokenizer == nullptr ? logits.size() : static_cast<size_t>(tokenizer->eos_id());
  const auto before = logits.first(std::min(end, logits.size()));
  const auto after = logits.subspan(std::min(end + 1, logits.size()));
  const std::optional<int32_t> left = greedy_token(before);
  const std::optional<int32_t> right = greedy_token(after);
  if (!right || (left && before[static_cast<size_t>(*left)] >= after[static_cast<size_t>(*right)])) {
    return left.value_or(0);
  }
  return static_cast<int32_t>(end) + 1 + *right;
}

uint64_t checkpoint_bytes(const KvCheckpoint& checkpoint, const KvLayout& layout) {
  return checkpoint.frontier.size() + checkpoint.pages.size() * layout.page_bytes;
}

Result<void> write_logits(const std::string& folder, const SweepRow& row, std::span<const float> logits,
                          const Subject& subject) {
  const std::optional<int32_t> best = greedy_token(logits);
  nlohmann::ordered_json json{{"source", "ds4-bench"},
                              {"model", subject.name},
                              {"backend", subject.backend->name()},
                              {"mt", "off"},
                              {"quality", false},
                              {"quant_bits", subject.expert_bits()},
                              {"prompt_tokens", row.ctx_tokens},
                              {"frontier_tokens", row.ctx_tokens},
                              {"prefill_tokens", row.prefill_tokens},
                              {"ctx", row.ctx_tokens},
                              {"vocab", logits.size()},
                              {"argmax_id", best.value_or(-1)},
                              {"argmax_logit", best ? logits[static_cast<size_t>(*best)] : 0.0f}};
  auto& values = json["logits"] = nlohmann::ordered_json::array();
  for (const float logit : logits) {
    if (std::isfinite(logit)) {
      values.push_back(logit);
    } else {
      values.push_back(nullptr);
    }
  }
  const std::string text = json.dump() + "\n";
  return atomic_write(fmt::format("{}/frontier_{:06}.logits.json", folder, row.ctx_tokens),
                      std::as_bytes(std::span(text)));
}

// The state of a sweep between two frontiers.
class Sweep {
 public:
  Sweep(Runner& runner, const Subject& subject, const SweepSettings& settings, KvState kv, const Clock& clock)
      : runner_(runner), subject_(subject), settings_(settings), kv_(std::move(kv)), clock_(clock) {}

  Result<void> warm_up(std::span<const int32_t> tokens) {
    for (int32_t run = 0; run < settings_.warmup; ++run) {
      TRY(runner_.append(runner_.forward(), kv_, tokens.first(std::min<size_t>(tokens.size(), kWarmupTokens))));
      kv_.clear();
    }
    return {};
  }

  Result<SweepRow> measure(std::span<const int32_t> suffix) {
    SweepRow row{.ctx_tokens = kv_.n_tokens() + static_cast<int32_t>(suffix.size()),
                 .prefill_tokens = static_cast<int32_t>(suffix.size()),
                 .gen_tokens = settings_.gen_tokens};
    const KvCheckpoint start = kv_.checkpoint();
    std::vector<double> rates;
    for (int32_t run = 0; run < settings_.repeat; ++run) {
      kv_.restore(start);
      const int64_t since_us = clock_.now_us();
      const auto logits = TRY(runner_.append(runner_.forward(), kv_, suffix));
      rates.push_back(rate(static_cast<double>(suffix.size()), clock_.elapsed_us(since_us)));
      logits_.assign(logits.begin(), logits.end());
    }
    row.prefill_tps = spread_of(rates);
    const KvCheckpoint frontier = kv_.checkpoint();
    row.kvcache_bytes = checkpoint_bytes(frontier, runner_.cache().layout());
    if (!settings_.logits_dir.empty()) TRY(write_logits(settings_.logits_dir, row, logits_, subject_));
    if (settings_.gen_tokens > 0) TRY(measure_decode(frontier, row));
    kv_.restore(frontier);
    return row;
  }

 private:
  static double rate(double count, int64_t us) { return count * 1e6 / static_cast<double>(std::max<int64_t>(us, 1)); }

  Result<void> measure_decode(const KvCheckpoint& frontier, SweepRow& row) {
    std::vector<double> rates;
    std::vector<double> steady_rates;
    for (int32_t run = 0; run < settings_.repeat; ++run) {
      kv_.restore(frontier);
      std::span<const float> logits = logits_;
      const int64_t since_us = clock_.now_us();
      int64_t first_us = 0;
      for (int32_t step = 0; step < settings_.gen_tokens; ++step) {
        const int32_t token = next_token(logits, subject_.tokenizer.get());
        logits = TRY(runner_.append_chosen(kv_, token));
        if (step == 0) first_us = clock_.elapsed_us(since_us);
      }
      const int64_t us = clock_.elapsed_us(since_us);
      rates.push_back(rate(settings_.gen_tokens, us));
      if (settings_.gen_tokens > 1) steady_rates.push_back(rate(settings_.gen_tokens - 1.0, us - first_us));
    }
    row.gen_tps = spread_of(rates);
    row.gen_steady_tps = spread_of(steady_rates);
    return {};
  }

  Runner& runner_;
  const Subject& subject_;
  const SweepSettings& settings_;
  KvState kv_;
  const Clock& clock_;
  std::vector<float> logits_;  // after the last prompt token
};

}  // namespace

std::vector<int32_t> sweep_frontiers(const SweepOptions& options) {
  std::vector<int32_t> frontiers;
  for (int64_t at = options.ctx_start; at < options.ctx_max;) {
    frontiers.push_back(static_cast<int32_t>(at));
    const auto grown = static_cast<int64_t>(std::ceil(static_cast<double>(at) * options.step_mul));
    at = options.step_mul > 1.0 ? std::max(grown, at + 1) : at + options.step_incr;
  }
  frontiers.push_back(options.ctx_max);
  return frontiers;
}

Result<std::vector<int32_t>> sweep_tokens(const SweepOptions& options, const Subject& subject) {
  if (options.random_prompt) {
    return synthetic_tokens("bench", options.ctx_max, subject.hyperparams().n_vocab);
  }
  const std::string& path = options.prompt_file.empty() ? options.chat_prompt_file : options.prompt_file;
  if (subject.tokenizer == nullptr) {
    return make_error(ErrorCode::kUnsupported, "{} has no vocabulary: {} cannot be encoded", subject.name, path);
  }
  const std::string text = TRY(read_file(path, kMaxPromptBytes));
  const std::vector<int32_t> tokens =
      options.prompt_file.empty() ? TRY(chat_tokens(text, options, subject)) : subject.tokenizer->encode_text(text);
  if (tokens.size() < static_cast<size_t>(options.ctx_max)) {
    return make_error(ErrorCode::kContextLength, "{}: expected at least {} tokens (--ctx-max), found {}", path,
                      options.ctx_max, tokens.size());
  }
  return tokens;
}

Result<void> run_sweep(Runner& runner, const Subject& subject, std::span<const int32_t> tokens,
                       std::span<const int32_t> frontiers, const SweepSettings& settings,
                       const std::function<Result<void>(const SweepRow&)>& on_row) {
  const MonotonicClock clock;
  Sweep sweep(runner, subject, settings, TRY(runner.new_sequence()), clock);
  TRY(sweep.warm_up(tokens));
  int32_t done = 0;
  for (const int32_t frontier : frontiers) {
    const SweepRow row =
        TRY(sweep.measure(tokens.subspan(static_cast<size_t>(done), static_cast<size_t>(frontier - done))));
    TRY(on_row(row));
    done = frontier;
  }
  return {};
}

std::string sweep_csv_header() { return "ctx_tokens,prefill_tokens,prefill_tps,gen_tokens,gen_tps,kvcache_bytes\n"; }

std::string sweep_csv_line(const SweepRow& row) {
  return fmt::format("{},{},{:.2f},{},{:.2f},{}\n", row.ctx_tokens, row.prefill_tokens, row.prefill_tps.median,
                     row.gen_tokens, row.gen_tps.median, row.kvcache_bytes);
}

}  // namespace ds4
