// Matrix products: threads take blocks of weight rows and multiply them with every activation row.

#include <algorithm>

#include "backends/cpu/cpu_ops.h"

namespace ds4 {

namespace {

// Bytes of weights a thread takes at once: enough that handing over is cheap, little enough to share the end out.
constexpr int64_t kGrainBytes = 64 * 1024;
constexpr int64_t kGrainRows = 32;  // the kernels' tile

}  // namespace

void CpuOps::matmul(const TensorView& weight, const TensorView& x, const TensorView& out) {
  matmul_grouped(weight, x, 1, out);
}

void CpuOps::matmul_grouped(const TensorView& weight, const TensorView& x, int32_t n_groups, const TensorView& out) {
  const int64_t n_rows = x.shape[0];
  if (n_rows == 0) return;
  const int64_t n_out = weight.shape[0];
  const int64_t group_out = n_out / n_groups;
  const cpu::WeightMatrix matrix = cpu::weight_rows(weight);
  const ActivationForm form = activation_form(weight.type, profile_);
  rows_.prepare(kernels_, pool_, x.f32(), n_rows * n_groups, matrix.n_in, form);
  // Columns [group][row].
  columns_.clear();
  for (int64_t g = 0; g < n_groups; ++g) {
    for (int64_t r = 0; r < n_rows; ++r) columns_.push_back(rows_.column(r * n_groups + g, out.f32() + r * n_out));
  }

  const int64_t chunk_rows =
      std::min(group_out, std::max<int64_t>(1, kGrainBytes / (matrix.row_bytes * kGrainRows)) * kGrainRows);
  const int64_t group_chunks = (group_out + chunk_rows - 1) / chunk_rows;
  pool_.parallel_for(n_groups * group_chunks, 1, [&](int64_t first_chunk, int64_t last_chunk) {
    for (int64_t chunk = first_chunk; chunk < last_chunk; ++chunk) {
      const int64_t group = chunk / group_chunks;
      const int64_t first = group * group_out + chunk % group_chunks * chunk_rows;
      const int64_t last = std::min(first + chunk_rows, (group + 1) * group_out);
      kernels_.multiply(matrix, form, first, last, {columns_.data() + group * n_rows, static_cast<size_t>(n_rows)});
    }
  });
}

}  // namespace ds4
