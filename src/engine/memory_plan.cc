#include "engine/memory_plan.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace ds4 {
namespace {

constexpr uint64_t kMostCheckpointBytes = uint64_t{2} << 30;
// Of what the machine has left: the rest is for the system, other programs and mapped weights.
constexpr uint64_t kUsablePercent = 90;
// Of a device: for recorded steps, code of kernels, and what the driver rounds up.
constexpr uint64_t kDeviceReserveBytes = uint64_t{768} << 20;
constexpr uint64_t kPartialSumBytes = uint64_t{128} << 20;

uint64_t pages_for(int64_t n_tokens) { return static_cast<uint64_t>((n_tokens + kPageTokens - 1) / kPageTokens); }

// Why a device is too small, and what would fit.
Error device_refusal(const MemoryRequest& request, uint64_t usable, uint64_t kv_bytes) {
  const uint64_t steps = request.scratch_bytes + request.workspace_bytes;
  const uint64_t frontiers = request.frontier_bytes * static_cast<uint64_t>(request.n_slots);
  const uint64_t needed = request.weight_bytes + frontiers + steps + kv_bytes;
  std::string text = fmt::format(
      "{}: {} of device memory are needed, {} can be used: {} for weights, {} for a context of {} tokens, {} for {} "
      "slots, {} for steps",
      request.device, format_bytes(needed), format_bytes(usable), format_bytes(request.weight_bytes),
      format_bytes(kv_bytes), request.ctx_tokens, format_bytes(frontiers), request.n_slots, format_bytes(steps));
  const uint64_t one_slot = request.weight_bytes + request.frontier_bytes + steps;
  const uint64_t beside_weights = needed - request.weight_bytes;
  if (usable > one_slot + request.page_bytes) {
    uint64_t n_tokens = (usable - std::min(usable, request.weight_bytes + frontiers + steps)) /
                        std::max<uint64_t>(request.page_bytes, 1) * kPageTokens;
    if (request.kv_bytes) n_tokens /= static_cast<uint64_t>(request.n_slots);  // pages of all of them are asked for
    if (n_tokens > 0) text += fmt::format("; a context of {} tokens would fit", n_tokens);
    if (request.n_slots > 1 && usable - one_slot >= kv_bytes) text += "; fewer slots would fit";
  } else if (usable > beside_weights) {
    text += fmt::format("; weights of at most {} would fit: a file with smaller types",
                        format_bytes(usable - beside_weights));
  }
  return make_error(ErrorCode::kOutOfMemory, "{}", text);
}

uint64_t usable_of_device(uint64_t available) { return available - std::min(available, kDeviceReserveBytes); }

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
                  .scratch_bytes = request.scratch_bytes,
                  .workspace_bytes = request.workspace_bytes,
                  .device = request.device};
  const bool is_device = !request.device.empty();
  const uint64_t available = request.available_bytes.value_or(std::numeric_limits<uint64_t>::max());
  const uint64_t usable = is_device ? usable_of_device(available) : available / 100 * kUsablePercent;
  if (request.remembers) {
    const uint64_t host = is_device ? request.host_bytes.value_or(available) / 100 * kUsablePercent : usable;
    plan.checkpoint_bytes = std::min(kMostCheckpointBytes, host / 8);
  }
  const uint64_t placed_weights = request.weights_are_mapped ? 0 : request.weight_bytes;
  const uint64_t fixed = placed_weights + plan.frontier_bytes + plan.scratch_bytes + plan.workspace_bytes +
                         (is_device ? 0 : plan.checkpoint_bytes);
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
    if (is_device) return device_refusal(request, usable, (request.kv_bytes ? n_pages : per_sequence) * page_bytes);
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

uint64_t expert_bytes_that_fit(const MemoryRequest& request) {
  const uint64_t usable = usable_of_device(request.available_bytes.value_or(std::numeric_limits<uint64_t>::max()));
  const uint64_t kv_bytes = request.kv_bytes.value_or(pages_for(request.ctx_tokens) * request.page_bytes);
  const uint64_t others = request.weight_bytes - request.expert_bytes + request.scratch_bytes +
                          request.workspace_bytes + kv_bytes +
                          request.frontier_bytes * static_cast<uint64_t>(request.n_slots);
  return usable > others ? std::min(usable - others, request.expert_bytes) : 0;
}

Result<std::string> limit_experts(std::optional<uint64_t> device_bytes, Backend& backend, MemoryRequest& request) {
  if (request.expert_bytes == 0 && !device_bytes) return std::string();
  const uint64_t wanted = device_bytes.value_or(expert_bytes_that_fit(request));
  if (wanted >= request.expert_bytes && !request.device.empty()) return std::string();
  if (!backend.keep_experts_within(wanted)) {
    if (!device_bytes) return std::string();  // the plan says what does not fit
    return make_error(ErrorCode::kUnsupported, "the {} backend cannot leave experts in the machine's memory",
                      backend.name());
  }
  const uint64_t elsewhere = request.expert_bytes - wanted;
  if (request.host_bytes && elsewhere > *request.host_bytes / 10 * 9) {
    return make_error(ErrorCode::kOutOfMemory,
                      "{}: {} of experts do not fit beside the rest, and the machine has {} for them", request.device,
                      format_bytes(elsewhere), format_bytes(*request.host_bytes));
  }
  request.weight_bytes -= elsewhere;
  return fmt::format("{} of {} of routed experts stay in the machine's memory and are read over the bus",
                     format_bytes(elsewhere), format_bytes(request.expert_bytes));
}

uint64_t device_workspace_bytes(const Hyperparams& h, const ForwardLimits& limits, int32_t ctx_tokens) {
  const auto rows = static_cast<uint64_t>(limits.batch_rows);
  const bool has_index = std::ranges::find(h.compress_ratios, 4) != h.compress_ratios.end();
  // Scores are kept for every position up to the next power of two.
  const uint64_t positions = std::bit_ceil(static_cast<uint64_t>(std::max(ctx_tokens, 1)));
  const uint64_t scores = has_index ? rows * (positions / 4) * sizeof(float) : 0;
  const uint64_t mid = rows * static_cast<uint64_t>(h.n_expert_used) * static_cast<uint64_t>(h.expert_ff);
  const uint64_t heads = rows * static_cast<uint64_t>(h.n_head) * static_cast<uint64_t>(h.head_dim);
  // Codes are a byte and, for every 32, a scale.
  const uint64_t codes = 2 * std::max(mid, heads) * 9 / 8;
  return scores + mid * sizeof(float) + codes + kPartialSumBytes;
}

}  // namespace ds4
