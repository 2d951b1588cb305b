#pragma once

// Reference: which compressed rows of a ratio-4 layer a query attends to. Source: docs/numerics.md 4.7.

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "ops/kv_access.h"
#include "ops/kv_rows.h"
#include "ops/ops.h"
#include "ops/reference/dot.h"

namespace ds4::reference {

// Rounds one head's query as indexer rows are rounded.
inline void index_round_head(float* x, int32_t width) {
  const KvRowFormat format{KvEncoding::kFp4, width, 0, width / 2 + width / kFp4Group};
  std::vector<std::byte> packed(static_cast<size_t>(format.row_bytes));
  hadamard(x, width);
  pack_kv_row(x, format, packed.data());
  unpack_kv_row(packed.data(), format, x);
}

// query [n_heads, width], weights [n_heads], key [width]
template <class Real>
Real index_score(const float* query, const float* weights, const float* key, int64_t n_heads, int64_t width) {
  const float scale = 1.0f / std::sqrt(static_cast<float>(width * n_heads));
  Real score = 0;
  for (int64_t h = 0; h < n_heads; ++h) {
    score += std::max(Real(0), dot<Real>(query + h * width, key, width)) * static_cast<Real>(weights[h] * scale);
  }
  return score;
}

// The k best of n scores, ties to the lower index, ascending, into out; returns how many: min(n, k).
template <class Real>
int32_t select_top(const std::vector<Real>& scores, int32_t k, int32_t* out) {
  const auto n = static_cast<int32_t>(scores.size());
  const int32_t n_kept = std::min(n, k);
  std::vector<int32_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  if (n > k) {
    std::nth_element(order.begin(), order.begin() + n_kept, order.end(), [&](int32_t a, int32_t b) {
      const Real x = scores[static_cast<size_t>(a)];
      const Real y = scores[static_cast<size_t>(b)];
      return x != y ? x > y : a < b;
    });
    std::sort(order.begin(), order.begin() + n_kept);
  }
  std::copy_n(order.begin(), n_kept, out);
  return n_kept;
}

// One row of the batch at `position` in the span's sequence; returns the number selected.
template <class Real>
int32_t index_select_row(const IndexSelectArgs& args, const SequenceSpan& span, const KvMemory& memory,
                         int32_t position, int32_t* out) {
  const int64_t n_heads = args.query.shape[1];
  const int64_t width = args.query.shape[2];
  const int64_t row = span.first_row + position - span.first_position;
  const float* query = args.query.f32() + row * n_heads * width;
  const float* weights = args.weights.f32() + row * n_heads;
  const int32_t n_visible = visible_rows(position, args.indexer.ratio);
  std::vector<Real> scores(static_cast<size_t>(n_visible));
  std::vector<float> key(static_cast<size_t>(width));
  for (int32_t c = 0; c < n_visible && n_visible > args.top_k; ++c) {
    unpack_kv_row(compressed_row(memory, args.indexer, span.slot, c), args.indexer.format, key.data());
    scores[static_cast<size_t>(c)] = index_score<Real>(query, weights, key.data(), n_heads, width);
  }
  return select_top(scores, args.top_k, out);
}

}  // namespace ds4::reference
