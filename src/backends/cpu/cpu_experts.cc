// Routed experts: slots (row, k) are sorted by expert, so that each expert's weight rows are unpacked once per batch.
// Each slot's output is kept apart and a row's slots are added in ascending k: the order in which experts run does
// not show in the result.

#include <algorithm>
#include <numeric>

#include "backends/cpu/cpu_ops.h"

namespace ds4 {

namespace {

constexpr int64_t kChunkRows = 32;      // weight rows that a thread takes at once: the kernels' tile
constexpr int64_t kChunkColumns = 256;  // slots whose gate and up products wait on the stack

cpu::WeightMatrix expert_rows(const TensorView& matrices, int32_t expert, int64_t first_row) {
  return cpu::weight_rows(matrices, expert * matrices.shape[1] + first_row);
}

}  // namespace

void CpuOps::group_by_expert(const TensorView& ids) {
  const int32_t* expert_of = ids.i32();
  slots_.resize(static_cast<size_t>(ids.elements()));
  std::iota(slots_.begin(), slots_.end(), 0);
  std::sort(slots_.begin(), slots_.end(),
            [&](int32_t a, int32_t b) { return expert_of[a] != expert_of[b] ? expert_of[a] < expert_of[b] : a < b; });
  groups_.clear();
  for (size_t i = 0; i < slots_.size(); ++i) {
    const int32_t expert = expert_of[slots_[i]];
    if (groups_.empty() || groups_.back().expert != expert) groups_.push_back({expert, i, 0});
    ++groups_.back().n_slots;
  }
}

// body(group, first, last) over chunks of n_out weight rows of every group.
template <class Body>
void CpuOps::for_expert_rows(int64_t n_out, const Body& body) {
  const int64_t n_chunks = (n_out + kChunkRows - 1) / kChunkRows;
  pool_.parallel_for(static_cast<int64_t>(groups_.size()) * n_chunks, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      const int64_t row = i % n_chunks * kChunkRows;
      body(groups_[static_cast<size_t>(i / n_chunks)], row, std::min(row + kChunkRows, n_out));
    }
  });
}

// The gate's rows where both want the same form, as they do in every published file.
const cpu::ActivationRows& CpuOps::rows_for_up(const ExpertsArgs& args) const {
  return activation_form(args.up.type, profile_) == gate_rows_.form() ? gate_rows_ : up_rows_;
}

// mid[slot] = swiglu(gate x, up x) * weight of the slot, for weight rows [first, last) of one expert.
void CpuOps::expert_products(const ExpertsArgs& args, const ExpertSlots& group, int64_t first, int64_t last) {
  const int64_t n_used = args.ids.shape[1];
  const int64_t hidden = args.gate.shape[1];
  const cpu::WeightMatrix gate = expert_rows(args.gate, group.expert, first);
  const cpu::WeightMatrix up = expert_rows(args.up, group.expert, first);
  const cpu::ActivationRows& up_rows = rows_for_up(args);
  float gate_out[kChunkColumns][kChunkRows];
  float up_out[kChunkColumns][kChunkRows];
  cpu::Column columns[kChunkColumns];
  for (size_t done = 0; done < group.n_slots; done += kChunkColumns) {
    const std::span slots =
        std::span(slots_).subspan(group.first_slot + done, std::min<size_t>(kChunkColumns, group.n_slots - done));
    for (size_t i = 0; i < slots.size(); ++i) columns[i] = gate_rows_.column(slots[i] / n_used, gate_out[i]);
    kernels_.multiply(gate, gate_rows_.form(), 0, last - first, {columns, slots.size()});
    for (size_t i = 0; i < slots.size(); ++i) columns[i] = up_rows.column(slots[i] / n_used, up_out[i]);
    kernels_.multiply(up, up_rows.form(), 0, last - first, {columns, slots.size()});
    for (size_t i = 0; i < slots.size(); ++i) {
      float* mid = mid_.data() + slots[i] * hidden + first;
      const float weight = args.weights.f32()[slots[i]];
      kernels_.rows->swiglu(gate_out[i], up_out[i], args.clamp, weight, last - first, mid);
    }
  }
}

void CpuOps::experts(const ExpertsArgs& args, const TensorView& out) {
  const int64_t n_rows = args.x.shape[0];
  if (n_rows == 0) return;
  const int64_t width = args.x.shape[1];
  const int64_t hidden = args.gate.shape[1];
  const int64_t n_used = args.ids.shape[1];
  const int64_t n_slots = n_rows * n_used;
  group_by_expert(args.ids);
  gate_rows_.prepare(kernels_, pool_, args.x.f32(), n_rows, width, activation_form(args.gate.type, profile_));
  if (&rows_for_up(args) == &up_rows_)
    up_rows_.prepare(kernels_, pool_, args.x.f32(), n_rows, width, activation_form(args.up.type, profile_));
  mid_.resize(std::max(mid_.size(), static_cast<size_t>(n_slots * hidden)));
  slot_out_.resize(std::max(slot_out_.size(), static_cast<size_t>(n_slots * width)));

  for_expert_rows(hidden, [&](const ExpertSlots& group, int64_t first, int64_t last) {
    expert_products(args, group, first, last);
  });
  if (args.mid) std::copy_n(mid_.data(), n_slots * hidden, args.mid.f32());

  rows_.prepare(kernels_, pool_, mid_.data(), n_slots, hidden, activation_form(args.down.type, profile_));
  columns_.clear();
  for (const int32_t slot : slots_) columns_.push_back(rows_.column(slot, slot_out_.data() + slot * width));
  for_expert_rows(width, [&](const ExpertSlots& group, int64_t first, int64_t last) {
    kernels_.multiply(expert_rows(args.down, group.expert, 0), rows_.form(), first, last,
                      {columns_.data() + group.first_slot, group.n_slots});
  });
  pool_.parallel_for(n_rows, 4, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      const float* parts = slot_out_.data() + r * n_used * width;
      float* sums = out.f32() + r * width;
      std::fill_n(sums, width, 0.0f);
      for (int64_t k = 0; k < n_used; ++k) {
        for (int64_t d = 0; d < width; ++d) sums[d] += parts[k * width + d];
      }
    }
  });
}

// Gate and up share the quantised input and a loop.
void CpuOps::shared_expert(const SharedExpertArgs& args, const TensorView& out) {
  const ActivationForm form = activation_form(args.gate.type, profile_);
  if (activation_form(args.up.type, profile_) != form) return Ops::shared_expert(args, out);
  const int64_t n_rows = args.x.shape[0];
  if (n_rows == 0) return;
  const int64_t width = args.x.shape[1];
  const int64_t hidden = args.gate.shape[0];
  rows_.prepare(kernels_, pool_, args.x.f32(), n_rows, width, form);
  columns_.clear();
  for (const TensorView& scratch : {args.gate_scratch, args.up_scratch}) {
    for (int64_t r = 0; r < n_rows; ++r) columns_.push_back(rows_.column(r, scratch.f32() + r * hidden));
  }
  const std::span gate_columns = std::span(columns_).first(static_cast<size_t>(n_rows));
  const std::span up_columns = std::span(columns_).last(static_cast<size_t>(n_rows));
  const cpu::WeightMatrix gate_matrix = cpu::weight_rows(args.gate);
  const cpu::WeightMatrix up_matrix = cpu::weight_rows(args.up);
  pool_.parallel_for(hidden, kChunkRows, [&](int64_t first, int64_t last) {
    kernels_.multiply(gate_matrix, form, first, last, gate_columns);
    kernels_.multiply(up_matrix, form, first, last, up_columns);
    for (int64_t r = 0; r < n_rows; ++r) {
      float* gate = args.gate_scratch.f32() + r * hidden + first;
      kernels_.rows->swiglu(gate, args.up_scratch.f32() + r * hidden + first, args.clamp, 1.0f, last - first, gate);
    }
  });
  matmul(args.down, args.gate_scratch, out);
}

}  // namespace ds4
