#pragma once

// Reference: taking a direction out of a row, or adding to it. Contract: ops/ops.h; source: docs/numerics.md 4.12.

#include <cstdint>

#include "ops/reference/dot.h"

namespace ds4::reference {

// x [n] in place
template <class Real>
void steer_row(float* x, const float* direction, float scale, int64_t n) {
  if (scale == 0.0f) return;
  const Real factor = static_cast<Real>(scale) * dot<Real>(direction, x, n);
  for (int64_t i = 0; i < n; ++i)
    x[i] = static_cast<float>(static_cast<Real>(x[i]) - factor * static_cast<Real>(direction[i]));
}

}  // namespace ds4::reference
