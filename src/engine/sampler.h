#pragma once

// From logits to a token: first the k largest, then temperature, then min-p and top-p in one walk (docs/numerics.md,
// spec 8). The same logits, parameters and seed give the same token on every machine whose expf agrees. Sanitising:
// top_p outside (0, 1] means 1, min_p below 0 means 0, top_k is at most kMaxTopK and off below 1. Logits that are not
// finite are skipped. A Sampler belongs to one sequence; the functions are pure.

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/rng.h"
#include "engine/request.h"

namespace ds4 {

inline constexpr int32_t kMaxTopK = 1024;

// The largest logit, the lowest id of equals; nothing when no logit is finite.
std::optional<int32_t> greedy_token(std::span<const float> logits);

struct RankedToken {
  int32_t id = 0;
  float logit = 0;
};

class Sampler {
 public:
  // params.seed is not read: whoever makes the sampler decides what happens without one.
  Sampler(const SamplingParams& params, uint64_t seed);

  // Nothing when no logit is finite. Greedy sampling, be it by the temperature or by `greedy`, leaves the generator
  // alone.
  std::optional<int32_t> sample(std::span<const float> logits, bool greedy = false);

 private:
  int32_t draw_unsorted(std::span<const float> logits, int32_t best);
  int32_t draw_sorted(std::span<const float> logits);
  float weight(float logit, float largest) const;

  SamplingParams params_;
  Xorshift64Star rng_;
  // Scratch of one draw.
  std::vector<RankedToken> candidates_;
  std::vector<float> weights_;
};

// Natural logarithm of the sum of exp(logit) over all finite logits, in F64; temperature plays no part.
double log_sum_exp(std::span<const float> logits);
inline float log_probability(float logit, double log_sum) { return static_cast<float>(logit - log_sum); }

// The k largest finite logits, largest first, the lower id first among equals; into `ranked`, or returned.
void rank_tokens(std::span<const float> logits, int32_t k, std::vector<RankedToken>& ranked);
std::vector<RankedToken> top_tokens(std::span<const float> logits, int32_t k);

}  // namespace ds4
