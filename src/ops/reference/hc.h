#pragma once

// Reference: hyper-connections. S streams of width D. Contracts: ops/ops.h; source: docs/numerics.md 4.2, 4.11.

#include <algorithm>
#include <cmath>
#include <vector>

#include "ops/ops.h"
#include "ops/reference/norm.h"

namespace ds4::reference {

// comb [S, S] in place: softmax per row, then alternating column and row normalisation, ending with columns.
template <class Real>
void sinkhorn(Real* comb, const HcParams& params) {
  const int n = params.n_streams;
  const auto eps = static_cast<Real>(params.epsilon);
  for (int r = 0; r < n; ++r) {
    Real* row = comb + r * n;
    const Real top = *std::max_element(row, row + n);
    Real sum = 0;
    for (int c = 0; c < n; ++c) sum += row[c] = std::exp(row[c] - top);
    for (int c = 0; c < n; ++c) row[c] = row[c] / sum + eps;
  }
  const auto normalise = [&](int line, int stride_along, int stride_across) {
    Real sum = 0;
    for (int i = 0; i < n; ++i) sum += comb[line * stride_across + i * stride_along];
    for (int i = 0; i < n; ++i) comb[line * stride_across + i * stride_along] /= sum + eps;
  };
  for (int iteration = 0; iteration < params.sinkhorn_iterations; ++iteration) {
    if (iteration > 0) {
      for (int r = 0; r < n; ++r) normalise(r, 1, n);
    }
    for (int c = 0; c < n; ++c) normalise(c, n, 1);
  }
}

struct HcMixRow {
  float* pre;   // [S]
  float* post;  // [S]
  float* comb;  // [S, S]
};

// mix [2S + S*S]
template <class Real>
void hc_mix_row(const float* mix, const float* scale, const float* base, const HcParams& params, const HcMixRow& out) {
  const int n = params.n_streams;
  const auto value = [&](int i, int part) {
    return static_cast<Real>(mix[i]) * static_cast<Real>(scale[part]) + static_cast<Real>(base[i]);
  };
  for (int i = 0; i < n; ++i) {
    out.pre[i] = static_cast<float>(sigmoid(value(i, 0)) + static_cast<Real>(params.epsilon));
    out.post[i] = static_cast<float>(Real(2) * sigmoid(value(n + i, 1)));
  }
  std::vector<Real> matrix(static_cast<size_t>(n * n));
  for (int i = 0; i < n * n; ++i) matrix[static_cast<size_t>(i)] = value(2 * n + i, 2);
  sinkhorn(matrix.data(), params);
  for (int i = 0; i < n * n; ++i) out.comb[i] = static_cast<float>(matrix[static_cast<size_t>(i)]);
}

template <class Real>
void hc_head_mix_row(const float* mix, const float* scale, const float* base, float epsilon, int n_streams,
                     float* weights) {
  for (int i = 0; i < n_streams; ++i) {
    const Real z = static_cast<Real>(mix[i]) * static_cast<Real>(scale[0]) + static_cast<Real>(base[i]);
    weights[i] = static_cast<float>(sigmoid(z) + static_cast<Real>(epsilon));
  }
}

// Columns [first, last) of out = sum_s weights[s] * streams[s].
template <class Real>
void hc_reduce_row(const float* streams, const float* weights, int n_streams, int64_t width, float* out) {
  for (int64_t d = 0; d < width; ++d) {
    Real sum = 0;
    for (int s = 0; s < n_streams; ++s)
      sum += static_cast<Real>(weights[s]) * static_cast<Real>(streams[s * width + d]);
    out[d] = static_cast<float>(sum);
  }
}

template <class Real>
void hc_expand_row(const float* y, const float* post, const float* comb, int n_streams, int64_t width, float* streams) {
  std::vector<Real> old(static_cast<size_t>(n_streams));
  for (int64_t d = 0; d < width; ++d) {
    for (int s = 0; s < n_streams; ++s) old[static_cast<size_t>(s)] = static_cast<Real>(streams[s * width + d]);
    for (int c = 0; c < n_streams; ++c) {
      Real sum = static_cast<Real>(y[d]) * static_cast<Real>(post[c]);
      for (int s = 0; s < n_streams; ++s)
        sum += static_cast<Real>(comb[s * n_streams + c]) * old[static_cast<size_t>(s)];
      streams[c * width + d] = static_cast<float>(sum);
    }
  }
}

}  // namespace ds4::reference
