#pragma once

// Reference: pooling of a window of tokens into one compressed row, and the rings that carry open windows from step
// to step. With ratio m, row j pools positions m*j .. m*j + m - 1; when windows overlap (two lanes) it also pools the
// previous window's lane A, while its own tokens give lane B. Source: docs/numerics.md 4.6.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "ops/kv_access.h"
#include "ops/kv_rows.h"
#include "ops/ops.h"
#include "ops/reference/norm.h"
#include "ops/reference/rope.h"

namespace ds4::reference {

// One token's share in a pooling window: width values and as many scores (bias not yet added when bias is set).
struct Candidate {
  const float* kv;
  const float* score;
  const float* bias;
};

inline Candidate find_candidate(const CompressArgs& args, const SequenceSpan& span, const KvMemory& memory,
                                int32_t position, int32_t lane) {
  const CompressorKv& compressor = args.compressor;
  const int64_t offset = int64_t{lane} * compressor.format.width;
  const int64_t row_width = int64_t{compressor.n_lanes} * compressor.format.width;
  if (position >= span.first_position) {
    const int64_t row = span.first_row + position - span.first_position;
    return {args.kv.f32() + row * row_width + offset, args.score.f32() + row * row_width + offset,
            args.ape.f32() + (position % compressor.ratio) * row_width + offset};
  }
  std::byte* frontier = frontier_of(memory, span.slot);
  return {ring_row(frontier, compressor.kv_ring_bytes_offset, compressor, position) + offset,
          ring_row(frontier, compressor.score_ring_bytes_offset, compressor, position) + offset, nullptr};
}

inline std::vector<Candidate> find_candidates(const CompressArgs& args, const SequenceSpan& span,
                                              const KvMemory& memory, int32_t row) {
  const int32_t ratio = args.compressor.ratio;
  const int32_t own_lane = args.compressor.n_lanes - 1;
  std::vector<Candidate> candidates;
  for (int32_t i = 0; i < ratio; ++i) {
    const int32_t position = row * ratio + i;
    if (own_lane == 1 && row > 0) candidates.push_back(find_candidate(args, span, memory, position - ratio, 0));
    candidates.push_back(find_candidate(args, span, memory, position, own_lane));
  }
  return candidates;
}

// Softmax over the candidates, separately for every channel.
template <class Real>
void pool(const std::vector<Candidate>& candidates, int32_t width, float* out) {
  std::vector<Real> scores(candidates.size());
  for (int32_t d = 0; d < width; ++d) {
    for (size_t i = 0; i < candidates.size(); ++i) {
      const Candidate& c = candidates[i];
      // The ring holds the biased score in F32, so the sum is rounded here too.
      scores[i] = static_cast<Real>(c.bias == nullptr ? c.score[d] : c.score[d] + c.bias[d]);
    }
    const Real top = *std::max_element(scores.begin(), scores.end());
    Real weighted = 0;
    Real total = 0;
    for (size_t i = 0; i < candidates.size(); ++i) {
      const Real weight = std::exp(scores[i] - top);
      weighted += weight * static_cast<Real>(candidates[i].kv[d]);
      total += weight;
    }
    out[d] = static_cast<float>(weighted / total);
  }
}

// Computes compressed row `row`, whose window closes in this span, and writes it to its page.
template <class Real>
void compress_row(const CompressArgs& args, const SequenceSpan& span, const KvMemory& memory, int32_t row) {
  const KvRowFormat& format = args.compressor.format;
  std::vector<float> x(static_cast<size_t>(format.width));
  pool<Real>(find_candidates(args, span, memory, row), format.width, x.data());
  rms_norm_row<Real>(x.data(), args.norm.f32(), args.rms_epsilon, format.width, x.data());
  const TensorView& frequencies = args.rope.inverse_frequencies;
  rope_tail<Real>(x.data(), format.width, frequencies.f32(), 2 * frequencies.elements(), row * args.compressor.ratio,
                  false);
  if (format.encoding == KvEncoding::kFp4) hadamard(x.data(), format.width);
  pack_kv_row(x.data(), format, compressed_row(memory, args.compressor, span.slot, row));
}

// Rows that close in the span: [first, last).
struct RowRange {
  int32_t first;
  int32_t last;
};
inline RowRange closing_rows(const CompressorKv& compressor, const SequenceSpan& span) {
  return {span.first_position / compressor.ratio, (span.first_position + span.n_rows) / compressor.ratio};
}

// Stores the span's last tokens in the rings, after every row was pooled.
inline void update_rings(const CompressArgs& args, const SequenceSpan& span, const KvMemory& memory) {
  const CompressorKv& compressor = args.compressor;
  const int32_t row_width = compressor.n_lanes * compressor.format.width;
  std::byte* frontier = frontier_of(memory, span.slot);
  const int32_t end = span.first_position + span.n_rows;
  for (int32_t position = std::max(span.first_position, end - compressor.ring_rows); position < end; ++position) {
    const Candidate token = find_candidate(args, span, memory, position, 0);
    float* kv = ring_row(frontier, compressor.kv_ring_bytes_offset, compressor, position);
    float* score = ring_row(frontier, compressor.score_ring_bytes_offset, compressor, position);
    std::memcpy(kv, token.kv, static_cast<size_t>(row_width) * sizeof(float));
    for (int32_t i = 0; i < row_width; ++i) score[i] = token.score[i] + token.bias[i];
  }
}

}  // namespace ds4::reference
