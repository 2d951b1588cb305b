#pragma once

// IQ2_XXS: eight values are s times the magnitudes of a grid entry with an even number of minus signs, where s is
// d * (2 S + 1) / 8 with one S for 32 values and one d for 256. For given s every eight has an exact answer
// (gguf/quantize_iq2_grid.h). The search keeps the entries that win at some s around the right one, chooses d and the S
// by them, then looks at all entries again under the S nearby, and fits d to the outcome.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "gguf/quantize_iq2_grid.h"

namespace ds4 {

template <class S>
class Iq2Search {
 public:
  using Block = typename Iq2Eights<S>::Block;

  explicit Iq2Search(const Block& block) : block_(block), eights_(block) {}

  BlockIQ2_XXS run() {
    for (size_t g = 0; g < kGroups; ++g) find_lines(g);
    Choice best = best_factor();
    look_at_all_entries(best);
    for (int round = 0; round < kRounds; ++round) {
      Choice refit{.d = refit_factor(best), .scales = best.scales};
      if (refit.d == best.d) break;
      look_at_all_entries(refit);
      if (refit.gain <= best.gain) break;
      best = refit;
    }
    return pack(best);
  }

 private:
  static constexpr size_t kEights = Iq2Eights<S>::kEights;
  static constexpr size_t kGroups = kEights / 4;
  static constexpr float kLastScale = 15.0f;
  static constexpr int kRounds = 2;
  using Eights = Lanes<S, kEights>;

  // Of the scale that makes the grid's mean square that of the values; the last one is for groups of small values
  // beside large ones, which cannot have a scale as small as theirs.
  static constexpr std::array<float, 6> kTriedScales = {0.65f, 0.85f, 1.05f, 1.3f, 1.7f, 3.0f};
  static constexpr size_t kLines = kTriedScales.size() + 1;
  // The S that the largest scale of a block is given.
  static constexpr std::array<float, 14> kTriedTops = {15.0f, 14.5f, 14.0f, 13.5f, 13.0f, 12.5f, 12.0f,
                                                       11.0f, 10.0f, 9.0f,  8.0f,  16.0f, 17.0f, 18.0f};

  struct Choice {
    float d = 0.0f;
    float gain = 0.0f;
    std::array<float, kGroups> scales{};  // S
    std::array<uint8_t, kEights> entries{};
  };

  static float real_scale(float d, float integer) { return d * (2.0f * integer + 1.0f) * 0.125f; }

  // Norms and dots of the entries that win under the tried scales, and the group's best real scale among theirs.
  void find_lines(size_t g) {
    double square = 0.0, weight = 0.0;
    for (size_t i = 32 * g; i < 32 * (g + 1); ++i) {
      square += static_cast<double>(block_.weights[i] * block_.values[i] * block_.values[i]);
      weight += static_cast<double>(block_.weights[i]);
    }
    const auto middle = static_cast<float>(std::sqrt(square / weight) / kGridRms);
    std::array<float, kTriedScales.size()> scales, norms{}, dots{};
    for (size_t t = 0; t < scales.size(); ++t) scales[t] = std::max(middle, kTiny) * kTriedScales[t];
    for (size_t e = 4 * g; e < 4 * (g + 1); ++e) {
      const auto winners = eights_.best_entries(e, scales);
      for (size_t t = 0; t < scales.size(); ++t) {
        set_line(t, e, winners[t].entry);
        norms[t] += line_norms_[t].get(e);
        dots[t] += line_dots_[t].get(e);
      }
      set_line(kLines - 1, e, 0);  // the smallest norm: the best for large scales
    }
    float best = -1.0f;
    for (size_t t = 0; t < scales.size(); ++t) {
      const float gain = dots[t] > 0.0f ? dots[t] * dots[t] / norms[t] : 0.0f;
      if (gain <= best) continue;
      best = gain;
      real_scales_[g] = std::max(dots[t], 0.0f) * 0.5f / norms[t];
    }
  }

  void set_line(size_t line, size_t e, size_t entry) {
    line_norms_[line].set(e, eights_.norm(e, entry));
    line_dots_[line].set(e, eights_.dot(e, entry));
  }

  // The gain of every group by the lines that were found.
  std::array<float, kGroups> gains_by_lines(const std::array<float, kGroups>& scales) const {
    Eights scale{}, best{};
    for (size_t e = 0; e < kEights; ++e) scale.set(e, scales[e / 4]);
    for (size_t v = 0; v < Eights::kVectors; ++v) {
      best.v[v] = line_dots_[0].v[v] - scale.v[v] * line_norms_[0].v[v];
      for (size_t t = 1; t < kLines; ++t) {
        best.v[v] = max_of(line_dots_[t].v[v] - scale.v[v] * line_norms_[t].v[v], best.v[v]);
      }
      best.v[v] *= scale.v[v];
    }
    std::array<float, kGroups> gains{};
    for (size_t e = 0; e < kEights; ++e) gains[e / 4] += best.get(e);
    return gains;
  }

  // The S nearest to the group's real scale.
  float nearest_scale(size_t g, float d) const {
    const float wanted = d > 0.0f ? std::min(real_scales_[g] * 4.0f / d - 0.5f, kLastScale) : 0.0f;
    return std::max(std::nearbyint(wanted), 0.0f);
  }

  Choice choose_by_lines(float d) const {
    Choice choice{.d = d};
    std::array<float, kGroups> best;
    best.fill(-kHuge);
    for (const float step : {0.0f, -1.0f, 1.0f}) {
      std::array<float, kGroups> integers, scales;
      for (size_t g = 0; g < kGroups; ++g) {
        integers[g] = std::clamp(nearest_scale(g, d) + step, 0.0f, kLastScale);
        scales[g] = real_scale(d, integers[g]);
      }
      const std::array<float, kGroups> gains = gains_by_lines(scales);
      for (size_t g = 0; g < kGroups; ++g) {
        if (gains[g] <= best[g]) continue;
        best[g] = gains[g];
        choice.scales[g] = integers[g];
      }
    }
    for (const float gain : best) choice.gain += gain;
    return choice;
  }

  Choice best_factor() const {
    const float largest = *std::max_element(real_scales_.begin(), real_scales_.end());
    Choice best;
    for (const float top : kTriedTops) {
      const Choice choice = choose_by_lines(block_.rounded(largest * 8.0f / (2.0f * top + 1.0f)));
      if (best.d == 0.0f || choice.gain > best.gain) best = choice;
    }
    return best;
  }

  // The best S among the present one and its neighbours, and the best entries under it, by all entries.
  void look_at_all_entries(Choice& choice) const {
    choice.gain = 0.0f;
    for (size_t g = 0; g < kGroups; ++g) {
      const float first = std::clamp(choice.scales[g] - 1.0f, 0.0f, kLastScale - 2.0f);
      std::array<float, 3> scales, gains{};
      for (size_t t = 0; t < scales.size(); ++t) scales[t] = real_scale(choice.d, first + static_cast<float>(t));
      for (size_t e = 4 * g; e < 4 * (g + 1); ++e) {
        const auto best = eights_.best_gains(e, scales);
        for (size_t t = 0; t < scales.size(); ++t) gains[t] += best[t] * scales[t];
      }
      const auto best = static_cast<size_t>(std::max_element(gains.begin(), gains.end()) - gains.begin());
      choice.gain += gains[best];
      choice.scales[g] = first + static_cast<float>(best);
      for (size_t e = 4 * g; e < 4 * (g + 1); ++e) {
        choice.entries[e] = static_cast<uint8_t>(eights_.template best_entries<1>(e, {scales[best]})[0].entry);
      }
    }
  }

  // The factor that fits scales and entries best.
  float refit_factor(const Choice& choice) const {
    float dot = 0.0f, norm = 0.0f;
    for (size_t e = 0; e < kEights; ++e) {
      const float scale = real_scale(1.0f, choice.scales[e / 4]);
      dot += scale * eights_.dot(e, choice.entries[e]);
      norm += scale * scale * eights_.norm(e, choice.entries[e]);
    }
    return block_.rounded(std::max(dot, 0.0f) * 0.5f / norm);
  }

  BlockIQ2_XXS pack(const Choice& choice) const {
    BlockIQ2_XXS block{};
    block.d = block_.to_stored(choice.d);
    for (size_t g = 0; g < kGroups; ++g) {
      uint32_t entries = 0;
      uint32_t signs_and_scale = static_cast<uint32_t>(choice.scales[g]) << 28;
      for (size_t e = 0; e < 4; ++e) {
        const uint32_t entry = choice.entries[4 * g + e];
        entries |= entry << (8 * e);
        signs_and_scale |= eights_.sign_code(4 * g + e, entry) << (7 * e);
      }
      uint16_t* words = block.qs + 4 * g;
      words[0] = static_cast<uint16_t>(entries & 0xFFFFu);
      words[1] = static_cast<uint16_t>(entries >> 16);
      words[2] = static_cast<uint16_t>(signs_and_scale & 0xFFFFu);
      words[3] = static_cast<uint16_t>(signs_and_scale >> 16);
    }
    return block;
  }

  static constexpr float kTiny = 1e-12f;
  static constexpr float kHuge = 1e30f;
  static constexpr double kGridRms = 22.3;

  const Block& block_;
  Iq2Eights<S> eights_;
  std::array<Eights, kLines> line_norms_;
  std::array<Eights, kLines> line_dots_;
  std::array<float, kGroups> real_scales_{};
};

template <class S>
void quantize_iq2_xxs(const float* source, const float* importance, std::byte* out, int64_t n_elements) {
  for (int64_t i = 0; i < n_elements; i += BlockIQ2_XXS::kElements, out += sizeof(BlockIQ2_XXS)) {
    const typename Iq2Search<S>::Block block(source + i, importance != nullptr ? importance + i : nullptr);
    BlockIQ2_XXS packed{};
    if (!block.is_zero) packed = Iq2Search<S>(block).run();
    std::memcpy(out, &packed, sizeof(packed));
  }
}

}  // namespace ds4
