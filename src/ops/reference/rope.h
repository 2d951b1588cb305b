#pragma once

// Reference: rotary embedding of a vector's tail, interleaved pairs. Source: docs/numerics.md 4.4. The angle is one F32
// product whatever Real is: that product is part of the definition.

#include <cmath>
#include <cstdint>

namespace ds4::reference {

template <class Real>
void rope_tail(float* x, int64_t width, const float* inverse_frequencies, int64_t n_rot, int32_t position,
               bool inverse) {
  float* tail = x + width - n_rot;
  for (int64_t i = 0; i < n_rot / 2; ++i) {
    const float angle = static_cast<float>(position) * inverse_frequencies[i];
    const Real cosine = std::cos(static_cast<Real>(angle));
    const Real sine = inverse ? -std::sin(static_cast<Real>(angle)) : std::sin(static_cast<Real>(angle));
    const auto a = static_cast<Real>(tail[2 * i]);
    const auto b = static_cast<Real>(tail[2 * i + 1]);
    tail[2 * i] = static_cast<float>(a * cosine - b * sine);
    tail[2 * i + 1] = static_cast<float>(a * sine + b * cosine);
  }
}

}  // namespace ds4::reference
