#pragma once

// Q2_K and Q4_K: x is about d * scale_b * q - dmin * min_b in sub-block b. The search works on all sub-blocks at once,
// one per lane: first each sub-block's best real scale and minimum, by weighted least squares over the codes that
// several guesses and a descent from the best of them lead to; then integers under several pairs of F16 factors,
// rounded by the quadratic form of the real fit, moved to better neighbours, the factors fitted to them anew.

#include <algorithm>
#include <cstring>
#include <utility>

#include "gguf/quantize_affine_fit.h"
#include "gguf/quantize_affine_pack.h"

namespace ds4 {

// kSub sub-blocks of kDepth elements; codes 0..kLevels; integer scales and minima 0..kScaleLevels.
template <class S, size_t kSub, size_t kDepth, int kLevels, int kScaleLevels>
class AffineSearch {
 public:
  using SubBlocks = AffineSubBlocks<S, kSub, kDepth, kLevels>;
  using Block = typename SubBlocks::Block;
  static constexpr size_t kElements = SubBlocks::kElements;

  struct Result {
    uint16_t d = 0;
    uint16_t dmin = 0;
    std::array<uint8_t, kSub> scales{};
    std::array<uint8_t, kSub> minima{};
    std::array<uint8_t, kElements> codes{};
  };

  explicit AffineSearch(const Block& block) : block_(block), sub_(block) {}

  Result run() const { return result(best_integers(sub_.search_real())); }

 private:
  using L = Lanes<S, kSub>;
  using F = typename S::F;
  using Fit = AffineFit<L>;
  static constexpr float kTiny = SubBlocks::kTiny;
  static constexpr float kHuge = 1e30f;
  static constexpr float kMostScale = kScaleLevels;

  // Guesses of the integer that the largest scale or minimum of a block gets.
  static constexpr std::array<float, 12> kFactorSteps = {kScaleLevels - 4.0f, kScaleLevels - 3.0f, kScaleLevels - 2.0f,
                                                         kScaleLevels - 1.5f, kScaleLevels - 1.0f, kScaleLevels - 0.5f,
                                                         kScaleLevels + 0.0f, kScaleLevels + 0.5f, kScaleLevels + 1.0f,
                                                         kScaleLevels + 1.5f, kScaleLevels + 2.0f, kScaleLevels + 3.0f};
  static constexpr size_t kStarts = 2;  // of them are pursued
  static constexpr int kRounds = 3;
  static constexpr std::pair<float, float> kNeighbours[] = {{-1.0f, -1.0f}, {-1.0f, 0.0f}, {-1.0f, 1.0f}, {0.0f, -1.0f},
                                                            {0.0f, 1.0f},   {1.0f, -1.0f}, {1.0f, 0.0f},  {1.0f, 1.0f}};

  // Integers of all sub-blocks under one pair of factors.
  struct Choice {
    float d = 0.0f;
    float dmin = 0.0f;
    L scales{}, minima{};
    L gain{};
    float total = 0.0f;

    // Lane by lane.
    void keep_better(const Choice& other) {
      for (size_t v = 0; v < L::kVectors; ++v) {
        const auto better = other.gain.v[v] > gain.v[v];
        scales.v[v] = better ? other.scales.v[v] : scales.v[v];
        minima.v[v] = better ? other.minima.v[v] : minima.v[v];
        gain.v[v] = better ? other.gain.v[v] : gain.v[v];
      }
    }
  };

  static float sum_of(const L& lanes) {
    float sum = 0.0f;
    for (size_t b = 0; b < kSub; ++b) sum += lanes.get(b);
    return sum;
  }

  static float largest_of(const L& lanes) {
    float largest = 0.0f;
    for (size_t b = 0; b < kSub; ++b) largest = std::max(largest, lanes.get(b));
    return largest;
  }

  // The integers that lose least by the quadratic form around the real fit, whose codes gave `m`.
  Choice round_fit(const Fit& real, const Moments<L>& m, float d, float dmin) const {
    Choice choice{.d = d, .dmin = dmin};
    for (F& gain : choice.gain.v) gain = F{} - kHuge;
    const float inverse_d = d > kTiny ? 1.0f / d : 0.0f;
    const float inverse_dmin = dmin > kTiny ? 1.0f / dmin : 0.0f;
    const F most = F{} + kMostScale;
    for (size_t v = 0; v < L::kVectors; ++v) {
      const F near = round_even(min_of(real.scale.v[v] * inverse_d, most));
      const F other = near + (near * d < real.scale.v[v] ? F{} + 1.0f : F{} - 1.0f);
      for (const F scale : {near, min_of(max_of(other, F{}), most)}) {
        const F ds = scale * d - real.scale.v[v];
        const F wanted = max_of(real.minimum.v[v] + ds * m.q.v[v] / sub_.sum_w().v[v], F{});
        const F minimum = round_even(min_of(wanted * inverse_dmin, most));
        const F dm = minimum * dmin - real.minimum.v[v];
        const F gain = ds * (2.0f * dm * m.q.v[v] - ds * m.qq.v[v]) - dm * dm * sub_.sum_w().v[v];
        const auto better = gain > choice.gain.v[v];
        choice.scales.v[v] = better ? scale : choice.scales.v[v];
        choice.minima.v[v] = better ? minimum : choice.minima.v[v];
        choice.gain.v[v] = better ? gain : choice.gain.v[v];
      }
    }
    choice.total = sum_of(choice.gain);
    return choice;
  }

  static Fit real_of(const Choice& choice) {
    Fit fit;
    for (size_t v = 0; v < L::kVectors; ++v) {
      fit.scale.v[v] = choice.scales.v[v] * choice.d;
      fit.minimum.v[v] = choice.minima.v[v] * choice.dmin;
    }
    return fit;
  }

  // Exact gain with the codes that the integers lead to.
  void evaluate(Choice& choice) const {
    const Fit fit = real_of(choice);
    const Moments<L> m = sub_.moments(fit.scale, fit.minimum);
    for (size_t v = 0; v < L::kVectors; ++v) choice.gain.v[v] = sub_.gain_of(m, v, fit.scale.v[v], fit.minimum.v[v]);
    choice.total = sum_of(choice.gain);
  }

  // Moves every sub-block to the best of its neighbours.
  void step_to_neighbours(Choice& choice) const {
    const Choice start = choice;
    const F most = F{} + kMostScale;
    for (const auto& [ds, dm] : kNeighbours) {
      Choice other{.d = start.d, .dmin = start.dmin};
      for (size_t v = 0; v < L::kVectors; ++v) {
        other.scales.v[v] = min_of(max_of(start.scales.v[v] + ds, F{}), most);
        other.minima.v[v] = min_of(max_of(start.minima.v[v] + dm, F{}), most);
      }
      evaluate(other);
      choice.keep_better(other);
    }
    choice.total = sum_of(choice.gain);
  }

  // The factors that fit the integers and their codes best.
  Choice refit_factors(const Choice& choice) const {
    const Fit fit = real_of(choice);
    const Moments<L> m = sub_.moments(fit.scale, fit.minimum);
    float qq = 0.0f, q = 0.0f, xq = 0.0f, w = 0.0f, x = 0.0f;
    for (size_t b = 0; b < kSub; ++b) {
      const float s = choice.scales.get(b);
      const float low = choice.minima.get(b);
      qq += s * s * m.qq.get(b);
      q += s * low * m.q.get(b);
      xq += s * m.xq.get(b);
      w += low * low * sub_.sum_w().get(b);
      x += low * sub_.sum_wx().get(b);
    }
    const float det = qq * w - q * q;
    Choice refit = choice;
    if (det > 1e-6f * qq * w) {
      const float d = (xq * w - x * q) / det;
      refit.d = block_.rounded(std::max(d, 0.0f));
      refit.dmin = block_.rounded(std::max((d * q - x) / w, 0.0f));
    } else if (qq > kTiny) {
      refit.d = block_.rounded(std::max(xq / qq, 0.0f));
    }
    evaluate(refit);
    return refit;
  }

  // The most promising pairs of factors.
  std::array<Choice, kStarts> starts(const Fit& real) const {
    const Moments<L> m = sub_.moments(real.scale, real.minimum);
    const float largest_scale = largest_of(real.scale);
    const float largest_minimum = largest_of(real.minimum);
    std::array<float, kFactorSteps.size()> ds, dmins;
    for (size_t i = 0; i < kFactorSteps.size(); ++i) {
      ds[i] = block_.rounded(largest_scale / kFactorSteps[i]);
      dmins[i] = block_.rounded(largest_minimum / kFactorSteps[i]);
    }
    std::array<Choice, kStarts> best;
    size_t n = 0;
    for (const float d : ds) {
      for (const float dmin : dmins) {
        const Choice choice = round_fit(real, m, d, dmin);
        size_t at = 0;
        while (at < n && best[at].total >= choice.total) ++at;
        if (at == kStarts) continue;
        n = std::min(n + 1, kStarts);
        for (size_t i = n - 1; i > at; --i) best[i] = best[i - 1];
        best[at] = choice;
      }
    }
    return best;
  }

  Choice best_integers(const Fit& real) const {
    Choice best{.total = -kHuge};
    for (Choice start : starts(real)) {
      evaluate(start);
      for (int round = 0; round < kRounds; ++round) {
        const float before = start.total;
        step_to_neighbours(start);
        const Choice refit = refit_factors(start);
        if (refit.total > start.total) start = refit;
        if (start.total <= before) break;
      }
      if (start.total > best.total) best = start;
    }
    return best;
  }

  Result result(const Choice& choice) const {
    Result result;
    result.d = block_.to_stored(choice.d);
    result.dmin = block_.to_stored(choice.dmin);
    const Fit fit = real_of(choice);
    for (size_t b = 0; b < kSub; ++b) {
      result.scales[b] = static_cast<uint8_t>(choice.scales.get(b));
      result.minima[b] = static_cast<uint8_t>(choice.minima.get(b));
    }
    for (size_t i = 0; i < kDepth; ++i) {
      const L codes = sub_.codes(i, fit.scale, fit.minimum);
      for (size_t b = 0; b < kSub; ++b) result.codes[b * kDepth + i] = static_cast<uint8_t>(codes.get(b));
    }
    return result;
  }

  const Block& block_;
  SubBlocks sub_;
};

template <class S>
using Q2KSearch = AffineSearch<S, 16, BlockQ2_K::kSubElements, 3, 15>;
template <class S>
using Q4KSearch = AffineSearch<S, 8, BlockQ4_K::kSubElements, 15, 63>;

template <class Search, class PackedBlock>
void quantize_affine(const float* source, const float* importance, std::byte* out, int64_t n_elements) {
  constexpr auto kElements = static_cast<int64_t>(Search::kElements);
  for (int64_t i = 0; i < n_elements; i += kElements, out += sizeof(PackedBlock)) {
    const typename Search::Block block(source + i, importance != nullptr ? importance + i : nullptr);
    PackedBlock packed{};
    if (!block.is_zero) pack_block(Search(block).run(), packed);
    std::memcpy(out, &packed, sizeof(packed));
  }
}

}  // namespace ds4
