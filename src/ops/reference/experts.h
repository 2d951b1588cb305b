#pragma once

// Reference: the routed experts of one row. The router's weight is applied before the down projection.
// Source: docs/numerics.md 4.10.

#include <algorithm>
#include <vector>

#include "ops/ops.h"
#include "ops/reference/matmul.h"
#include "ops/reference/norm.h"

namespace ds4::reference {

// The contiguous matrix of one expert in a [E, n_out, n_in] tensor.
inline const std::byte* expert_matrix(const TensorView& tensor, int32_t expert) {
  return tensor.rows(expert, 1).data<const std::byte>();
}

template <class Real>
void experts_row(const ExpertsArgs& args, NumericProfile profile, int64_t row, float* out) {
  const int64_t width = args.x.shape[1];
  const int64_t hidden = args.gate.shape[1];
  const int64_t n_used = args.ids.shape[1];
  ActivationRow for_gate;
  ActivationRow for_up;
  for_gate.set(args.x.f32() + row * width, width, activation_form(args.gate.type, profile));
  for_up.set(args.x.f32() + row * width, width, activation_form(args.up.type, profile));

  std::vector<float> gate(static_cast<size_t>(hidden));
  std::vector<float> up(static_cast<size_t>(hidden));
  std::vector<float> down(static_cast<size_t>(width));
  std::vector<Real> sum(static_cast<size_t>(width));
  ActivationRow for_down;
  for (int64_t k = 0; k < n_used; ++k) {
    const int32_t expert = args.ids.i32()[row * n_used + k];
    const auto weight = static_cast<Real>(args.weights.f32()[row * n_used + k]);
    matvec<Real>(args.gate.type, expert_matrix(args.gate, expert), {1, hidden, width, 0, 0}, &for_gate, gate.data());
    matvec<Real>(args.up.type, expert_matrix(args.up, expert), {1, hidden, width, 0, 0}, &for_up, up.data());
    for (size_t f = 0; f < gate.size(); ++f)
      gate[f] = static_cast<float>(swiglu<Real>(gate[f], up[f], args.clamp) * weight);
    if (args.mid) std::ranges::copy(gate, args.mid.f32() + (row * n_used + k) * hidden);
    for_down.set(gate.data(), hidden, activation_form(args.down.type, profile));
    matvec<Real>(args.down.type, expert_matrix(args.down, expert), {1, width, hidden, 0, 0}, &for_down, down.data());
    for (size_t d = 0; d < sum.size(); ++d) sum[d] += static_cast<Real>(down[d]);
  }
  for (size_t d = 0; d < sum.size(); ++d) out[d] = static_cast<float>(sum[d]);
}

}  // namespace ds4::reference
