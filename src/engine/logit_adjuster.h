#pragma once

// What a request changes of the model's logits before a token is sampled: in this order repetition_penalty (a positive
// logit is divided by it, another multiplied), presence_penalty and frequency_penalty (OpenAI's: subtracted once, and
// once per occurrence), logit_bias (added), and the tokens that a grammar allows. Occurrences are those among the
// generated tokens, reasoning too; the prompt does not count. A request that changes nothing costs nothing: the model's
// logits are passed on as they are. Belongs to one sequence.

#include <cstdint>
#include <span>
#include <vector>

#include "constrain/token_mask.h"
#include "engine/request.h"

namespace ds4 {

class LogitAdjuster {
 public:
  explicit LogitAdjuster(const SamplingParams& params);

  // `mask` may be null. The result is `logits` or scratch of this object, valid until the next call.
  std::span<const float> adjust(std::span<const float> logits, const TokenMask* mask);
  // A token was generated.
  void count(int32_t token);

 private:
  void apply_penalties();

  float presence_penalty_;
  float frequency_penalty_;
  float repetition_penalty_;
  std::vector<TokenBias> biases_;
  bool has_penalties_;
  std::vector<int32_t> counts_;     // by token, empty without penalties
  std::vector<int32_t> generated_;  // those with a count
  std::vector<float> adjusted_;
};

}  // namespace ds4
