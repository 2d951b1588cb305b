// Attention and the indexer's selection. A thread takes a row of the batch and a block of its heads, unpacks the rows
// that query sees once, and attends head by head.

#include <algorithm>
#include <cmath>

#include "backends/cpu/cpu_ops.h"
#include "backends/cpu/kernels.h"
#include "ops/kv_access.h"
#include "ops/reference/attention.h"
#include "ops/reference/indexer.h"

namespace ds4 {

namespace {

struct RowItem {
  const SequenceSpan* span;
  int64_t row;
  int32_t position;
};

std::vector<RowItem> list_rows(const BatchView& batch) {
  std::vector<RowItem> items;
  for_each_row(
      batch, [&](const SequenceSpan& span, int64_t row, int32_t position) { items.push_back({&span, row, position}); });
  return items;
}

// query [width], rows [n_rows, width], logits: scratch of n_rows; out [width]
void attend_head(const cpu::Kernels& kernels, const float* query, const std::vector<float>& rows, float sink,
                 std::vector<float>& logits, std::span<float> out) {
  const auto width = static_cast<int64_t>(out.size());
  const float scale = 1.0f / std::sqrt(static_cast<float>(width));
  float top = sink;
  for (size_t r = 0; r < logits.size(); ++r) {
    logits[r] = kernels.dot(query, rows.data() + r * out.size(), width) * scale;
    top = std::max(top, logits[r]);
  }
  std::fill(out.begin(), out.end(), 0.0f);
  float total = std::exp(sink - top);
  for (size_t r = 0; r < logits.size(); ++r) {
    const float weight = std::exp(logits[r] - top);
    total += weight;
    kernels.add_scaled(rows.data() + r * out.size(), weight, width, out.data());
  }
  const float inverse = 1.0f / total;
  for (float& value : out) value *= inverse;
}

}  // namespace

void CpuOps::attention(const AttentionArgs& args, const BatchView& batch, const KvMemory& kv, const TensorView& out) {
  if (batch.n_rows == 0) return;
  const int64_t n_heads = args.query.shape[1];
  const int64_t width = args.query.shape[2];
  const std::vector<RowItem> items = list_rows(batch);
  // With few rows the heads of one row are shared out too; unpacking twice costs less than an idle thread.
  const int64_t n_blocks = std::min<int64_t>(n_heads, (pool_.n_threads() + batch.n_rows - 1) / batch.n_rows);
  const int64_t block_heads = (n_heads + n_blocks - 1) / n_blocks;
  pool_.parallel_for(static_cast<int64_t>(items.size()) * n_blocks, 1, [&](int64_t first, int64_t last) {
    std::vector<float> rows;
    std::vector<float> logits;
    for (int64_t i = first; i < last; ++i) {
      const RowItem& item = items[static_cast<size_t>(i / n_blocks)];
      const std::vector<const std::byte*> stored = reference::visible_kv_rows(args, *item.span, kv, item.position);
      rows.resize(stored.size() * static_cast<size_t>(width));
      logits.resize(stored.size());
      for (size_t r = 0; r < stored.size(); ++r) {
        cpu::unpack_row(stored[r], args.layer.window_format, rows.data() + r * static_cast<size_t>(width));
      }
      const int64_t first_head = i % n_blocks * block_heads;
      for (int64_t h = first_head; h < std::min(first_head + block_heads, n_heads); ++h) {
        const int64_t offset = (item.row * n_heads + h) * width;
        attend_head(kernels_, args.query.f32() + offset, rows, args.sinks.f32()[h], logits,
                    std::span(out.f32() + offset, static_cast<size_t>(width)));
      }
    }
  });
}

void CpuOps::index_select(const IndexSelectArgs& args, const BatchView& batch, const KvMemory& kv,
                          const TensorView& selected, const TensorView& n_selected) {
  const int64_t n_heads = args.query.shape[1];
  const int64_t width = args.query.shape[2];
  const float scale = 1.0f / std::sqrt(static_cast<float>(width * n_heads));
  const std::vector<RowItem> items = list_rows(batch);
  pool_.parallel_for(static_cast<int64_t>(items.size()), 1, [&](int64_t first, int64_t last) {
    std::vector<float> key(static_cast<size_t>(width));
    std::vector<float> scores;
    for (int64_t i = first; i < last; ++i) {
      const RowItem& item = items[static_cast<size_t>(i)];
      const float* query = args.query.f32() + item.row * n_heads * width;
      const float* weights = args.weights.f32() + item.row * n_heads;
      const int32_t n_visible = visible_rows(item.position, args.indexer.ratio);
      scores.assign(static_cast<size_t>(n_visible), 0.0f);
      for (int32_t c = 0; c < n_visible && n_visible > args.top_k; ++c) {
        cpu::unpack_row(compressed_row(kv, args.indexer, item.span->slot, c), args.indexer.format, key.data());
        float score = 0.0f;
        for (int64_t h = 0; h < n_heads; ++h) {
          score += std::max(0.0f, kernels_.dot(query + h * width, key.data(), width)) * (weights[h] * scale);
        }
        scores[static_cast<size_t>(c)] = score;
      }
      n_selected.i32()[item.row] = reference::select_top(scores, args.top_k, selected.i32() + item.row * args.top_k);
    }
  });
}

}  // namespace ds4
