#pragma once

// Reference: dot products of a weight row of any type with an activation row. Quantised activations follow
// docs/numerics.md 3.7; otherwise the weight row is dequantised and products are added in ascending order.

#include <vector>

#include "gguf/dequantize.h"
#include "ops/activation_quant.h"
#include "ops/weight_blocks.h"

namespace ds4::reference {

template <class Real>
Real row_dot(DType type, const std::byte* weight_row, const ActivationRow& x, int64_t n) {
  Real sum = 0;
  switch (x.form()) {
    case ActivationForm::kReal: {
      std::vector<float> weights(static_cast<size_t>(n));
      dequantize_row(type, weight_row, weights.data(), n);
      for (int64_t i = 0; i < n; ++i)
        sum += static_cast<Real>(weights[static_cast<size_t>(i)]) * static_cast<Real>(x.real()[i]);
      return sum;
    }
    case ActivationForm::kQ8_0: {
      std::vector<WeightBlock32> blocks(static_cast<size_t>(n / 32));
      unpack_blocks_32(type, weight_row, n, blocks.data());
      for (size_t i = 0; i < blocks.size(); ++i) sum += block_dot<Real>(blocks[i], x.q8_0()[i]);
      return sum;
    }
    case ActivationForm::kQ8_K: {
      std::vector<WeightBlock256> blocks(static_cast<size_t>(n / 256));
      unpack_blocks_256(type, weight_row, n, blocks.data());
      for (size_t i = 0; i < blocks.size(); ++i) sum += block_dot<Real>(blocks[i], x.q8_k()[i]);
      return sum;
    }
  }
  return sum;
}

// out[o] = <weight row o, x> for n_out rows of n_in elements each.
template <class Real>
void matvec(DType type, const std::byte* weight, int64_t n_out, int64_t n_in, const ActivationRow& x, float* out) {
  const auto row_size = static_cast<int64_t>(row_bytes(type, n_in).value());
  for (int64_t o = 0; o < n_out; ++o) out[o] = static_cast<float>(row_dot<Real>(type, weight + o * row_size, x, n_in));
}

}  // namespace ds4::reference
