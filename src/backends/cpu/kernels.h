#pragma once

// Inner loops of the CPU backend. Float sums keep the order of ops/reference/dot.h and a * b + c is never contracted,
// so every instruction set gives the same bits. Compiled for several x86 levels, chosen at load. Pure functions, any
// thread.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/tensor.h"
#include "ops/activation_quant.h"
#include "ops/kv_view.h"
#include "ops/weight_blocks.h"

namespace ds4::cpu {

float dot(const float* a, const float* b, int64_t n);
// sum += factor * x
void add_scaled(const float* x, float factor, int64_t n, float* sum);
float dot_blocks(const WeightBlock32* w, const Q8_0Activation* x, int64_t n_blocks);
float dot_blocks(const WeightBlock256* w, const Q8_KActivation* x, int64_t n_blocks);
// Same values as unpack_kv_row.
void unpack_row(const std::byte* row, const KvRowFormat& format, float* x);

// One weight row, unpacked once for all the activation rows it meets. load() reuses the storage.
class WeightRow {
 public:
  void load(DType type, const std::byte* row, int64_t n, ActivationForm form);
  float dot(const ActivationRow& x) const;

 private:
  ActivationForm form_ = ActivationForm::kReal;
  int64_t n_ = 0;
  const float* real_ = nullptr;  // into storage_, or the row itself when it is F32
  std::vector<float> storage_;
  std::vector<WeightBlock32> blocks_32_;
  std::vector<WeightBlock256> blocks_256_;
};

}  // namespace ds4::cpu
