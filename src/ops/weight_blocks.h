#pragma once

// Quantised weight blocks as small integers with scales: the form in which they meet quantised activations
// (ops/activation_quant.h). The products of integers are exact, so how a backend sums them inside a block does not
// matter; blocks are added in ascending order in F32. Shared by the reference and the CPU backend.
//   32-form (Q8_0, MXFP4):          w[i] = scale * codes[i]
//   256-form (Q2_K, Q4_K, IQ2_XXS): w[i] = d * scales[i / 16] * codes[i] - dmin * mins[i / 16]

#include <cstddef>
#include <cstdint>

#include "base/tensor.h"
#include "ops/activation_quant.h"

namespace ds4 {

struct WeightBlock32 {
  float scale;
  int8_t codes[32];
};

struct WeightBlock256 {
  float d;
  float dmin;
  int8_t codes[256];
  int16_t scales[16];
  int16_t mins[16];
};

// n_elements of a row; out holds n / 32 or n / 256 blocks. Precondition: type has that form.
void unpack_blocks_32(DType type, const std::byte* row, int64_t n_elements, WeightBlock32* out);
void unpack_blocks_256(DType type, const std::byte* row, int64_t n_elements, WeightBlock256* out);

// One block's contribution to a dot product, in the order the canonical profile fixes. Real: float or double.
template <class Real>
Real block_dot(const WeightBlock32& w, const Q8_0Activation& x) {
  int32_t sum = 0;
  for (int i = 0; i < 32; ++i) sum += w.codes[i] * x.codes[i];
  return (static_cast<Real>(w.scale) * static_cast<Real>(x.scale)) * static_cast<Real>(sum);
}

template <class Real>
Real block_dot(const WeightBlock256& w, const Q8_KActivation& x) {
  int32_t product = 0;
  int32_t minimum = 0;
  for (int t = 0; t < 16; ++t) {
    int32_t sum = 0;
    for (int i = 16 * t; i < 16 * t + 16; ++i) sum += w.codes[i] * x.codes[i];
    product += w.scales[t] * sum;
    minimum += w.mins[t] * x.sums[t];
  }
  const auto scale = static_cast<Real>(x.scale);
  return (scale * static_cast<Real>(w.d)) * static_cast<Real>(product) -
         (scale * static_cast<Real>(w.dmin)) * static_cast<Real>(minimum);
}

}  // namespace ds4
