#pragma once

// Which routed experts lie on a card that cannot hold all of them: as many in every layer, those that were picked most
// lately. The others are read from the machine's memory. What is computed does not depend on it. Plain data, no device:
// used by one thread.

#include <cstdint>
#include <span>
#include <vector>

namespace ds4::cuda {

class HotExperts {
 public:
  struct Swap {
    int32_t layer = 0;
    int32_t leaves = 0;  // the card
    int32_t enters = 0;
    bool operator==(const Swap&) const = default;
  };

  // At first the experts 0 .. n_on_card - 1 of every layer are on the card. n_on_card <= n_experts.
  HotExperts(int32_t n_layers, int32_t n_experts, int32_t n_on_card);

  // Picks [n_layers, n_experts] since the last call. Older ones count less: each call keeps 7/8 of what came before.
  void count(std::span<const uint32_t> picks);
  // Moves of the most gain, at most `most`, taken as done: an expert enters when it was picked clearly more often than
  // the coldest of its layer. In a fixed order for equal counts.
  std::vector<Swap> take_swaps(size_t most);

  bool is_on_card(int32_t layer, int32_t expert) const { return on_card_[at(layer, expert)]; }
  uint64_t n_picks() const { return n_picks_; }
  // Of them, those whose expert was on the card.
  uint64_t n_hits() const { return n_hits_; }

 private:
  size_t at(int32_t layer, int32_t expert) const {
    return static_cast<size_t>(layer) * static_cast<size_t>(n_experts_) + static_cast<size_t>(expert);
  }
  int32_t n_layers_, n_experts_;
  std::vector<bool> on_card_;
  std::vector<float> heat_;
  uint64_t n_picks_ = 0;
  uint64_t n_hits_ = 0;
};

}  // namespace ds4::cuda
