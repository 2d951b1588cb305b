#pragma once

// Where a row of a sequence lies: address arithmetic over KvMemory in host memory, shared by the reference ops and
// the CPU backend. Pure functions; the views must be valid.

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "ops/kv_view.h"

namespace ds4 {

inline std::byte* frontier_of(const KvMemory& kv, int32_t slot) { return kv.frontiers.rows(slot, 1).data<std::byte>(); }

// Compressed row `row` of a sequence.
inline std::byte* compressed_row(const KvMemory& kv, const CompressorKv& compressor, int32_t slot, int32_t row) {
  const int32_t rows_per_page = kPageTokens / compressor.ratio;
  const int32_t page = kv.page_table.i32()[slot * kv.page_table.shape[1] + row / rows_per_page];
  return kv.pages.data<std::byte>() + static_cast<int64_t>(page) * kv.pages.shape[1] +
         static_cast<int64_t>(compressor.page_bytes_offset) +
         static_cast<int64_t>(row % rows_per_page) * compressor.format.row_bytes;
}

// Raw row of `position`: from this batch's rows, or from the ring when it was computed before.
inline std::byte* window_row(const TensorView& window_rows, const LayerKv& layer, const SequenceSpan& span,
                             const KvMemory& kv, int32_t position) {
  const int64_t row_bytes = layer.window_format.row_bytes;
  if (position >= span.first_position) {
    return window_rows.data<std::byte>() + (span.first_row + position - span.first_position) * row_bytes;
  }
  return frontier_of(kv, span.slot) + layer.window_bytes_offset + (position % layer.window) * row_bytes;
}

inline float* ring_row(std::byte* frontier, uint64_t ring_bytes_offset, const CompressorKv& compressor,
                       int32_t position) {
  const int64_t width = int64_t{compressor.n_lanes} * compressor.format.width;
  return reinterpret_cast<float*>(frontier + ring_bytes_offset) + (position % compressor.ring_rows) * width;
}

// body(span, row in the batch, position) for every row of the batch.
template <class Body>
void for_each_row(const BatchView& batch, const Body& body) {
  for (const SequenceSpan& span : batch.spans) {
    for (int32_t i = 0; i < span.n_rows; ++i) body(span, int64_t{span.first_row} + i, span.first_position + i);
  }
}

// Ops that only move bytes, for any backend in host memory (contracts: ops/ops.h).
inline void window_append_host(const TensorView& rows, const LayerKv& layer, const BatchView& batch,
                               const KvMemory& kv) {
  const int64_t row_bytes = layer.window_format.row_bytes;
  for (const SequenceSpan& span : batch.spans) {
    std::byte* ring = frontier_of(kv, span.slot) + layer.window_bytes_offset;
    const int32_t end = span.first_position + span.n_rows;
    for (int32_t position = std::max(span.first_position, end - layer.window); position < end; ++position) {
      std::memcpy(ring + (position % layer.window) * row_bytes, window_row(rows, layer, span, kv, position),
                  static_cast<size_t>(row_bytes));
    }
  }
}

inline void gather_rows_host(const TensorView& x, const TensorView& row_ids, const TensorView& out) {
  for (int64_t i = 0; i < out.shape[0]; ++i) {
    const TensorView source = x.rows(row_ids.i32()[i], 1);
    std::memcpy(out.rows(i, 1).data<std::byte>(), source.data<std::byte>(), source.size_bytes());
  }
}

}  // namespace ds4
