#pragma once

// The first half of the search for Q2_K and Q4_K (gguf/quantize_affine.h): a block by its sub-blocks, one per lane, and
// the real scale and minimum of each that fit best. Codes are the nearest to x under a scale and a minimum; what a set
// of codes says about the squared error are three moments, from which weighted least squares gives a better pair.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>

#include "gguf/quantize_blocks.h"
#include "gguf/quantize_simd.h"

namespace ds4 {

// What a set of codes q says about the squared error of scale * q - minimum, per lane.
template <class L>
struct Moments {
  L q{}, qq{}, xq{};  // sums of w q, w q^2, w x q
};

// Scale and minimum of every lane, and by how much they reduce the squared error, from the sum of w x^2.
template <class L>
struct AffineFit {
  L scale{}, minimum{}, gain{};
};

// kSub sub-blocks of kDepth elements; codes 0..kLevels.
template <class S, size_t kSub, size_t kDepth, int kLevels>
class AffineSubBlocks {
 public:
  static constexpr size_t kElements = kSub * kDepth;
  static constexpr float kTiny = 1e-20f;
  using Block = ScaledBlock<S, kElements>;
  using L = Lanes<S, kSub>;
  using F = typename S::F;
  using Fit = AffineFit<L>;

  explicit AffineSubBlocks(const Block& block) {
    for (size_t i = 0; i < kDepth; ++i) {
      for (size_t b = 0; b < kSub; ++b) {
        x_[i].set(b, block.values[b * kDepth + i]);
        w_[i].set(b, block.weights[b * kDepth + i]);
      }
      for (size_t v = 0; v < L::kVectors; ++v) {
        sum_w_.v[v] += w_[i].v[v];
        sum_wx_.v[v] += w_[i].v[v] * x_[i].v[v];
        sum_wxx_.v[v] += w_[i].v[v] * x_[i].v[v] * x_[i].v[v];
        low_.v[v] = min_of(low_.v[v], x_[i].v[v]);
        high_.v[v] = max_of(high_.v[v], x_[i].v[v]);
      }
    }
  }

  const L& sum_w() const { return sum_w_; }
  const L& sum_wx() const { return sum_wx_; }

  // Of element i of every sub-block: those nearest to x under these scales and minima.
  L codes(size_t i, const L& scale, const L& minimum) const {
    L codes;
    for (size_t v = 0; v < L::kVectors; ++v) codes.v[v] = code_of(i, v, inverse_of(scale.v[v]), minimum.v[v]);
    return codes;
  }

  // Of all those codes.
  Moments<L> moments(const L& scale, const L& minimum) const {
    Moments<L> m;
    L inverse;
    for (size_t v = 0; v < L::kVectors; ++v) inverse.v[v] = inverse_of(scale.v[v]);
    for (size_t i = 0; i < kDepth; ++i) {
      for (size_t v = 0; v < L::kVectors; ++v) {
        const F q = code_of(i, v, inverse.v[v], minimum.v[v]);
        const F wq = w_[i].v[v] * q;
        m.q.v[v] += wq;
        m.qq.v[v] += wq * q;
        m.xq.v[v] += wq * x_[i].v[v];
      }
    }
    return m;
  }

  F gain_of(const Moments<L>& m, size_t v, F scale, F minimum) const {
    return scale * (2.0f * (m.xq.v[v] + minimum * m.q.v[v]) - scale * m.qq.v[v]) -
           minimum * (2.0f * sum_wx_.v[v] + minimum * sum_w_.v[v]);
  }

  // The best fit that was found.
  Fit search_real() const {
    Fit best;
    // A constant, for what has no range.
    for (size_t v = 0; v < L::kVectors; ++v) {
      best.minimum.v[v] = max_of(-sum_wx_.v[v], F{}) / sum_w_.v[v];
      best.gain.v[v] = gain_of({}, v, F{}, best.minimum.v[v]);
    }
    for (const float share : kRangeShares) search_range(low_, high_, share, best);
    L low, high;
    for (size_t v = 0; v < L::kVectors; ++v) {
      const F mean = sum_wx_.v[v] / sum_w_.v[v];
      const F variance = sum_wxx_.v[v] / sum_w_.v[v] - mean * mean;
      low.v[v] = max_of(low_.v[v], min_of(mean - kReach * root_of(variance), F{}));
      high.v[v] = min_of(high_.v[v], max_of(mean + kReach * root_of(variance), F{}));
    }
    search_range(low, high, 1.0f, best);
    for (int i = 0; i < kDescents; ++i) keep_least_squares(moments(best.scale, best.minimum), best);
    return best;
  }

 private:
  void search_range(const L& low, const L& high, float share, Fit& best) const {
    for (const float steps : kRangeSteps) {
      L scale, minimum;
      for (size_t v = 0; v < L::kVectors; ++v) {
        minimum.v[v] = -low.v[v] * share;
        scale.v[v] = (high.v[v] - low.v[v]) * (share / steps);
      }
      keep_least_squares(moments(scale, minimum), best);
    }
  }

  static F root_of(F value) {
    F root{};
    for (size_t l = 0; l < S::kLanes; ++l) root[l] = std::sqrt(std::max(value[l], 0.0f));
    return root;
  }

  static F inverse_of(F scale) { return scale > kTiny ? 1.0f / scale : F{}; }

  F code_of(size_t i, size_t v, F inverse, F minimum) const {
    const F code = max_of((x_[i].v[v] + minimum) * inverse, F{});
    return round_even(min_of(code, F{} + static_cast<float>(kLevels)));
  }

  // Takes over what is the best fit of the codes behind `m` where it is better: weighted least squares with a minimum
  // that is not below 0.
  void keep_least_squares(const Moments<L>& m, Fit& best) const {
    for (size_t v = 0; v < L::kVectors; ++v) {
      const F whole = m.qq.v[v] * sum_w_.v[v];
      const F det = whole - m.q.v[v] * m.q.v[v];
      const F s = (m.xq.v[v] * sum_w_.v[v] - sum_wx_.v[v] * m.q.v[v]) / max_of(det, F{} + kTiny);
      const F low = (s * m.q.v[v] - sum_wx_.v[v]) / sum_w_.v[v];
      const F alone = max_of(m.xq.v[v], F{}) / max_of(m.qq.v[v], F{} + kTiny);
      const auto both = (det > 1e-5f * whole) & (low > 0.0f) & (s > 0.0f);
      const F scale = both ? s : alone;
      const F minimum = both ? low : F{};
      const F gain = gain_of(m, v, scale, minimum);
      // Not for a rounding error's sake: a constant has many exact fits, and the sub-blocks should take the same one.
      const auto better = gain > best.gain.v[v] * kNoticeable;
      best.scale.v[v] = better ? scale : best.scale.v[v];
      best.minimum.v[v] = better ? minimum : best.minimum.v[v];
      best.gain.v[v] = better ? gain : best.gain.v[v];
    }
  }

  // Guesses of a sub-block's range: shares of its width, or so many weighted deviations, because what lies far out may
  // have no weight; and how many steps it is cut into.
  static constexpr std::array<float, 3> kRangeShares = {1.0f, 0.85f, 0.7f};
  static constexpr float kReach = kLevels > 3 ? 2.5f : 1.4f;
  static constexpr std::array<float, 8> kRangeSteps = {kLevels + 0.0f, kLevels - 0.6f, kLevels - 0.3f, kLevels + 0.3f,
                                                       kLevels + 0.6f, kLevels + 0.9f, kLevels + 1.2f, kLevels + 1.5f};
  static constexpr int kDescents = 4;
  static constexpr float kNoticeable = 1.000002f;

  std::array<L, kDepth> x_;
  std::array<L, kDepth> w_;
  L sum_w_{}, sum_wx_{}, sum_wxx_{}, low_{}, high_{};
};

}  // namespace ds4
