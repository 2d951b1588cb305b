#pragma once

// Reference: attention of one query row over raw rows, compressed rows and the sink, in one softmax. Keys and values
// are the same vector. Source: docs/numerics.md 4.8.

#include <algorithm>
#include <cmath>
#include <vector>

#include "ops/kv_access.h"
#include "ops/kv_rows.h"
#include "ops/ops.h"
#include "ops/reference/dot.h"

namespace ds4::reference {

// The stored rows that the query at `position` sees: raw rows oldest first, then compressed rows ascending.
inline std::vector<const std::byte*> visible_kv_rows(const AttentionArgs& args, const SequenceSpan& span,
                                                     const KvMemory& memory, int32_t position) {
  std::vector<const std::byte*> rows;
  for (int32_t p = std::max(0, position - args.layer.window + 1); p <= position; ++p) {
    rows.push_back(window_row(args.window_rows, args.layer, span, memory, p));
  }
  const int64_t batch_row = span.first_row + position - span.first_position;
  const bool is_selective = static_cast<bool>(args.selected);
  const int32_t n_compressed =
      is_selective ? args.n_selected.i32()[batch_row] : visible_rows(position, args.layer.ratio);
  const int32_t* selected = is_selective ? args.selected.i32() + batch_row * args.selected.shape[1] : nullptr;
  for (int32_t i = 0; i < n_compressed; ++i) {
    rows.push_back(compressed_row(memory, args.layer.attention, span.slot, is_selective ? selected[i] : i));
  }
  return rows;
}

// query [width], rows [n_rows, width] -> out [width]
template <class Real>
void attend_head(const float* query, const std::vector<float>& rows, float sink, int64_t width, float* out) {
  const int64_t n_rows = static_cast<int64_t>(rows.size()) / width;
  const Real scale = Real(1) / std::sqrt(static_cast<Real>(width));
  std::vector<Real> logits(static_cast<size_t>(n_rows));
  auto top = static_cast<Real>(sink);
  for (int64_t r = 0; r < n_rows; ++r) {
    const Real logit = dot<Real>(query, rows.data() + r * width, width) * scale;
    logits[static_cast<size_t>(r)] = logit;
    top = std::max(top, logit);
  }
  Real total = std::exp(static_cast<Real>(sink) - top);
  std::vector<Real> sums(static_cast<size_t>(width));
  for (int64_t r = 0; r < n_rows; ++r) {
    const Real weight = std::exp(logits[static_cast<size_t>(r)] - top);
    total += weight;
    for (int64_t d = 0; d < width; ++d)
      sums[static_cast<size_t>(d)] += weight * static_cast<Real>(rows[static_cast<size_t>(r * width + d)]);
  }
  for (int64_t d = 0; d < width; ++d) out[d] = static_cast<float>(sums[static_cast<size_t>(d)] / total);
}

// All heads of one batch row.
template <class Real>
void attention_row(const AttentionArgs& args, const SequenceSpan& span, const KvMemory& memory, int32_t position,
                   float* out) {
  const int64_t n_heads = args.query.shape[1];
  const int64_t width = args.query.shape[2];
  std::vector<float> rows;
  for (const std::byte* stored : visible_kv_rows(args, span, memory, position)) {
    rows.resize(rows.size() + static_cast<size_t>(width));
    unpack_kv_row(stored, args.layer.window_format, rows.data() + rows.size() - static_cast<size_t>(width));
  }
  const float* query = args.query.f32() + (span.first_row + position - span.first_position) * n_heads * width;
  for (int64_t h = 0; h < n_heads; ++h) {
    attend_head<Real>(query + h * width, rows, args.sinks.f32()[h], width, out + h * width);
  }
}

}  // namespace ds4::reference
