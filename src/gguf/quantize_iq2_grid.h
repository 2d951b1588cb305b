#pragma once

// The first half of the search for IQ2_XXS (gguf/quantize_iq2.h): what each grid entry is worth to each eight values of
// a block, and the best entry under a scale. The error of entry G under scale s is |x|^2 - s (dot(G) - s norm(G)),
// where dot is twice the weighted sum of magnitudes times grid values. An eight with an odd number of minus signs must
// store one of them wrongly: for each entry that which costs it least, and dot has that taken off.

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>

#include "gguf/blocks.h"
#include "gguf/iq_tables.h"
#include "gguf/quantize_blocks.h"
#include "gguf/quantize_simd.h"

namespace ds4 {

template <class S>
class Iq2Eights {
 public:
  using Block = ScaledBlock<S, BlockIQ2_XXS::kElements>;
  static constexpr size_t kEights = BlockIQ2_XXS::kElements / 8;

  struct Winner {
    float gain;  // over the scale
    size_t entry;
  };

  explicit Iq2Eights(const Block& block) : block_(block) {
    for (size_t e = 0; e < kEights; ++e) measure(e);
  }

  float dot(size_t e, size_t entry) const { return dots_[e].get(entry); }
  float norm(size_t e, size_t entry) const { return norms_[e]->get(entry); }

  // The first of the best entries of an eight under each of the scales.
  template <size_t kScales>
  std::array<Winner, kScales> best_entries(size_t e, const std::array<float, kScales>& scales) const {
    F gains[kScales];
    I where[kScales] = {};
    for (F& gain : gains) gain = F{} - kHuge;
    for (size_t v = 0; v < Entries::kVectors; ++v) {
      const F dot = dots_[e].v[v];
      const F norm = norms_[e]->v[v];
      for (size_t t = 0; t < kScales; ++t) {
        const F gain = dot - norm * scales[t];
        const auto better = gain > gains[t];
        where[t] = better ? I{} + static_cast<int32_t>(v) : where[t];
        gains[t] = better ? gain : gains[t];
      }
    }
    std::array<Winner, kScales> winners;
    for (size_t t = 0; t < kScales; ++t) {
      winners[t] = {-kHuge, kEntries};
      for (size_t lane = 0; lane < S::kLanes; ++lane) {
        const Winner winner{gains[t][lane], static_cast<size_t>(where[t][lane]) * S::kLanes + lane};
        const bool better = winner.gain > winners[t].gain;
        if (better || (winner.gain == winners[t].gain && winner.entry < winners[t].entry)) winners[t] = winner;
      }
    }
    return winners;
  }

  // The largest gains of an eight over the scale, under each of the scales.
  template <size_t kScales>
  std::array<float, kScales> best_gains(size_t e, const std::array<float, kScales>& scales) const {
    F gains[kScales];
    for (F& gain : gains) gain = F{} - kHuge;
    for (size_t v = 0; v < Entries::kVectors; ++v) {
      const F dot = dots_[e].v[v];
      const F norm = norms_[e]->v[v];
      for (size_t t = 0; t < kScales; ++t) gains[t] = max_of(dot - norm * scales[t], gains[t]);
    }
    std::array<float, kScales> best;
    for (size_t t = 0; t < kScales; ++t) {
      best[t] = gains[t][0];
      for (size_t lane = 1; lane < S::kLanes; ++lane) best[t] = std::max(best[t], gains[t][lane]);
    }
    return best;
  }

  // Seven sign bits; the eighth follows from them.
  uint32_t sign_code(size_t e, size_t entry) const {
    uint32_t signs = signs_[e];
    if ((std::popcount(signs) & 1) != 0) {
      size_t cheapest = 0;
      float least = 0.0f;
      for (size_t j = 0; j < 8; ++j) {
        const size_t i = 8 * e + j;
        const float part =
            static_cast<float>(kIq2xxsGrid[entry][j]) * (block_.weights[i] * std::fabs(block_.values[i]));
        if (j > 0 && part >= least) continue;
        least = part;
        cheapest = j;
      }
      signs ^= 1u << cheapest;
    }
    return signs & 127u;
  }

 private:
  using F = typename S::F;
  using I = typename S::I;
  static constexpr size_t kEntries = 256;
  static constexpr float kHuge = 1e30f;
  using Entries = Lanes<S, kEntries>;

  // The grid by columns, and the norms of its entries under equal weights.
  struct Grid {
    std::array<Entries, 8> values;
    std::array<Entries, 8> squares;
    Entries norms;
    Grid() {
      for (size_t j = 0; j < 8; ++j) {
        for (size_t entry = 0; entry < kEntries; ++entry) {
          const auto value = static_cast<float>(kIq2xxsGrid[entry][j]);
          values[j].set(entry, value);
          squares[j].set(entry, value * value);
          norms.set(entry, norms.get(entry) + value * value);
        }
      }
    }
  };

  static const Grid& grid() {
    static const Grid kGrid;
    return kGrid;
  }

  void measure(size_t e) {
    const Grid& columns = grid();
    std::array<float, 8> wx;
    uint32_t signs = 0;
    for (size_t j = 0; j < 8; ++j) {
      const float x = block_.values[8 * e + j];
      signs |= static_cast<uint32_t>(std::signbit(x)) << j;
      wx[j] = 2.0f * block_.weights[8 * e + j] * std::fabs(x);
    }
    signs_[e] = static_cast<uint8_t>(signs);
    const bool is_odd = (std::popcount(signs) & 1) != 0;
    for (size_t v = 0; v < Entries::kVectors; ++v) {
      F dot{};
      for (size_t j = 0; j < 8; ++j) dot += columns.values[j].v[v] * wx[j];
      if (is_odd) {
        F least = columns.values[0].v[v] * wx[0];
        for (size_t j = 1; j < 8; ++j) least = min_of(least, columns.values[j].v[v] * wx[j]);
        dot -= 2.0f * least;
      }
      dots_[e].v[v] = dot;
    }
    norms_[e] = block_.is_uniform ? &columns.norms : &weighted_norms_[e];
    if (block_.is_uniform) return;
    const float* w = block_.weights.data() + 8 * e;
    for (size_t v = 0; v < Entries::kVectors; ++v) {
      F norm{};
      for (size_t j = 0; j < 8; ++j) norm += columns.squares[j].v[v] * w[j];
      weighted_norms_[e].v[v] = norm;
    }
  }

  const Block& block_;
  std::array<Entries, kEights> dots_;
  std::array<Entries, kEights> weighted_norms_;
  std::array<const Entries*, kEights> norms_;
  std::array<uint8_t, kEights> signs_{};
};

}  // namespace ds4
