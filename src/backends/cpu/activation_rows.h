#pragma once

// Activation rows in the form that a weight type wants, one array per part, so that kernels stream them. Real rows are
// referred to, not copied. Memory grows to the largest batch seen and is reused. Owned by CpuOps, used on its thread;
// prepare() shares its loop out to the pool.

#include <vector>

#include "backends/cpu/kernels.h"
#include "base/thread_pool.h"

namespace ds4::cpu {

class ActivationRows {
 public:
  // x [n_rows, n], valid as long as the columns are used.
  void prepare(const Kernels& kernels, ThreadPool& pool, const float* x, int64_t n_rows, int64_t n,
               ActivationForm form);
  ActivationForm form() const { return form_; }
  Column column(int64_t row, float* out) const;

 private:
  ActivationForm form_ = ActivationForm::kReal;
  int64_t n_ = 0;
  const float* values_ = nullptr;
  std::vector<int8_t> codes_;
  std::vector<float> scales_;
  std::vector<int16_t> sums_;
};

}  // namespace ds4::cpu
