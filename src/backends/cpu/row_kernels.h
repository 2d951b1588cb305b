#pragma once

// Kernels of everything but matrix products: norms, streams, rotation, rounding of rows, attention, index scores. As in
// kernels.h every instruction set gives the same bits. Those with exponentials (vector_math.h) differ from the
// reference in float by a few units. Pure functions, any thread; none allocates. Contracts: ops/ops.h.

#include <cstddef>
#include <cstdint>
#include <span>

#include "ops/ops.h"

namespace ds4::reference {
struct Candidate;
struct HcMixRow;
}  // namespace ds4::reference

namespace ds4::cpu {

// A softmax of some heads, not yet divided: out = sum of exp(logit - top) * row, total = sum of exp(logit - top).
// Arrays per head are padded to whole panels (RowKernels::panel_heads).
struct HeadSums {
  float* top;
  float* total;
  float* out;  // [n_heads, width], not padded
};

// Attention takes the rows that a query sees in ranges of this many from the first. Each has a softmax of its own, and
// these are folded together in ascending order: threads may share the ranges of a query without changing a bit.
inline constexpr int kRangeRows = 64;

struct RowRange {
  const float* query;  // as interleave_heads leaves it; with one panel from any of its heads on
  int64_t n_heads;
  int64_t width;
  const float* const* rows;  // n_rows <= kRangeRows rows of `width` values
  int n_rows;
};

// A query that shares its panel with others, all its heads, against a range of which the logits are known.
struct QueryRange {
  const float* const* rows;    // n_rows <= kRangeRows rows
  const float* const* logits;  // of each row and the query's heads, readable to a multiple of four
  int n_rows;                  // none: the sums stay as they are
  HeadSums sums;
};

// Keys of kFp4 rows, row_bytes apart, against queries whose groups of 32 are small integers times a scale.
struct IndexQueries {
  int64_t n_queries;
  int64_t n_heads;
  int64_t width;         // n_groups = width / 32, at most kMaxIndexGroups
  const int8_t* codes;   // [n_queries, n_heads, width], as index_codes leaves them
  const float* scales;   // [n_queries, n_heads, n_groups]
  const float* offsets;  // [n_queries, n_heads, n_groups]
  const float* weights;  // [n_queries, n_heads]
};
inline constexpr int64_t kMaxIndexGroups = 8;

struct IndexKeys {
  const std::byte* rows;
  int64_t row_bytes;
  int64_t n_rows;
};

struct RowKernels {
  void (*rms_norm)(const float* x, const float* gain, float epsilon, int64_t n, float* out);
  // swiglu times factor; out may be gate or up
  void (*swiglu)(const float* gate, const float* up, float clamp, float factor, int64_t n, float* out);
  void (*hc_reduce)(const float* streams, const float* weights, int64_t n_streams, int64_t width, float* out);
  // Both for four streams.
  void (*hc_expand)(const float* y, const float* post, const float* comb, int64_t width, float* streams);
  void (*hc_mix)(const float* mix, const float* scale, const float* base, const HcParams& params,
                 const reference::HcMixRow& out);
  // Rotates n values in pairs. cosines: each twice; sines: minus and plus each; inverse turns back.
  void (*rotate)(float* x, const float* cosines, const float* sines, int64_t n, bool inverse);
  void (*sqrt_softplus)(const float* x, int64_t n, float* out);
  // x -= (scale * <direction, x>) * direction
  void (*steer)(float* x, const float* direction, float scale, int64_t n);
  // Rows of any encoding; the values and bytes of ops/kv_rows.h. Unpacked rows hold no NaN.
  void (*pack_row)(const float* x, const KvRowFormat& format, std::byte* row);
  void (*unpack_row)(const std::byte* row, const KvRowFormat& format, float* x);
  void (*hadamard)(float* x, int64_t n);
  // Hadamard rotation and FP4 rounding of one head.
  void (*index_round)(float* x, int64_t width);
  // Softmax over the candidates per channel.
  void (*pool)(std::span<const reference::Candidate> candidates, int64_t width, float* out);

  // Heads that lie side by side: [panel][width][panel_heads], heads beyond the last are zero.
  int64_t panel_heads;
  void (*interleave_heads)(const float* query, int64_t n_heads, int64_t width, float* panels);
  // logits[r][panel_heads] of n_rows rows and the first n_heads of a panel; the rest of a row is undefined.
  void (*logits)(const float* panel, int64_t n_heads, const float* const* rows, int n_rows, int64_t width,
                 float* logits);
  // Folds the softmax of a range into `sums`.
  void (*attend)(const RowRange& range, const HeadSums& sums);
  // Folds every query's range into its sums; all heads of all queries fit in a panel.
  void (*attend_queries)(std::span<const QueryRange> queries, int64_t n_heads, int64_t width);
  // Folds the softmax of a range, as attend left it in sums of nothing (top -infinity, the rest zero).
  void (*fold)(const HeadSums& range, int64_t n_heads, int64_t width, const HeadSums& sums);
  // out /= total, by the reciprocal
  void (*finish_heads)(const HeadSums& sums, int64_t n_heads, int64_t width);

  // Codes, scales and offsets of one query (IndexQueries). False: its values are not of that form.
  bool (*index_codes)(const float* query, int64_t n_heads, int64_t width, int8_t* codes, float* scales, float* offsets);
  // scores[q * stride + c] of query q and key c
  void (*index_scores)(const IndexQueries& queries, const IndexKeys& keys, float* scores, int64_t stride);
};

}  // namespace ds4::cpu
