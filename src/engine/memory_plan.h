#pragma once

// How much memory an engine will take, decided before any of it is: KV pages for running and remembered sequences,
// frontiers, scratch of a step, checkpoints. What cannot fit is refused with what would. Any thread.

#include <cstdint>
#include <optional>
#include <string>

#include "backends/backend.h"
#include "base/error.h"
#include "model/activations.h"
#include "model/kv_cache.h"

namespace ds4 {

struct MemoryRequest {
  uint64_t page_bytes = 0;      // KvLayout's
  uint64_t frontier_bytes = 0;  // KvLayout's, per slot
  uint64_t scratch_bytes = 0;   // Activations'
  uint64_t weight_bytes = 0;
  uint64_t expert_bytes = 0;       // of these, routed experts, which need not all be on a device
  bool weights_are_mapped = true;  // the system reads them when they are used and drops them when memory is short
  std::string device;              // what holds weights, KV memory and scratch; empty: the machine itself
  uint64_t workspace_bytes = 0;    // a device's, beside scratch: device_workspace_bytes()
  int32_t ctx_tokens = 0;
  int32_t n_slots = 1;
  bool remembers = true;
  std::optional<uint64_t> kv_bytes;         // asked for: pages of running and remembered sequences
  std::optional<uint64_t> available_bytes;  // of the device or machine; nothing: unknown, everything is allowed
  std::optional<uint64_t> host_bytes;       // beside a device: of the machine, for checkpoints
};

struct MemoryPlan {
  KvLimits kv;
  uint64_t weight_bytes = 0;
  uint64_t kv_bytes = 0;        // pages
  uint64_t frontier_bytes = 0;  // of all slots
  uint64_t scratch_bytes = 0;
  uint64_t checkpoint_bytes = 0;  // most, beside pages; always the machine's
  uint64_t workspace_bytes = 0;
  std::string device;   // as in the request
  std::string warning;  // empty: none

  uint64_t total_bytes() const {
    return kv_bytes + frontier_bytes + scratch_bytes + checkpoint_bytes + workspace_bytes;
  }
};

// Error: kOutOfMemory when one sequence of ctx_tokens does not fit, with what would.
Result<MemoryPlan> plan_memory(const MemoryRequest& request);

// Most that a device's kernels take for a step beside Activations: scores of the indexer, expert outputs, codes of
// activations, and a fixed amount for partial sums.
uint64_t device_workspace_bytes(const Hyperparams& hyperparams, const ForwardLimits& limits, int32_t ctx_tokens);

// Bytes of routed experts that fit on a device beside everything else and one sequence of ctx_tokens.
uint64_t expert_bytes_that_fit(const MemoryRequest& request);

// Leaves the routed experts that do not fit on the request's device, or that are beyond device_bytes, in the machine's
// memory: tells the backend, takes their bytes out of the request, and says so ("" when nothing is to be said). Errors:
// kUnsupported when device_bytes is given and the backend cannot, kOutOfMemory when the machine has no room for them.
Result<std::string> limit_experts(std::optional<uint64_t> device_bytes, Backend& backend, MemoryRequest& request);

// "1.5 GiB".
std::string format_bytes(uint64_t bytes);

}  // namespace ds4
