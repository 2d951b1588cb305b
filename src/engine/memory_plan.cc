#include "engine/memory_plan.h"

#include <algorithm>
#include <limits>

namespace ds4 {
namespace {

constexpr uint64_t kMostCheckpointBytes = uint64_t{2} << 30;
// Of what the machine has left: the rest is for the system, other programs and mapped weights.
constexpr uint64_t kUsablePercent = 90;

uint64_t pages_for(int64_t n_tokens) { return static_cast<uint64_t>((n_tokens + kPageTokens - 1) / kPageTokens); }

}  // namespace

std::string format_bytes(uint64_t bytes) {
  const auto value = static_cast<double>(bytes);
  if (bytes < uint64_t{1} << 20) return fmt::format("{:.1f} KiB", value / 1024);
  if (bytes < uint64_t{1} << 30) return fmt::format("{:.1f} MiB", value / (1 << 20));
  return fmt::format("{:.2f} GiB", value / (1 << 30));
}

Result<MemoryPlan> plan_memory(const MemoryRequest& request) {
  const uint64_t page_bytes = std::max<uint64_t>(request.page_bytes, 1);
  MemoryPlan plan{.kv = {.n_slots = request.n_slots, .ctx_tokens = request.ctx_tokens},
                  .weight_bytes = request.weight_bytes,
                  .frontier_bytes = request.frontier_bytes * static_cast<uint64_t>(request.n_slots),
                  .scratch_bytes = request.scratch_bytes};
  const uint64_t available = request.available_bytes.value_or(std::numeric_limits<uint64_t>::max());
  const uint64_t usable = available / 100 * kUsablePercent;
  if (request.remembers) plan.checkpoint_bytes = std::min(kMostCheckpointBytes, usable / 8);
  const uint64_t placed_weights = request.weights_are_mapped ? 0 : request.weight_bytes;
  const uint64_t fixed = placed_weights + plan.frontier_bytes + plan.scratch_bytes + plan.checkpoint_bytes;
  const uint64_t pages_that_fit = std::min<uint64_t>(usable > fixed ? (usable - fixed) / page_bytes : 0, 1u << 30);

  const uint64_t per_sequence = pages_for(request.ctx_tokens);
  const uint64_t all_slots = per_sequence * static_cast<uint64_t>(request.n_slots);
  // As many again for what is remembered, but not more than half of what is left for it.
  uint64_t n_pages = all_slots;
  if (request.remembers && pages_that_fit > all_slots) n_pages += std::min(all_slots, (pages_that_fit - all_slots) / 2);
  if (request.kv_bytes) n_pages = *request.kv_bytes / page_bytes;
  if (n_pages < per_sequence && request.kv_bytes) {
    return make_error(ErrorCode::kOutOfMemory,
                      "{} for KV pages: one sequence of {} tokens needs {}; a context of {} tokens would fit",
                      format_bytes(*request.kv_bytes), request.ctx_tokens, format_bytes(per_sequence * page_bytes),
                      n_pages * kPageTokens);
  }
  if (pages_that_fit < (request.kv_bytes ? n_pages : per_sequence)) {
    return make_error(ErrorCode::kOutOfMemory,
                      "{} of memory are available; {} for a context of {} tokens do not fit beside {} for {} slots, "
                      "scratch and checkpoints{}; a context of {} tokens would fit",
                      format_bytes(available), format_bytes((request.kv_bytes ? n_pages : per_sequence) * page_bytes),
                      request.ctx_tokens, format_bytes(fixed - placed_weights), request.n_slots,
                      placed_weights > 0 ? fmt::format(" and {} of weights", format_bytes(placed_weights)) : "",
                      pages_that_fit * kPageTokens);
  }
  n_pages = std::min(n_pages, pages_that_fit);
  if (n_pages < all_slots) {
    plan.warning = fmt::format(
        "KV pages for {} tokens: {} sequences of {} tokens cannot all be that long at once, "
        "later ones will wait",
        n_pages * kPageTokens, request.n_slots, request.ctx_tokens);
  } else if (request.weights_are_mapped && request.weight_bytes > usable - std::min(usable, fixed)) {
    plan.warning = fmt::format("{} of weights do not stay in {} of memory: they are read from the file again and again",
                               format_bytes(request.weight_bytes), format_bytes(available));
  }
  plan.kv.n_pages = static_cast<int32_t>(n_pages);
  plan.kv_bytes = n_pages * page_bytes;
  return plan;
}

}  // namespace ds4
