#include "engine/empty_runner.h"

namespace ds4 {

EmptyRunner::EmptyRunner(const ForwardLimits& limits, int32_t n_vocab)
    : limits_(limits),
      n_vocab_(static_cast<size_t>(n_vocab)),
      logits_(n_vocab_ * static_cast<size_t>(limits.logits_rows)) {}

Result<std::span<const float>> EmptyRunner::run(std::span<const SequenceInput> inputs) {
  size_t n_wanted = 0;
  for (const SequenceInput& input : inputs) {
    const auto n_tokens = static_cast<int32_t>(input.tokens.size());
    TRY(input.kv->reserve(n_tokens));
    input.kv->advance(n_tokens);
    if (input.logits != LogitsWanted::kNone) ++n_wanted;
  }
  return std::span<const float>(logits_).first(n_wanted * n_vocab_);
}

}  // namespace ds4
