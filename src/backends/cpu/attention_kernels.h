#pragma once
// size-check: templates

// Attention and index scores as templates over a struct S of vector operations (generic_kernels.h explains it).
// Attention: a lane is a head for the logits and the softmax, a channel for the weighted rows, so no sum runs across
// lanes and the order of every sum is that of its rows and channels. Index scores: a lane is a key.

#include "backends/cpu/block_codes.h"
#include "backends/cpu/row_kernels_generic.h"

namespace ds4::cpu {

// Twelve sums and what they need fit in 16 registers, 24 in 32.
template <class S>
inline constexpr int kHeadVectors = S::kLanes >= 8 ? 2 : 4;
template <class S>
inline constexpr int kPanelHeads = kHeadVectors<S> * S::kLanes;
template <class S>
inline constexpr int kMostSums = S::kLanes == 8 ? 12 : 24;

template <class S>
void interleave_heads(const float* query, int64_t n_heads, int64_t width, float* panels) {
  constexpr int64_t kPanel = kPanelHeads<S>;
  for (int64_t h = 0; h < n_heads; h += 4) {
    float* panel = panels + h / kPanel * kPanel * width + h % kPanel;
    const int64_t n = n_heads - h < 4 ? n_heads - h : 4;
    const float* heads = query + h * width;
    int64_t d = 0;
    for (; d + 4 <= width; d += 4) {
      F4 block[4] = {};
      for (int64_t i = 0; i < n; ++i) block[i] = load4<S>(heads + i * width + d);
      transpose4<S>(block);
      for (int i = 0; i < 4; ++i) store4<S>(panel + (d + i) * kPanel, block[i]);
    }
    for (; d < width; ++d) {
      for (int64_t i = 0; i < 4; ++i) panel[d * kPanel + i] = i < n ? heads[i * width + d] : 0.0f;
    }
  }
  for (int64_t h = (n_heads + 3) / 4 * 4; h % kPanel != 0; h += 4) {
    float* panel = panels + h / kPanel * kPanel * width + h % kPanel;
    for (int64_t d = 0; d < width; ++d) store4<S>(panel + d * kPanel, F4{});
  }
}

// logits[r][lane] = <row r, head of the lane> * scale, in segments of 64 channels that ascend, as their sums do. Lanes
// of kV vectors; panel and logits have kPanelHeads a row.
template <class S, int kRows, int kV>
void panel_logits(const float* panel, const float* const* rows, int64_t width, float* logits) {
  constexpr int64_t kSegment = 64;
  using F = typename S::F;
  F totals[kRows][kV];
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kV; ++v) totals[r][v] = S::zero();
  }
  for (int64_t first = 0; first < width; first += kSegment) {
    const int64_t last = width - first < kSegment ? width : first + kSegment;
    F sums[kRows][kV];
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kV; ++v) sums[r][v] = S::zero();
    }
    for (int64_t d = first; d < last; ++d) {
      F heads[kV];
#pragma GCC unroll 4
      for (int v = 0; v < kV; ++v) heads[v] = S::load(panel + d * kPanelHeads<S> + v * S::kLanes);
#pragma GCC unroll 24
      for (int r = 0; r < kRows; ++r) {
        const F value = S::set1(rows[r][d]);
#pragma GCC unroll 4
        for (int v = 0; v < kV; ++v) sums[r][v] = S::fma(value, heads[v], sums[r][v]);
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kV; ++v) totals[r][v] = S::add(totals[r][v], sums[r][v]);
    }
  }
  const F scale = S::set1(1.0f / __builtin_sqrtf(static_cast<float>(width)));
  for (int r = 0; r < kRows; ++r) {
    for (int v = 0; v < kV; ++v) S::store(logits + r * kPanelHeads<S> + v * S::kLanes, S::mul(totals[r][v], scale));
  }
}

template <class S, int kRows, int kV>
void all_logits(const float* panel, const float* const* rows, int n_rows, int64_t width, float* logits) {
  int r = 0;
  for (; r + kRows <= n_rows; r += kRows)
    panel_logits<S, kRows, kV>(panel, rows + r, width, logits + r * kPanelHeads<S>);
  if constexpr (kRows > 1) {
    if (r < n_rows) all_logits<S, kRows / 2, kV>(panel, rows + r, n_rows - r, width, logits + r * kPanelHeads<S>);
  }
}

// Lanes of the first n_heads, and those that share their vectors.
template <class S>
void head_logits(const float* panel, int64_t n_heads, const float* const* rows, int n_rows, int64_t width,
                 float* logits) {
  if (n_heads <= S::kLanes) return all_logits<S, 12, 1>(panel, rows, n_rows, width, logits);
  all_logits<S, kMostSums<S> / kHeadVectors<S>, kHeadVectors<S>>(panel, rows, n_rows, width, logits);
}

// One panel of heads against one range of rows: logits, then weights, [row][head of the panel]; and per head the
// factors by which earlier sums and the range's own enter the common softmax.
template <class S>
struct PanelSoftmax {
  alignas(64) float weights[kRangeRows * kPanelHeads<S> + 4];
  alignas(64) float keep[kPanelHeads<S>];
  alignas(64) float add[kPanelHeads<S>];

  void fold(typename S::F range_top, typename S::F range_total, int lane, float* top, float* total) {
    const typename S::F old_top = S::load(top);
    const typename S::F new_top = S::max(old_top, range_top);
    const typename S::F kept = exp<S>(S::sub(old_top, new_top));
    const typename S::F added = exp<S>(S::sub(range_top, new_top));
    S::store(keep + lane, kept);
    S::store(add + lane, added);
    S::store(top, new_top);
    S::store(total, S::fma(range_total, added, S::mul(S::load(total), kept)));
  }

  // Logits become weights.
  void compute(int n_rows, int64_t n_heads, float* top, float* total) {
    constexpr int kPanel = kPanelHeads<S>;
    for (int lane = 0; lane < n_heads; lane += S::kLanes) {
      typename S::F range_top = S::load(weights + lane);
      for (int r = 1; r < n_rows; ++r) range_top = S::max(range_top, S::load(weights + r * kPanel + lane));
      typename S::F sum = S::zero();
      for (int r = 0; r < n_rows; ++r) {
        const typename S::F weight = exp<S>(S::sub(S::load(weights + r * kPanel + lane), range_top));
        S::store(weights + r * kPanel + lane, weight);
        sum = S::add(sum, weight);
      }
      fold(range_top, sum, lane, top + lane, total + lane);
    }
  }
};

// What the heads from `head` of a panel on take from a range.
template <class S>
struct WeighedRows {
  const PanelSoftmax<S>& softmax;
  int64_t head;
  const float* const* rows;
  int n_rows;
  int64_t width;
};

// out[h] = out[h] * keep[h] + sum of weight * row * add[h] for kHeads heads and kV vectors of channels from d on, of
// which the last may be cut to n channels.
template <class S, int kHeads, int kV>
void weigh_rows(const WeighedRows<S>& from, int64_t head, int64_t d, int64_t n, float* out) {
  using F = typename S::F;
  F sums[kHeads][kV];
  for (int h = 0; h < kHeads; ++h) {
    for (int v = 0; v < kV; ++v) sums[h][v] = S::zero();
  }
  const float* weights = from.softmax.weights + head;
  for (int r = 0; r < from.n_rows; ++r) {
    F values[kV];
#pragma GCC unroll 4
    for (int v = 0; v < kV; ++v)
      values[v] = kV > 1 ? S::load(from.rows[r] + d + v * S::kLanes) : load_some<S>(from.rows[r] + d, n);
#pragma GCC unroll 4
    for (int h = 0; h < kHeads; ++h) {
      const F weight = S::set1(weights[r * kPanelHeads<S> + h]);
#pragma GCC unroll 4
      for (int v = 0; v < kV; ++v) sums[h][v] = S::fma(values[v], weight, sums[h][v]);
    }
  }
  for (int h = 0; h < kHeads; ++h) {
    const F keep = S::set1(from.softmax.keep[head + h]);
    const F add = S::set1(from.softmax.add[head + h]);
    for (int v = 0; v < kV; ++v) {
      float* to = out + h * from.width + d + v * S::kLanes;
      const int64_t n_left = kV > 1 ? S::kLanes : n;
      store_some<S>(to, S::fma(sums[h][v], add, S::mul(load_some<S>(to, n_left), keep)), n_left);
    }
  }
}

template <class S, int kV>
void weigh_channels(const WeighedRows<S>& from, int64_t n_heads, int64_t d, float* out) {
  const int64_t n = from.width - d;
  int64_t h = 0;
  for (; h + 4 <= n_heads; h += 4) weigh_rows<S, 4, kV>(from, from.head + h, d, n, out + h * from.width);
  for (; h < n_heads; ++h) weigh_rows<S, 1, kV>(from, from.head + h, d, n, out + h * from.width);
}

// out [n_heads, width]
template <class S>
void weigh_heads(const WeighedRows<S>& from, int64_t n_heads, float* out) {
  constexpr int kV = S::kLanes == 8 ? 3 : 4;
  int64_t d = 0;
  for (; d + kV * S::kLanes <= from.width; d += kV * S::kLanes) weigh_channels<S, kV>(from, n_heads, d, out);
  for (; d < from.width; d += S::kLanes) weigh_channels<S, 1>(from, n_heads, d, out);
}

template <class S>
void attend(const RowRange& range, const HeadSums& sums) {
  constexpr int64_t kPanel = kPanelHeads<S>;
  PanelSoftmax<S> softmax;
  for (int64_t first = 0; first < range.n_heads; first += kPanel) {
    const int64_t n_heads = range.n_heads - first < kPanel ? range.n_heads - first : kPanel;
    head_logits<S>(range.query + first * range.width, n_heads, range.rows, range.n_rows, range.width, softmax.weights);
    softmax.compute(range.n_rows, n_heads, sums.top + first, sums.total + first);
    weigh_heads<S>({softmax, 0, range.rows, range.n_rows, range.width}, n_heads, sums.out + first * range.width);
  }
}

// Logits of all queries move to where their ranges begin together; those of shorter ranges end with weights of zero.
template <class S>
void attend_queries(std::span<const QueryRange> queries, int64_t n_heads, int64_t width) {
  constexpr int kPanel = kPanelHeads<S>;
  PanelSoftmax<S> softmax;
  alignas(64) float top[kPanel + S::kLanes] = {};
  alignas(64) float total[kPanel + S::kLanes] = {};
  int n_rows = 0;
  for (const QueryRange& query : queries) n_rows = query.n_rows > n_rows ? query.n_rows : n_rows;
  const auto n_queries = static_cast<int64_t>(queries.size());
  for (int r = 0; r < n_rows; ++r) {
    for (int64_t q = 0; q < n_queries; ++q) {
      const QueryRange& query = queries[static_cast<size_t>(q)];
      float* to = softmax.weights + r * kPanel + q * n_heads;
      // Floats beyond n_heads are those of the next query, which come later, or nobody's.
      for (int64_t h = 0; h < n_heads; h += 4)
        store4<S>(to + h, r < query.n_rows ? load4<S>(query.logits[r] + h) : F4{} - __builtin_inff());
    }
  }
  for (int64_t q = 0; q < n_queries; ++q) {
    std::memcpy(top + q * n_heads, queries[static_cast<size_t>(q)].sums.top, sizeof(float) * n_heads);
    std::memcpy(total + q * n_heads, queries[static_cast<size_t>(q)].sums.total, sizeof(float) * n_heads);
  }
  softmax.compute(n_rows, n_queries * n_heads, top, total);
  for (int64_t q = 0; q < n_queries; ++q) {
    const QueryRange& query = queries[static_cast<size_t>(q)];
    if (query.n_rows == 0) continue;
    std::memcpy(query.sums.top, top + q * n_heads, sizeof(float) * n_heads);
    std::memcpy(query.sums.total, total + q * n_heads, sizeof(float) * n_heads);
    weigh_heads<S>({softmax, q * n_heads, query.rows, query.n_rows, width}, n_heads, query.sums.out);
  }
}

template <class S>
void fold_heads(const HeadSums& range, int64_t n_heads, int64_t width, const HeadSums& sums) {
  PanelSoftmax<S> softmax;
  for (int64_t first = 0; first < n_heads; first += S::kLanes) {
    softmax.fold(S::load(range.top + first), S::load(range.total + first), 0, sums.top + first, sums.total + first);
    for (int64_t h = first; h < n_heads && h < first + S::kLanes; ++h) {
      const typename S::F keep = S::set1(softmax.keep[h - first]);
      const typename S::F add = S::set1(softmax.add[h - first]);
      for (int64_t d = 0; d < width; d += S::kLanes) {
        float* to = sums.out + h * width + d;
        const typename S::F own = load_some<S>(range.out + h * width + d, width - d);
        store_some<S>(to, S::fma(own, add, S::mul(load_some<S>(to, width - d), keep)), width - d);
      }
    }
  }
}

template <class S>
void finish_heads(const HeadSums& sums, int64_t n_heads, int64_t width) {
  for (int64_t h = 0; h < n_heads; ++h) {
    const typename S::F inverse = S::set1(1.0f / sums.total[h]);
    for (int64_t d = 0; d < width; d += S::kLanes) {
      float* out = sums.out + h * width + d;
      store_some<S>(out, S::mul(load_some<S>(out, width - d), inverse), width - d);
    }
  }
}

// Index scores. Keys are E2M1 codes, doubled and raised by 12 to unsigned bytes; 12 times the sum of a query's codes is
// taken off again. Products of a group are exact integers, groups are added in ascending order.

inline constexpr int kKeyOffset = 12;

template <class S>
bool index_codes(const float* query, int64_t n_heads, int64_t width, int8_t* codes, float* scales, float* offsets) {
  bool fits = true;
  for (int64_t g = 0; g < n_heads * width / kFp4Group; ++g) {
    const float* x = query + g * kFp4Group;
    const float half_scale = 0.5f * scale_of<S>(group_scale<S>(x, kFp4Group, 6.0f * 0x1p-125f, 1.0f / 6.0f));
    const float inverse = 1.0f / half_scale;
    int32_t sum = 0;
    int32_t n_other = 0;
    int8_t whole[kFp4Group];
    for (int i = 0; i < kFp4Group; ++i) {
      const float value = x[i] * inverse;  // at most 12, nearly
      const auto code = static_cast<int32_t>(value);
      n_other += static_cast<float>(code) != value ? 1 : 0;
      whole[i] = static_cast<int8_t>(code);
      sum += code;
    }
    fits = fits && n_other == 0;
    // Rows hold two codes a byte: first all low ones of a group, then all high ones.
    for (int i = 0; i < kFp4Group / 2; ++i) {
      codes[g * kFp4Group + i] = whole[2 * i];
      codes[g * kFp4Group + kFp4Group / 2 + i] = whole[2 * i + 1];
    }
    scales[g] = half_scale;
    offsets[g] = -half_scale * static_cast<float>(kKeyOffset * sum);
  }
  return fits;
}

template <class S>
struct KeyPanel {
  alignas(64) int8_t codes[kMaxIndexGroups][kFp4Group * S::kLanes];  // [8 steps][kLanes keys][4]
  alignas(64) float scales[kMaxIndexGroups][S::kLanes];

  static int8_t raised(int code) {
    const int m = code & 7;
    const int double_m = 2 * m - 4 > m ? 2 * m - 4 : m;
    const int value = 4 * m - 16 > double_m ? 4 * m - 16 : double_m;  // 0 1 2 3 4 6 8 12
    return static_cast<int8_t>((code & 8) != 0 ? kKeyOffset - value : kKeyOffset + value);
  }

  // Keys beyond the last repeat it.
  void pack(const IndexKeys& keys, int64_t first, int64_t width) {
    alignas(64) int8_t rows[S::kLanes][kFp4Group];
    const int8_t* row_of[S::kLanes];
    for (int r = 0; r < S::kLanes; ++r) row_of[r] = rows[r];
    for (int64_t g = 0; g < width / kFp4Group; ++g) {
      for (int r = 0; r < S::kLanes; ++r) {
        const int64_t key = first + r < keys.n_rows ? first + r : keys.n_rows - 1;
        const auto* row = reinterpret_cast<const uint8_t*>(keys.rows + key * keys.row_bytes);
        for (int i = 0; i < kFp4Group / 2; ++i) {
          const int pair = row[g * (kFp4Group / 2) + i];
          rows[r][i] = raised(pair & 15);
          rows[r][kFp4Group / 2 + i] = raised(pair >> 4);
        }
        scales[g][r] = half_e8m0(row[width / 2 + g]);
      }
      S::interleave_32(row_of, codes[g]);
    }
  }
};

template <class S>
inline constexpr int kScoredHeads = S::kLanes == 16 ? 8 : S::kColumns;

// Codes of heads that follow one another.
struct HeadCodes {
  const int8_t* first;
  int64_t width;
  const int8_t* codes(int head) const { return first + head * width; }
};

// Adds the terms of kN heads from `head` on.
template <class S, int kN>
typename S::F add_heads(const KeyPanel<S>& panel, const IndexQueries& q, int64_t head, typename S::F score) {
  using F = typename S::F;
  const int64_t n_groups = q.width / kFp4Group;
  const typename S::I one = S::first_scale(S::broadcast4("\1\0\1"));
  F totals[kN];
  for (int c = 0; c < kN; ++c) totals[c] = S::zero();
  for (int64_t g = 0; g < n_groups; ++g) {
    typename S::I products[1][kN];
    for (int c = 0; c < kN; ++c) products[0][c] = S::zero_i();
    const int8_t* keys = panel.codes[g];
    S::template dot_small<8, 1, kN>(&keys, HeadCodes{q.codes + head * q.width + g * kFp4Group, q.width}, &one,
                                    products);
    const F scale = S::load(panel.scales[g]);
#pragma GCC unroll 8
    for (int c = 0; c < kN; ++c) {
      const int64_t i = (head + c) * n_groups + g;
      const F part = S::fma(S::to_float(products[0][c]), S::set1(q.scales[i]), S::set1(q.offsets[i]));
      totals[c] = S::fma(part, scale, totals[c]);
    }
  }
  for (int c = 0; c < kN; ++c)
    score = S::add(score, S::mul(S::max(S::zero(), totals[c]), S::set1(q.weights[head + c])));
  return score;
}

template <class S, int kN>
typename S::F add_all_heads(const KeyPanel<S>& panel, const IndexQueries& q, int64_t head, typename S::F score) {
  for (; head + kN <= q.n_heads; head += kN) score = add_heads<S, kN>(panel, q, head, score);
  if constexpr (kN > 1) {
    if (head < q.n_heads) return add_all_heads<S, kN / 2>(panel, q, head, score);
  }
  return score;
}

template <class S>
void index_scores(const IndexQueries& queries, const IndexKeys& keys, float* scores, int64_t stride) {
  KeyPanel<S> panel;
  const int64_t n_groups = queries.n_heads * (queries.width / kFp4Group);
  for (int64_t first = 0; first < keys.n_rows; first += S::kLanes) {
    panel.pack(keys, first, queries.width);
    IndexQueries one = queries;
    for (int64_t q = 0; q < queries.n_queries; ++q) {
      store_some<S>(scores + q * stride + first, add_all_heads<S, kScoredHeads<S>>(panel, one, 0, S::zero()),
                    keys.n_rows - first);
      one.codes += queries.n_heads * queries.width;
      one.scales += n_groups;
      one.offsets += n_groups;
      one.weights += queries.n_heads;
    }
  }
}

template <class S>
inline constexpr RowKernels kRowKernels = {
    .rms_norm = rms_norm<S>,
    .swiglu = swiglu<S>,
    .hc_reduce = hc_reduce<S>,
    .hc_expand = hc_expand<S>,
    .hc_mix = hc_mix<S>,
    .rotate = rotate<S>,
    .sqrt_softplus = sqrt_softplus_row<S>,
    .steer = steer<S>,
    .pack_row = pack_row<S>,
    .unpack_row = unpack_row<S>,
    .hadamard = hadamard_row<S>,
    .index_round = index_round<S>,
    .pool = pool<S>,
    .panel_heads = kPanelHeads<S>,
    .interleave_heads = interleave_heads<S>,
    .logits = head_logits<S>,
    .attend = attend<S>,
    .attend_queries = attend_queries<S>,
    .fold = fold_heads<S>,
    .finish_heads = finish_heads<S>,
    .index_codes = index_codes<S>,
    .index_scores = index_scores<S>,
};

}  // namespace ds4::cpu
