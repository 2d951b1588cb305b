#pragma once

// Rows, offsets and bytes of every part of the KV memory, from hyper-parameters and numeric profile. Nothing else
// knows them: ops get LayerKv, checkpoints copy whole frontiers and pages. Plain values.

#include <cstdint>
#include <vector>

#include "model/hyperparams.h"
#include "ops/kv_view.h"

namespace ds4 {

struct KvLayout {
  std::vector<LayerKv> layers;
  uint64_t frontier_bytes = 0;  // per sequence
  uint64_t page_bytes = 0;      // per kPageTokens positions

  static KvLayout compute(const Hyperparams& hyperparams, NumericProfile profile);
};

}  // namespace ds4
