#pragma once

// What the disk store gives up first. The value of a checkpoint is what losing it would cost, per byte that its loss
// would free:
//
//   (1 + hits) * 2^(-age / half life) * tokens saved / bytes freed
//
// with hits that decay with the same half life and the age since the last use. Tokens saved: those behind the nearest
// other checkpoint of the same chain, which could be used instead. Bytes freed: its record and the pages that only it
// reaches; pages of several checkpoints belong to all of them. A page that no checkpoint needs (yet) is rated like a
// checkpoint without hits. Pure functions.

#include <cstdint>
#include <vector>

#include "session/hash.h"

namespace ds4 {

class StoreIndex;

inline constexpr int64_t kHalfLifeSeconds = int64_t{2} * 24 * 3600;  // what is used every day stays

// Ages in half lives; 0 for times to come, when the clock was set back.
double half_lives(int64_t since_s, int64_t now_s);

struct Victim {
  bool is_page = false;
  Hash128 key;
  int64_t used_s = 0;    // when last used, or written
  double log_value = 0;  // log2 of the value; all fall alike with time, so an order stays right for what is not used
};

// Least value first. Of all candidates only a sixteenth, at least one: each loss changes the value of what is left.
std::vector<Victim> eviction_order(const StoreIndex& index, int64_t now_s);

}  // namespace ds4
