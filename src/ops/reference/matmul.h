#pragma once

// Reference: dot products of weight rows of any type with activation rows. Quantised activations follow
// docs/numerics.md 3.7, blocks in ascending order; otherwise the weight row is dequantised (ops/reference/dot.h).

#include <vector>

#include "gguf/dequantize.h"
#include "ops/activation_quant.h"
#include "ops/reference/dot.h"
#include "ops/weight_blocks.h"

namespace ds4::reference {

// A weight row in the form that meets activations of `form`; load() reuses the storage.
class WeightRow {
 public:
  void load(DType type, const std::byte* row, int64_t n, ActivationForm form) {
    n_ = n;
    const auto size = static_cast<size_t>(n);
    switch (form) {
      case ActivationForm::kReal: real_.resize(size); return dequantize_row(type, row, real_.data(), n);
      case ActivationForm::kQ8_0:
        blocks_32_.resize(size / 32);
        return unpack_blocks_32(type, row, n, blocks_32_.data());
      case ActivationForm::kQ8_K:
        blocks_256_.resize(size / 256);
        return unpack_blocks_256(type, row, n, blocks_256_.data());
    }
  }

  template <class Real>
  Real dot_with(const ActivationRow& x) const {
    Real sum = 0;
    switch (x.form()) {
      case ActivationForm::kReal: return dot<Real>(real_.data(), x.real(), n_);
      case ActivationForm::kQ8_0:
        for (size_t i = 0; i < blocks_32_.size(); ++i) sum += block_dot<Real>(blocks_32_[i], x.q8_0()[i]);
        return sum;
      case ActivationForm::kQ8_K:
        for (size_t i = 0; i < blocks_256_.size(); ++i) sum += block_dot<Real>(blocks_256_[i], x.q8_k()[i]);
        return sum;
    }
    return sum;
  }

 private:
  int64_t n_ = 0;
  std::vector<float> real_;
  std::vector<WeightBlock32> blocks_32_;
  std::vector<WeightBlock256> blocks_256_;
};

// out[r * out_stride + o] = <weight row o, x[r * x_stride]> for every row of out and n_out weight rows of n_in
// elements.
struct MatvecShape {
  int64_t n_rows;
  int64_t n_out;
  int64_t n_in;
  int64_t x_stride;
  int64_t out_stride;
};
template <class Real>
void matvec(DType type, const std::byte* weight, const MatvecShape& shape, const ActivationRow* x, float* out) {
  const auto row_size = static_cast<int64_t>(row_bytes(type, shape.n_in).value());
  WeightRow row;
  for (int64_t o = 0; o < shape.n_out; ++o) {
    row.load(type, weight + o * row_size, shape.n_in, x[0].form());
    for (int64_t r = 0; r < shape.n_rows; ++r) {
      out[r * shape.out_stride + o] = static_cast<float>(row.dot_with<Real>(x[r * shape.x_stride]));
    }
  }
}

}  // namespace ds4::reference
