#include "backends/cuda/hot_experts.h"

#include <algorithm>

#include "base/check.h"

namespace ds4::cuda {
namespace {

constexpr float kKept = 0.875f;
// A copy costs as much as many reads over the bus: small differences are not worth it.
constexpr float kClearly = 1.25f;
constexpr float kLeastGain = 1.0f;

struct Candidate {
  HotExperts::Swap swap;
  float gain = 0.0f;
};

}  // namespace

HotExperts::HotExperts(int32_t n_layers, int32_t n_experts, int32_t n_on_card)
    : n_layers_(n_layers), n_experts_(n_experts) {
  CHECK(n_on_card >= 0 && n_on_card <= n_experts, "{} of {} experts on the card", n_on_card, n_experts);
  const size_t n = static_cast<size_t>(n_layers) * static_cast<size_t>(n_experts);
  on_card_.assign(n, false);
  heat_.assign(n, 0.0f);
  for (int32_t layer = 0; layer < n_layers; ++layer) {
    for (int32_t expert = 0; expert < n_on_card; ++expert) on_card_[at(layer, expert)] = true;
  }
}

void HotExperts::count(std::span<const uint32_t> picks) {
  CHECK(picks.size() == heat_.size(), "{} counts for {} experts", picks.size(), heat_.size());
  for (size_t i = 0; i < picks.size(); ++i) {
    heat_[i] = heat_[i] * kKept + static_cast<float>(picks[i]);
    n_picks_ += picks[i];
    if (on_card_[i]) n_hits_ += picks[i];
  }
}

std::vector<HotExperts::Swap> HotExperts::take_swaps(size_t most) {
  std::vector<Candidate> candidates;
  std::vector<int32_t> inside, outside;
  for (int32_t layer = 0; layer < n_layers_; ++layer) {
    inside.clear();
    outside.clear();
    for (int32_t e = 0; e < n_experts_; ++e) (is_on_card(layer, e) ? inside : outside).push_back(e);
    const auto heat = [&](int32_t e) { return heat_[at(layer, e)]; };
    std::ranges::sort(inside, [&](int32_t a, int32_t b) { return heat(a) != heat(b) ? heat(a) < heat(b) : a < b; });
    std::ranges::sort(outside, [&](int32_t a, int32_t b) { return heat(a) != heat(b) ? heat(a) > heat(b) : a < b; });
    const size_t n_pairs = std::min({inside.size(), outside.size(), most});
    for (size_t i = 0; i < n_pairs; ++i) {
      const float gain = heat(outside[i]) - kClearly * heat(inside[i]);
      if (gain < kLeastGain) break;
      candidates.push_back({{layer, inside[i], outside[i]}, gain});
    }
  }
  std::ranges::sort(candidates, [](const Candidate& a, const Candidate& b) {
    if (a.gain != b.gain) return a.gain > b.gain;
    return a.swap.layer != b.swap.layer ? a.swap.layer < b.swap.layer : a.swap.enters < b.swap.enters;
  });
  if (candidates.size() > most) candidates.resize(most);
  std::vector<Swap> swaps;
  for (const Candidate& candidate : candidates) {
    on_card_[at(candidate.swap.layer, candidate.swap.leaves)] = false;
    on_card_[at(candidate.swap.layer, candidate.swap.enters)] = true;
    swaps.push_back(candidate.swap);
  }
  return swaps;
}

}  // namespace ds4::cuda
