#pragma once

// Rows, offsets and bytes of every part of the KV memory, from hyper-parameters and numeric profile. Nothing else
// knows them: ops get LayerKv, checkpoints copy whole frontiers and pages. Plain values.

#include <cstdint>
#include <span>
#include <vector>

#include "model/hyperparams.h"
#include "ops/kv_view.h"

namespace ds4 {

struct ByteRange {
  uint64_t offset = 0;
  uint64_t size_bytes = 0;
};

uint64_t total_bytes(std::span<const ByteRange> ranges);

struct KvLayout {
  std::vector<LayerKv> layers;
  uint64_t frontier_bytes = 0;  // per sequence
  uint64_t page_bytes = 0;      // per kPageTokens positions

  static KvLayout compute(const Hyperparams& hyperparams, NumericProfile profile);

  // The parts of a frontier that later tokens of a sequence of n_tokens read, ascending: rows of the sliding window and
  // of windows that are open or, where windows overlap, wanted by the open one. Everything else may hold anything.
  std::vector<ByteRange> live_frontier(int32_t n_tokens) const;
  // The parts of a page whose first n_tokens positions are computed; a full page is one part.
  std::vector<ByteRange> live_page(int32_t n_tokens) const;
  // Bytes of a checkpoint beside full pages.
  uint64_t live_bytes(int32_t n_tokens) const;
};

}  // namespace ds4
