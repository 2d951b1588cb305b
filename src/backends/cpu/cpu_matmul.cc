// Matrix products: threads take blocks of weight rows, unpack each row once and meet it with every activation row.

#include "backends/cpu/cpu_ops.h"
#include "backends/cpu/kernels.h"

namespace ds4 {

namespace {

constexpr int64_t kWeightRowsPerGrain = 16;

}  // namespace

void CpuOps::quantize_rows(const float* x, int64_t n_rows, int64_t n, DType weight_type,
                           std::vector<ActivationRow>& out) {
  if (out.size() < static_cast<size_t>(n_rows)) out.resize(static_cast<size_t>(n_rows));
  const ActivationForm form = activation_form(weight_type, profile_);
  pool_.parallel_for(n_rows, form == ActivationForm::kReal ? n_rows : 4, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) out[static_cast<size_t>(r)].set(x + r * n, n, form);
  });
}

void CpuOps::matmul(const TensorView& weight, const TensorView& x, const TensorView& out) {
  matmul_grouped(weight, x, 1, out);
}

void CpuOps::matmul_grouped(const TensorView& weight, const TensorView& x, int32_t n_groups, const TensorView& out) {
  const int64_t n_rows = x.shape[0];
  if (n_rows == 0) return;
  const int64_t n_out = weight.shape[0];
  const int64_t n_in = weight.shape[1];
  const auto row_size = static_cast<int64_t>(row_bytes(weight.type, n_in).value());
  quantize_rows(x.f32(), n_rows * n_groups, n_in, weight.type, rows_);
  const ActivationForm form = activation_form(weight.type, profile_);
  pool_.parallel_for(n_out, kWeightRowsPerGrain, [&](int64_t first, int64_t last) {
    cpu::WeightRow row;
    for (int64_t o = first; o < last; ++o) {
      row.load(weight.type, weight.data<std::byte>() + o * row_size, n_in, form);
      const int64_t group = o / (n_out / n_groups);
      for (int64_t r = 0; r < n_rows; ++r)
        out.f32()[r * n_out + o] = row.dot(rows_[static_cast<size_t>(r * n_groups + group)]);
    }
  });
}

}  // namespace ds4
