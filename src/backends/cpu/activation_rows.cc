#include "backends/cpu/activation_rows.h"

namespace ds4::cpu {

namespace {

template <class T>
void grow(std::vector<T>& values, int64_t size) {
  if (values.size() < static_cast<size_t>(size)) values.resize(static_cast<size_t>(size));
}

}  // namespace

void ActivationRows::prepare(const Kernels& kernels, ThreadPool& pool, const float* x, int64_t n_rows, int64_t n,
                             ActivationForm form) {
  form_ = form;
  n_ = n;
  values_ = x;
  if (form == ActivationForm::kReal) return;
  grow(codes_, n_rows * n);
  grow(scales_, n_rows * n / 32);
  grow(sums_, n_rows * n / 16);
  // Few short rows are quantised faster than handed over.
  const int64_t grain = std::max<int64_t>(1, 32768 / n);
  pool.parallel_for(n_rows, grain, [&](int64_t first, int64_t last) {
    for (int64_t r = first; r < last; ++r) {
      int8_t* codes = codes_.data() + r * n;
      if (form == ActivationForm::kQ8_0) {
        kernels.quantize_q8_0(x + r * n, n, codes, scales_.data() + r * (n / 32), sums_.data() + r * (n / 32));
      } else {
        kernels.quantize_q8_k(x + r * n, n, codes, scales_.data() + r * (n / 256), sums_.data() + r * (n / 16));
      }
    }
  });
}

Column ActivationRows::column(int64_t row, float* out) const {
  switch (form_) {
    case ActivationForm::kReal: return {.values = values_ + row * n_, .out = out};
    case ActivationForm::kQ8_0:
      return {.codes = codes_.data() + row * n_,
              .scales = scales_.data() + row * (n_ / 32),
              .sums = sums_.data() + row * (n_ / 32),
              .out = out};
    case ActivationForm::kQ8_K:
      return {.codes = codes_.data() + row * n_,
              .scales = scales_.data() + row * (n_ / 256),
              .sums = sums_.data() + row * (n_ / 16),
              .out = out};
  }
  return {};
}

}  // namespace ds4::cpu
