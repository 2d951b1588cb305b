// Attention. A thread takes neighbouring rows of a sequence, unpacks the raw rows that they see once for all of them,
// and compressed rows a range at a time. Where the heads of several rows fit in one panel, these take the logits of the
// rows that they see together. With fewer rows than threads the heads are shared out too, with far fewer the ranges;
// the result is the same to the bit (row_kernels.h).

#include <algorithm>
#include <limits>

#include "backends/cpu/cpu_ops.h"
#include "backends/cpu/row_kernels.h"
#include "ops/kv_access.h"

namespace ds4 {

namespace {

using cpu::kRangeRows;

constexpr int32_t kMaxBlockRows = 8;
// Softmaxes of ranges may take this much memory; beyond it only heads are shared out.
constexpr int64_t kMaxSumsFloats = 64 << 20;

constexpr int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Scratch memory lies on cache lines.
int64_t whole_lines(int64_t n_floats) { return divide_up(n_floats, 16) * 16; }
float* on_line(float* p) { return p + (0 - reinterpret_cast<uintptr_t>(p)) % 64 / sizeof(float); }

// The stored rows that a query sees: raw rows oldest first, then compressed rows ascending.
struct VisibleRows {
  const SequenceSpan* span;
  int32_t position;
  int32_t n_raw;
  int32_t n_compressed;
  const int32_t* selected;  // null: all
  int32_t size() const { return n_raw + n_compressed; }
  int32_t first_raw_position() const { return position - n_raw + 1; }
};

struct HeadRange {
  int64_t first;
  int64_t n;
};

// One call's arguments and what threads share of them.
struct Attention {
  const cpu::RowKernels& kernels;
  const AttentionArgs& args;
  const KvMemory& kv;
  float* out;
  int64_t n_heads = args.query.shape[1];
  int64_t width = args.query.shape[2];
  int64_t n_panels = divide_up(n_heads, kernels.panel_heads);
  int64_t padded_heads = n_panels * kernels.panel_heads;
  // Of unpacked rows; the same channel of neighbouring rows falls into different cache sets.
  int64_t stride = whole_lines(width) + 16;

  VisibleRows visible(const SequenceSpan& span, int32_t i) const {
    const int32_t position = span.first_position + i;
    const int32_t n_raw = std::min(position + 1, args.layer.window);
    if (!args.selected) return {&span, position, n_raw, visible_rows(position, args.layer.ratio), nullptr};
    const int64_t row = span.first_row + i;
    return {&span, position, n_raw, args.n_selected.i32()[row], args.selected.i32() + row * args.selected.shape[1]};
  }
  void unpack_raw(const SequenceSpan& span, int32_t position, float* x) const {
    kernels.unpack_row(window_row(args.window_rows, args.layer, span, kv, position), args.layer.window_format, x);
  }
  void unpack_compressed(const VisibleRows& rows, int32_t i, float* x) const {
    const int32_t row = rows.selected == nullptr ? i : rows.selected[i];
    kernels.unpack_row(compressed_row(kv, args.layer.attention, rows.span->slot, row), args.layer.attention.format, x);
  }
  // The heads of part `part` of n_parts, in whole panels.
  HeadRange heads_of(int64_t part, int64_t n_parts) const {
    const int64_t first = n_panels * part / n_parts * kernels.panel_heads;
    return {first, std::min(n_panels * (part + 1) / n_parts * kernels.panel_heads, n_heads) - first};
  }
  void interleave(const SequenceSpan& span, int32_t i, HeadRange heads, float* panels) const {
    const float* query = args.query.f32() + ((span.first_row + i) * n_heads + heads.first) * width;
    kernels.interleave_heads(query, heads.n, width, panels);
  }
  // Sums before the first range: the sink's weight, whose value is zero.
  void start(HeadRange heads, const cpu::HeadSums& sums) const {
    std::copy_n(args.sinks.f32() + heads.first, heads.n, sums.top);
    std::fill(sums.top + heads.n, sums.top + divide_up(heads.n, kernels.panel_heads) * kernels.panel_heads, 0.0f);
    std::fill_n(sums.total, divide_up(heads.n, kernels.panel_heads) * kernels.panel_heads, 1.0f);
    std::fill_n(sums.out, heads.n * width, 0.0f);
  }
};

// A thread's memory for a block of rows.
class BlockScratch {
 public:
  static int64_t floats(const Attention& a, int32_t block_rows) {
    return block_rows * (whole_lines(a.padded_heads * a.width) + 2 * whole_lines(a.padded_heads)) +
           (a.args.layer.window + block_rows + kRangeRows) * (a.stride + a.kernels.panel_heads) +
           2 * whole_lines(a.kernels.panel_heads);
  }
  BlockScratch(const Attention& a, int32_t block_rows, float* memory) : a_(a) {
    for (int32_t i = 0; i < block_rows; ++i) {
      queries_[i] = take(memory, a.padded_heads * a.width);
      tops_[i] = take(memory, a.padded_heads);
      totals_[i] = take(memory, a.padded_heads);
    }
    raw_ = take(memory, (a.args.layer.window + block_rows) * a.stride);
    tile_ = take(memory, kRangeRows * a.stride);
    raw_logits_ = take(memory, (a.args.layer.window + block_rows) * a.kernels.panel_heads);
    tile_logits_ = take(memory, (kRangeRows + 1) * a.kernels.panel_heads);
  }
  float* query(int32_t i) const { return queries_[i]; }
  cpu::HeadSums sums(int32_t i, float* out) const { return {tops_[i], totals_[i], out}; }
  float* raw_row(int32_t i) const { return raw_ + i * a_.stride; }
  float* tile_row(int32_t i) const { return tile_ + i * a_.stride; }
  // Of the same rows, for all heads of a panel.
  float* raw_logits(int32_t i) const { return raw_logits_ + i * a_.kernels.panel_heads; }
  float* tile_logits(int32_t i) const { return tile_logits_ + i * a_.kernels.panel_heads; }

 private:
  static float* take(float*& memory, int64_t n) {
    float* taken = memory;
    memory += whole_lines(n);
    return taken;
  }
  const Attention& a_;
  float* queries_[kMaxBlockRows];
  float* tops_[kMaxBlockRows];
  float* totals_[kMaxBlockRows];
  float* raw_;
  float* tile_;
  float* raw_logits_;
  float* tile_logits_;
};

// Unpacked compressed rows of one range after the other. Queries that see all rows share them.
class CompressedTile {
 public:
  explicit CompressedTile(const BlockScratch& scratch) : scratch_(scratch) {}
  // Row i of the range is the query's compressed row i + first_compressed, for i in [first, last).
  void fill(const Attention& a, const VisibleRows& rows, int32_t first_compressed, int32_t first, int32_t last) {
    const bool is_shared = rows.selected == nullptr && first_compressed == first_compressed_;
    for (int32_t i = is_shared ? std::max(first, filled_) : first; i < last; ++i)
      a.unpack_compressed(rows, first_compressed + i, scratch_.tile_row(i));
    filled_ = is_shared ? std::max(last, filled_) : last;
    first_compressed_ = first_compressed;
  }

 private:
  const BlockScratch& scratch_;
  int32_t first_compressed_ = std::numeric_limits<int32_t>::min();
  int32_t filled_ = 0;
};

// Some neighbouring rows of a span, and some of their heads.
class QueryBlock {
 public:
  QueryBlock(const Attention& a, const BlockScratch& scratch, int32_t n_rows, HeadRange heads)
      : a_(a), scratch_(scratch), tile_(scratch), n_rows_(n_rows), heads_(heads) {}

  void attend(const SequenceSpan& span, int32_t first) {
    start(span, first);
    if (shares_panel()) share_raw_logits();
    for (int32_t start = 0; start < n_visible_; start += kRangeRows) {
      if (shares_panel() && shares_rows(start)) {
        attend_together(start);
      } else {
        for (int32_t q = 0; q < n_rows_; ++q) attend_alone(q, start);
      }
    }
    for (int32_t q = 0; q < n_rows_; ++q) a_.kernels.finish_heads(sums_[q], heads_.n, a_.width);
  }

 private:
  bool shares_panel() const { return n_rows_ > 1 && n_rows_ * heads_.n <= a_.kernels.panel_heads; }
  // Of query q; in a shared panel from its first head on.
  const float* query(int32_t q) const { return shares_panel() ? scratch_.query(0) + q * heads_.n : scratch_.query(q); }
  int32_t raw_index(int32_t q) const { return rows_[q].first_raw_position() - raw_position_; }
  int32_t range_size(int32_t q, int32_t start) const { return std::clamp(rows_[q].size() - start, 0, kRangeRows); }

  void start(const SequenceSpan& span, int32_t first) {
    for (int32_t q = 0; q < n_rows_; ++q) {
      rows_[q] = a_.visible(span, first + q);
      sums_[q] = scratch_.sums(q, a_.out + ((span.first_row + first + q) * a_.n_heads + heads_.first) * a_.width);
      n_visible_ = std::max(n_visible_, rows_[q].size());
      a_.start(heads_, sums_[q]);
      if (!shares_panel()) a_.interleave(span, first + q, heads_, scratch_.query(q));
    }
    // All heads of neighbouring rows lie side by side.
    if (shares_panel()) a_.interleave(span, first, {0, n_rows_ * heads_.n}, scratch_.query(0));
    raw_position_ = rows_[0].first_raw_position();
    n_raw_ = rows_[n_rows_ - 1].position - raw_position_ + 1;
    for (int32_t i = 0; i < n_raw_; ++i) a_.unpack_raw(span, raw_position_ + i, scratch_.raw_row(i));
  }

  void share_logits(int32_t n, const float* rows, float* logits) const {
    for (int32_t i = 0; i < n; i += kRangeRows) {
      const float* some[kRangeRows];
      const int32_t n_some = std::min(kRangeRows, n - i);
      for (int32_t k = 0; k < n_some; ++k) some[k] = rows + (i + k) * a_.stride;
      a_.kernels.logits(query(0), n_rows_ * heads_.n, some, n_some, a_.width, logits + i * a_.kernels.panel_heads);
    }
  }
  void share_raw_logits() const { share_logits(n_raw_, scratch_.raw_row(0), scratch_.raw_logits(0)); }

  // Whether all compressed rows of a range are the same for all queries.
  bool shares_rows(int32_t start) const {
    const VisibleRows& last = rows_[n_rows_ - 1];
    if (last.selected == nullptr && rows_[0].n_raw == last.n_raw) return true;
    for (int32_t q = 0; q < n_rows_; ++q) {
      if (rows_[q].n_compressed > 0 && rows_[q].n_raw < start + kRangeRows) return false;
    }
    return true;
  }

  void attend_together(int32_t start) {
    const VisibleRows& last = rows_[n_rows_ - 1];  // sees most
    const int32_t n_last = range_size(n_rows_ - 1, start);
    const int32_t n_last_raw = std::clamp(last.n_raw - start, 0, n_last);
    if (n_last_raw < n_last) {
      tile_.fill(a_, last, start - last.n_raw, n_last_raw, n_last);
      share_logits(n_last - n_last_raw, scratch_.tile_row(n_last_raw), scratch_.tile_logits(n_last_raw));
    }
    const float* rows[kMaxBlockRows][kRangeRows];
    const float* logits[kMaxBlockRows][kRangeRows];
    cpu::QueryRange ranges[kMaxBlockRows];
    for (int32_t q = 0; q < n_rows_; ++q) {
      ranges[q] = {rows[q], logits[q], range_size(q, start), sums_[q]};
      for (int32_t i = 0; i < ranges[q].n_rows; ++i) {
        const bool is_raw = start + i < rows_[q].n_raw;
        const int32_t row = is_raw ? raw_index(q) + start + i : i;
        rows[q][i] = is_raw ? scratch_.raw_row(row) : scratch_.tile_row(row);
        // Of the query's first head.
        logits[q][i] = (is_raw ? scratch_.raw_logits(row) : scratch_.tile_logits(row)) + q * heads_.n;
      }
    }
    a_.kernels.attend_queries({ranges, static_cast<size_t>(n_rows_)}, heads_.n, a_.width);
  }

  void attend_alone(int32_t q, int32_t start) {
    const int32_t n = range_size(q, start);
    if (n == 0) return;
    const int32_t n_raw = std::clamp(rows_[q].n_raw - start, 0, n);
    if (n_raw < n) tile_.fill(a_, rows_[q], start - rows_[q].n_raw, n_raw, n);
    const float* range[kRangeRows];
    for (int32_t i = 0; i < n_raw; ++i) range[i] = scratch_.raw_row(raw_index(q) + start + i);
    for (int32_t i = n_raw; i < n; ++i) range[i] = scratch_.tile_row(i);
    a_.kernels.attend({query(q), heads_.n, a_.width, range, n}, sums_[q]);
  }

  const Attention& a_;
  const BlockScratch& scratch_;
  CompressedTile tile_;
  int32_t n_rows_;
  HeadRange heads_;
  VisibleRows rows_[kMaxBlockRows];
  cpu::HeadSums sums_[kMaxBlockRows];
  int32_t n_visible_ = 0;
  int32_t raw_position_ = 0;
  int32_t n_raw_ = 0;
};

// The softmax of one range of one query's rows.
void attend_range(const Attention& a, const VisibleRows& rows, int32_t start, HeadRange heads,
                  const cpu::HeadSums& sums, const BlockScratch& scratch) {
  std::fill_n(sums.top, divide_up(heads.n, a.kernels.panel_heads) * a.kernels.panel_heads,
              -std::numeric_limits<float>::infinity());
  std::fill_n(sums.total, divide_up(heads.n, a.kernels.panel_heads) * a.kernels.panel_heads, 0.0f);
  std::fill_n(sums.out, heads.n * a.width, 0.0f);
  a.interleave(*rows.span, rows.position - rows.span->first_position, heads, scratch.query(0));
  const int32_t n = std::min(kRangeRows, rows.size() - start);
  const float* range[kRangeRows];
  for (int32_t i = 0; i < n; ++i) {
    float* x = scratch.tile_row(i);
    start + i < rows.n_raw ? a.unpack_raw(*rows.span, rows.first_raw_position() + start + i, x)
                           : a.unpack_compressed(rows, start + i - rows.n_raw, x);
    range[i] = x;
  }
  a.kernels.attend({scratch.query(0), heads.n, a.width, range, n}, sums);
}

}  // namespace

const std::vector<CpuOps::RowBlock>& CpuOps::cut_into_blocks(const BatchView& batch, int32_t block_rows) {
  blocks_.clear();
  for (const SequenceSpan& span : batch.spans) {
    for (int32_t first = 0; first < span.n_rows; first += block_rows)
      blocks_.push_back({&span, first, std::min(block_rows, span.n_rows - first)});
  }
  return blocks_;
}

void CpuOps::attention(const AttentionArgs& args, const BatchView& batch, const KvMemory& kv, const TensorView& out) {
  if (batch.n_rows == 0) return;
  const Attention a{*kernels_.rows, args, kv, out.f32()};
  const int64_t n_threads = pool_.n_threads();
  // As many as share a panel, or take unpacked rows in turns.
  const int64_t panel_rows = a.kernels.panel_heads / a.n_heads;
  const int64_t most_rows = panel_rows > 1 ? std::min<int64_t>(panel_rows, kMaxBlockRows) : kMaxBlockRows;
  const auto block_rows = static_cast<int32_t>(std::clamp<int64_t>(batch.n_rows / (4 * n_threads), 1, most_rows));
  cut_into_blocks(batch, block_rows);
  const int64_t thread_floats = BlockScratch::floats(a, block_rows);
  thread_scratch_.resize(std::max(thread_scratch_.size(), static_cast<size_t>(n_threads * thread_floats + 16)));
  if (n_threads > 2 * batch.n_rows && attend_by_ranges(args, kv, out)) return;

  const int64_t n_parts = std::min(a.n_panels, divide_up(n_threads, batch.n_rows));
  float* memory = on_line(thread_scratch_.data());
  pool_.parallel_for(std::ssize(blocks_) * n_parts, 1, [&](int64_t first, int64_t last, int thread) {
    const BlockScratch scratch(a, block_rows, memory + thread * thread_floats);
    for (int64_t i = first; i < last; ++i) {
      const RowBlock& block = blocks_[static_cast<size_t>(i / n_parts)];
      QueryBlock(a, scratch, block.n_rows, a.heads_of(i % n_parts, n_parts)).attend(*block.span, block.first);
    }
  });
}

// Blocks of one row each. False: the ranges' softmaxes would take too much memory.
bool CpuOps::attend_by_ranges(const AttentionArgs& args, const KvMemory& kv, const TensorView& out) {
  const Attention a{*kernels_.rows, args, kv, out.f32()};
  int64_t n_ranges = 0;  // of the longest row
  for (const RowBlock& block : blocks_)
    n_ranges = std::max(n_ranges, divide_up(a.visible(*block.span, block.first).size(), kRangeRows));
  const int64_t n_rows = std::ssize(blocks_);
  const int64_t range_floats = 2 * a.padded_heads + whole_lines(a.n_heads * a.width);
  if (n_rows * n_ranges * range_floats > kMaxSumsFloats) return false;
  attention_sums_.resize(std::max(attention_sums_.size(), static_cast<size_t>(n_rows * n_ranges * range_floats + 16)));
  const auto range_sums = [&](int64_t row, int64_t range, int64_t head) {
    float* sums = on_line(attention_sums_.data()) + (row * n_ranges + range) * range_floats;
    return cpu::HeadSums{sums + head, sums + a.padded_heads + head, sums + 2 * a.padded_heads + head * a.width};
  };

  const int64_t n_parts = std::min(a.n_panels, divide_up(3 * pool_.n_threads(), n_rows * n_ranges));
  const int64_t thread_floats = BlockScratch::floats(a, 1);
  float* memory = on_line(thread_scratch_.data());
  pool_.parallel_for(n_rows * n_ranges * n_parts, 1, [&](int64_t first, int64_t, int thread) {
    const BlockScratch scratch(a, 1, memory + thread * thread_floats);
    const int64_t row = first / n_parts / n_ranges;
    const auto range = static_cast<int32_t>(first / n_parts % n_ranges);
    const RowBlock& block = blocks_[static_cast<size_t>(row)];
    const VisibleRows rows = a.visible(*block.span, block.first);
    const HeadRange heads = a.heads_of(first % n_parts, n_parts);
    if (range * kRangeRows < rows.size())
      attend_range(a, rows, range * kRangeRows, heads, range_sums(row, range, heads.first), scratch);
  });

  pool_.parallel_for(n_rows * a.n_panels, 1, [&](int64_t first, int64_t, int thread) {
    const BlockScratch scratch(a, 1, memory + thread * thread_floats);
    const int64_t row = first / a.n_panels;
    const RowBlock& block = blocks_[static_cast<size_t>(row)];
    const HeadRange heads = a.heads_of(first % a.n_panels, a.n_panels);
    const int64_t batch_row = block.span->first_row + block.first;
    const cpu::HeadSums sums = scratch.sums(0, a.out + (batch_row * a.n_heads + heads.first) * a.width);
    a.start(heads, sums);
    const int64_t n_own_ranges = divide_up(a.visible(*block.span, block.first).size(), kRangeRows);
    for (int64_t range = 0; range < n_own_ranges; ++range)
      a.kernels.fold(range_sums(row, range, heads.first), heads.n, a.width, sums);
    a.kernels.finish_heads(sums, heads.n, a.width);
  });
  return true;
}

}  // namespace ds4
