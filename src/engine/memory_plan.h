#pragma once

// How much memory an engine will take, decided before any of it is: KV pages for running and remembered sequences,
// frontiers, scratch of a step, checkpoints. What cannot fit is refused with what would. Pure functions, any thread.

#include <cstdint>
#include <optional>
#include <string>

#include "base/error.h"
#include "model/kv_cache.h"

namespace ds4 {

struct MemoryRequest {
  uint64_t page_bytes = 0;      // KvLayout's
  uint64_t frontier_bytes = 0;  // KvLayout's, per slot
  uint64_t scratch_bytes = 0;   // Activations'
  uint64_t weight_bytes = 0;
  bool weights_are_mapped = true;  // the system reads them when they are used and drops them when memory is short
  int32_t ctx_tokens = 0;
  int32_t n_slots = 1;
  bool remembers = true;
  std::optional<uint64_t> kv_bytes;         // asked for: pages of running and remembered sequences
  std::optional<uint64_t> available_bytes;  // of the machine; nothing: unknown, everything is allowed
};

struct MemoryPlan {
  KvLimits kv;
  uint64_t weight_bytes = 0;
  uint64_t kv_bytes = 0;        // pages
  uint64_t frontier_bytes = 0;  // of all slots
  uint64_t scratch_bytes = 0;
  uint64_t checkpoint_bytes = 0;  // most, beside pages
  std::string warning;            // empty: none

  uint64_t total_bytes() const { return kv_bytes + frontier_bytes + scratch_bytes + checkpoint_bytes; }
};

// Error: kOutOfMemory when one sequence of ctx_tokens does not fit, with the context that would.
Result<MemoryPlan> plan_memory(const MemoryRequest& request);

// "1.5 GiB".
std::string format_bytes(uint64_t bytes);

}  // namespace ds4
