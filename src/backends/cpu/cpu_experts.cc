// Routed experts: slots (row, k) are sorted by expert, so that each expert's weight row is unpacked once per batch.
// Each slot's output is kept apart and a row's slots are added in ascending k: the order in which experts run does
// not show in the result.

#include <algorithm>
#include <numeric>

#include "backends/cpu/cpu_ops.h"
#include "backends/cpu/kernels.h"
#include "ops/reference/experts.h"

namespace ds4 {

namespace {

constexpr int64_t kWeightRowsPerGrain = 16;

// Slots of each expert that is used at all, ascending.
struct ExpertSlots {
  int32_t expert;
  std::vector<int64_t> slots;
};

std::vector<ExpertSlots> group_by_expert(const TensorView& ids) {
  std::vector<int64_t> order(static_cast<size_t>(ids.elements()));
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    const int32_t x = ids.i32()[a];
    const int32_t y = ids.i32()[b];
    return x != y ? x < y : a < b;
  });
  std::vector<ExpertSlots> groups;
  for (const int64_t slot : order) {
    if (groups.empty() || groups.back().expert != ids.i32()[slot]) groups.push_back({ids.i32()[slot], {}});
    groups.back().slots.push_back(slot);
  }
  return groups;
}

}  // namespace

void CpuOps::experts(const ExpertsArgs& args, const TensorView& out) {
  const int64_t n_rows = args.x.shape[0];
  if (n_rows == 0) return;
  const int64_t width = args.x.shape[1];
  const int64_t hidden = args.gate.shape[1];
  const int64_t n_used = args.ids.shape[1];
  const std::vector<ExpertSlots> groups = group_by_expert(args.ids);
  quantize_rows(args.x.f32(), n_rows, width, args.gate.type, gate_rows_);
  quantize_rows(args.x.f32(), n_rows, width, args.up.type, up_rows_);
  mid_.resize(static_cast<size_t>(n_rows * n_used * hidden));
  slot_out_.resize(static_cast<size_t>(n_rows * n_used * width));

  // body(group, first, last) over blocks of weight rows of every group.
  const auto for_weight_rows = [&](int64_t n_out, const auto& body) {
    const int64_t n_blocks = (n_out + kWeightRowsPerGrain - 1) / kWeightRowsPerGrain;
    pool_.parallel_for(static_cast<int64_t>(groups.size()) * n_blocks, 1, [&](int64_t first, int64_t last) {
      for (int64_t i = first; i < last; ++i) {
        const int64_t row = i % n_blocks * kWeightRowsPerGrain;
        body(groups[static_cast<size_t>(i / n_blocks)], row, std::min(row + kWeightRowsPerGrain, n_out));
      }
    });
  };
  const auto load_row = [&](cpu::WeightRow& row, const TensorView& matrices, int32_t expert, int64_t index) {
    const int64_t n_in = matrices.shape[2];
    const auto row_size = static_cast<int64_t>(row_bytes(matrices.type, n_in).value());
    row.load(matrices.type, reference::expert_matrix(matrices, expert) + index * row_size, n_in,
             activation_form(matrices.type, profile_));
  };

  for_weight_rows(hidden, [&](const ExpertSlots& group, int64_t first, int64_t last) {
    cpu::WeightRow gate;
    cpu::WeightRow up;
    for (int64_t f = first; f < last; ++f) {
      load_row(gate, args.gate, group.expert, f);
      load_row(up, args.up, group.expert, f);
      for (const int64_t slot : group.slots) {
        const auto row = static_cast<size_t>(slot / n_used);
        const float mid = reference::swiglu<float>(gate.dot(gate_rows_[row]), up.dot(up_rows_[row]), args.clamp);
        mid_[static_cast<size_t>(slot * hidden + f)] = mid * args.weights.f32()[slot];
      }
    }
  });
  if (args.mid) std::ranges::copy(mid_, args.mid.f32());
  quantize_rows(mid_.data(), n_rows * n_used, hidden, args.down.type, mid_rows_);
  for_weight_rows(width, [&](const ExpertSlots& group, int64_t first, int64_t last) {
    cpu::WeightRow down;
    for (int64_t d = first; d < last; ++d) {
      load_row(down, args.down, group.expert, d);
      for (const int64_t slot : group.slots)
        slot_out_[static_cast<size_t>(slot * width + d)] = down.dot(mid_rows_[static_cast<size_t>(slot)]);
    }
  });
  pool_.parallel_for(n_rows, 4, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      for (int64_t d = 0; d < width; ++d) {
        float sum = 0.0f;
        for (int64_t k = 0; k < n_used; ++k) sum += slot_out_[static_cast<size_t>((r * n_used + k) * width + d)];
        out.f32()[r * width + d] = sum;
      }
    }
  });
}

}  // namespace ds4
