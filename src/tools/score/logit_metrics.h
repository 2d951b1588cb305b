#pragma once

// What two rows of logits for the same position say about each other. Probabilities and divergences are computed in
// double from log-softmax (log_sum_exp of engine/sampler.h). Pure functions.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace ds4 {

int64_t count_nonfinite(std::span<const float> logits);
// Ids of the k largest, best first, ties to the lower id.
std::vector<int32_t> top_ids(std::span<const float> logits, int32_t k);

// A reference's logits at one position: of the whole vocabulary, or of its most likely tokens.
struct ReferenceRow {
  std::span<const int32_t> ids;  // of `logits`, most likely first; empty: logits of all tokens in order
  std::span<const float> logits;
  double log_sum_exp = 0;  // over the whole vocabulary
};

inline constexpr int32_t kTopFew = 5;
inline constexpr int32_t kTopMany = 20;

struct RowDifference {
  double kl =
      0;  // KL(reference || candidate), nats; of a cut row with all other tokens as one: never more than the real
  bool same_top1 = false;
  int32_t top5_overlap = 0;
  int32_t top20_overlap = 0;
  int32_t max_rank_delta = 0;  // over ids in both top-20 lists
  double rms = 0;              // of candidate - reference; of a cut row over its ids
  double max_abs = 0;
  double top20_max_abs = 0;  // over the union of both top-20 lists, as far as the reference has them
};

// Precondition: all logits finite, at least kTopMany of each.
RowDifference compare_rows(const ReferenceRow& reference, std::span<const float> candidate);

}  // namespace ds4
