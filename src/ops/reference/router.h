#pragma once

// Reference: choice and weights of the routed experts. Source: docs/numerics.md 4.9.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "ops/ops.h"

namespace ds4::reference {

template <class Real>
Real sqrt_softplus(Real z) {
  if (z > Real(20)) return std::sqrt(z);
  if (z < Real(-20)) return std::sqrt(std::exp(z));
  return std::sqrt(std::log1p(std::exp(z)));
}

template <class Real>
void router_row(const RouterArgs& args, int64_t row, int64_t n_used, int32_t* ids, float* weights) {
  const int64_t n_expert = args.logits.shape[1];
  const float* logits = args.logits.f32() + row * n_expert;
  std::vector<Real> p(static_cast<size_t>(n_expert));
  for (int64_t e = 0; e < n_expert; ++e) p[static_cast<size_t>(e)] = sqrt_softplus(static_cast<Real>(logits[e]));

  if (args.token_table) {
    const int32_t token = args.tokens.i32()[row];
    std::copy_n(args.token_table.i32() + token * n_used, n_used, ids);
  } else {
    std::vector<Real> ranking = p;
    for (int64_t e = 0; args.bias && e < n_expert; ++e)
      ranking[static_cast<size_t>(e)] += static_cast<Real>(args.bias.f32()[e]);
    std::vector<int32_t> order(static_cast<size_t>(n_expert));
    std::iota(order.begin(), order.end(), 0);
    std::partial_sort(order.begin(), order.begin() + n_used, order.end(), [&](int32_t a, int32_t b) {
      const Real x = ranking[static_cast<size_t>(a)];
      const Real y = ranking[static_cast<size_t>(b)];
      return x != y ? x > y : a < b;
    });
    std::copy_n(order.begin(), n_used, ids);
  }

  constexpr auto kSmallestSum = static_cast<Real>(0x1p-14);
  Real sum = 0;
  for (int64_t k = 0; k < n_used; ++k) sum += p[static_cast<size_t>(ids[k])];
  sum = std::max(sum, kSmallestSum);
  for (int64_t k = 0; k < n_used; ++k) {
    weights[k] = static_cast<float>(p[static_cast<size_t>(ids[k])] / sum * static_cast<Real>(args.weights_scale));
  }
}

}  // namespace ds4::reference
