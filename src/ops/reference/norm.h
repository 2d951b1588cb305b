#pragma once

// Reference: RMS norm, SwiGLU. Real is float (the canonical profile's own arithmetic) or double (the oracle); inputs
// and outputs are F32 either way. Contracts: ops/ops.h. Pure functions, any thread.

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "ops/reference/dot.h"

namespace ds4::reference {

template <class Real>
void rms_norm_row(const float* x, const float* weight, float epsilon, int64_t n, float* out) {
  const auto mean = static_cast<Real>(dot<double>(x, x, n) / static_cast<double>(n));
  const Real r = Real(1) / std::sqrt(mean + static_cast<Real>(epsilon));
  for (int64_t i = 0; i < n; ++i) {
    const Real normed = static_cast<Real>(x[i]) * r;
    out[i] = static_cast<float>(weight == nullptr ? normed : normed * static_cast<Real>(weight[i]));
  }
}

template <class Real>
Real sigmoid(Real z) {
  return Real(1) / (Real(1) + std::exp(-z));
}

template <class Real>
Real swiglu(float gate, float up, float clamp) {
  auto a = static_cast<Real>(gate);
  auto b = static_cast<Real>(up);
  if (clamp > 0.0f) {
    a = std::min(a, static_cast<Real>(clamp));
    b = std::clamp(b, -static_cast<Real>(clamp), static_cast<Real>(clamp));
  }
  return a * sigmoid(a) * b;
}

}  // namespace ds4::reference
