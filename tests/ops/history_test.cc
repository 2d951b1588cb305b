// Attention, windows and compressors against formulas over a sequence's whole history, kept in plain arrays: no rings,
// pages or frontiers. A sequence runs through the ops in chunks of several sizes.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "backends/host_backend.h"
#include "ops/case_builder.h"
#include "ops/kv_rows.h"
#include "ops/op_runner.h"

namespace ds4::test {

namespace {

constexpr int32_t kWidth = 32;
constexpr int32_t kRot = 4;
constexpr int32_t kSlot = 1;
constexpr int32_t kPages = 5;
constexpr int32_t kPageOfSequence[] = {3, 0};  // pages 0 and 1 of the sequence

TensorView view_of(const Buffer& buffer, DType type, Shape shape) { return {&buffer, 0, type, shape}; }

// Tokens of one sequence and KV memory for them, everything F32.
class History {
 public:
  History(int32_t ratio, int32_t window, int32_t n_tokens, KvEncoding encoding = KvEncoding::kF32)
      : ratio_(ratio),
        window_(window),
        n_tokens_(n_tokens),
        n_lanes_(ratio == 4 ? 2 : 1),
        backend_(make_reference_backend(ReferenceReal::kDouble, NumericProfile::kExact)) {
    const KvRowFormat format{KvEncoding::kF32, kWidth, kRot, 4 * kWidth};
    const KvRowFormat compressed_format =
        encoding == KvEncoding::kF32 ? format : case_row_format(encoding, kWidth, kRot);
    const uint64_t ring_bytes = uint64_t{4} * n_lanes_ * n_lanes_ * ratio * kWidth;
    layer_ = {ratio, window, format, 0, {}, {}};
    const uint64_t window_bytes = static_cast<uint64_t>(window * format.row_bytes);
    layer_.attention = {ratio, n_lanes_, n_lanes_ * ratio, compressed_format, window_bytes, window_bytes + ring_bytes,
                        64};
    frontiers_ = make(DType::kU8, {2, static_cast<int64_t>(window_bytes + 2 * ring_bytes)});
    pages_ = make(DType::kU8, {kPages, 64 + int64_t{kPageTokens} / std::max(ratio, 1) * compressed_format.row_bytes});
    page_table_ = make(DType::kI32, {2, 2});
    for (int i = 0; i < 2; ++i) page_table_.i32()[2 * kSlot + i] = kPageOfSequence[i];
    positions_ = make(DType::kI32, {n_tokens});
    for (int32_t i = 0; i < n_tokens; ++i) positions_.i32()[i] = i;
    kv = random({n_tokens, n_lanes_ * kWidth}, 1);
    score = random({n_tokens, n_lanes_ * kWidth}, 2);
    ape = random({std::max(ratio, 1), n_lanes_ * kWidth}, 3);
    norm = random({kWidth}, 4);
    frequencies = random({kRot / 2}, 5);
    raw = random({n_tokens, kWidth}, 6);
    query = random({n_tokens, 2, kWidth}, 7);
    sinks = random({2}, 8);
    out = random({n_tokens, 2, kWidth}, 9);
  }

  // body(first, n, batch, kv memory) for chunks of the given sizes in turn, then the rest.
  template <class Body>
  void run_in_chunks(const std::vector<int32_t>& sizes, const Body& body) {
    int32_t first = 0;
    for (size_t i = 0; first < n_tokens_; ++i) {
      const int32_t n = i < sizes.size() ? std::min(sizes[i], n_tokens_ - first) : n_tokens_ - first;
      const SequenceSpan span{kSlot, 0, n, first};
      const TensorView positions = positions_.rows(first, n);
      body(first, n, BatchView{n, positions, positions, std::span(&span, 1)},
           KvMemory{frontiers_, pages_, page_table_});
      first += n;
    }
  }

  void compress(int32_t first, int32_t n, const BatchView& batch, const KvMemory& memory) {
    ops().compress({kv.rows(first, n), score.rows(first, n), ape, norm, 1e-6f, {frequencies}, layer_.attention}, batch,
                   memory);
  }

  // Compressed row j as the pages hold it.
  std::span<const std::byte> stored(int32_t j) const {
    const int32_t per_page = kPageTokens / ratio_;
    const int64_t row_size = layer_.attention.format.row_bytes;
    const int64_t offset = kPageOfSequence[j / per_page] * pages_.shape[1] + 64 + j % per_page * row_size;
    return {pages_.data<std::byte>() + offset, static_cast<size_t>(row_size)};
  }
  const float* compressed(int32_t j) const { return reinterpret_cast<const float*>(stored(j).data()); }

  // Compressed row j from the history.
  std::vector<double> expected_row(int32_t j) const;
  // out[d] of a head over raw rows and every stride-th visible compressed row.
  double expected_attention(int32_t position, int32_t head, int32_t d, int32_t stride) const;
  // Those rows as the op is told of them.
  void select(int32_t stride);

  Ops& ops() { return backend_->ops(); }
  const LayerKv& layer() const { return layer_; }

  TensorView kv, score, ape, norm, frequencies, raw, query, sinks, out, selected, n_selected;

 private:
  TensorView make(DType type, Shape shape) {
    const TensorView shaped{nullptr, 0, type, shape};
    buffers_.push_back(std::make_unique<BytesBuffer>(std::vector<std::byte>(shaped.size_bytes(), std::byte{0xFF})));
    return view_of(*buffers_.back(), type, shape);
  }
  TensorView random(Shape shape, uint64_t seed) {
    buffers_.push_back(std::make_unique<BytesBuffer>(bytes_of(make_values({.scale = 2.0f}, shape.elements(), seed))));
    return view_of(*buffers_.back(), DType::kF32, shape);
  }

  int32_t ratio_, window_, n_tokens_, n_lanes_;
  std::unique_ptr<Backend> backend_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  LayerKv layer_;
  TensorView frontiers_, pages_, page_table_, positions_;
};

std::vector<double> History::expected_row(int32_t j) const {
  const int32_t row_width = n_lanes_ * kWidth;
  std::vector<double> x(kWidth);
  double squares = 0;
  for (int32_t d = 0; d < kWidth; ++d) {
    double weighted = 0;
    double total = 0;
    // With two lanes the window before takes part with its first lane.
    for (int32_t p = n_lanes_ == 2 ? std::max(0, (j - 1) * ratio_) : j * ratio_; p < (j + 1) * ratio_; ++p) {
      const int32_t column = d + (n_lanes_ == 2 && p >= j * ratio_ ? kWidth : 0);
      const float biased = score.f32()[p * row_width + column] + ape.f32()[p % ratio_ * row_width + column];
      const double weight = std::exp(static_cast<double>(biased));
      weighted += weight * static_cast<double>(kv.f32()[p * row_width + column]);
      total += weight;
    }
    x[static_cast<size_t>(d)] = weighted / total;
    squares += x[static_cast<size_t>(d)] * x[static_cast<size_t>(d)];
  }
  for (int32_t d = 0; d < kWidth; ++d)
    x[static_cast<size_t>(d)] *= static_cast<double>(norm.f32()[d]) / std::sqrt(squares / kWidth + 1e-6);
  for (int32_t i = 0; i < kRot / 2; ++i) {
    const double angle = static_cast<double>(static_cast<float>(j * ratio_) * frequencies.f32()[i]);
    double& a = x[static_cast<size_t>(kWidth - kRot + 2 * i)];
    double& b = x[static_cast<size_t>(kWidth - kRot + 2 * i + 1)];
    const double rotated = a * std::cos(angle) - b * std::sin(angle);
    b = a * std::sin(angle) + b * std::cos(angle);
    a = rotated;
  }
  return x;
}

void History::select(int32_t stride) {
  selected = make(DType::kI32, {n_tokens_, n_tokens_ / ratio_ / stride + 1});
  n_selected = make(DType::kI32, {n_tokens_});
  for (int32_t p = 0; p < n_tokens_; ++p) {
    int32_t n = 0;
    for (int32_t j = 0; (j + 1) * ratio_ <= p + 1; j += stride) selected.i32()[p * selected.shape[1] + n++] = j;
    n_selected.i32()[p] = n;
  }
}

double History::expected_attention(int32_t position, int32_t head, int32_t d, int32_t stride) const {
  std::vector<const float*> rows;
  for (int32_t p = 0; p <= position; ++p) {
    if (position - p < window_) rows.push_back(raw.f32() + p * kWidth);
  }
  for (int32_t j = 0; ratio_ != 0 && (j + 1) * ratio_ <= position + 1; j += stride) rows.push_back(compressed(j));
  double total = std::exp(static_cast<double>(sinks.f32()[head]));
  double sum = 0;
  for (const float* row : rows) {
    double logit = 0;
    for (int32_t i = 0; i < kWidth; ++i)
      logit += static_cast<double>(query.f32()[(position * 2 + head) * kWidth + i]) * static_cast<double>(row[i]);
    const double weight = std::exp(logit / std::sqrt(kWidth));
    total += weight;
    sum += weight * static_cast<double>(row[d]);
  }
  return sum / total;
}

const std::vector<std::vector<int32_t>> kChunkings = {
    {}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, {3, 1, 5, 2, 4}, {127, 2}, {4, 8}, {257}};

TEST(HistoryTest, CompressedRowsPoolTheirTokens) {
  for (const int32_t ratio : {4, 128}) {
    for (const auto& sizes : kChunkings) {
      History history(ratio, 8, 300);
      history.run_in_chunks(sizes, [&](int32_t first, int32_t n, const BatchView& batch, const KvMemory& memory) {
        history.compress(first, n, batch, memory);
      });
      for (int32_t j = 0; j < 300 / ratio; ++j) {
        const std::vector<double> expected = history.expected_row(j);
        for (size_t d = 0; d < kWidth; ++d)
          ASSERT_NEAR(static_cast<double>(history.compressed(j)[d]), expected[d], 1e-5)
              << "ratio " << ratio << " row " << j;
      }
    }
  }
}

TEST(HistoryTest, IndexerRowsAreRotatedBeforeRounding) {
  const auto compress_all = [](History& history) {
    history.run_in_chunks({}, [&](int32_t first, int32_t n, const BatchView& batch, const KvMemory& memory) {
      history.compress(first, n, batch, memory);
    });
  };
  History plain(4, 8, 40);
  History indexer(4, 8, 40, KvEncoding::kFp4);
  compress_all(plain);
  compress_all(indexer);
  const KvRowFormat& format = indexer.layer().attention.format;
  std::vector<std::byte> expected(static_cast<size_t>(format.row_bytes));
  for (int32_t j = 0; j < 10; ++j) {
    std::vector<float> row(plain.compressed(j), plain.compressed(j) + kWidth);
    hadamard(row.data(), kWidth);
    pack_kv_row(row.data(), format, expected.data());
    EXPECT_TRUE(std::ranges::equal(indexer.stored(j), expected)) << "row " << j;
  }
}

void expect_attention_over_history(int32_t ratio, const std::vector<int32_t>& sizes, int32_t stride) {
  constexpr int32_t kTokens = 265;
  History history(ratio, 7, kTokens);
  if (stride > 1) history.select(stride);
  history.run_in_chunks(sizes, [&](int32_t first, int32_t n, const BatchView& batch, const KvMemory& memory) {
    if (ratio != 0) history.compress(first, n, batch, memory);
    const auto offset_bytes = static_cast<uint64_t>(first * kWidth * 4);
    const TensorView rows = {history.raw.buffer, offset_bytes, DType::kU8, {n, kWidth * 4}};
    AttentionArgs args{history.query.rows(first, n), rows, history.sinks, history.layer(), {}, {}};
    if (stride > 1) args.selected = history.selected.rows(first, n);
    if (stride > 1) args.n_selected = history.n_selected.rows(first, n);
    history.ops().attention(args, batch, memory, history.out.rows(first, n));
    history.ops().window_append(rows, history.layer(), batch, memory);
  });
  for (int32_t i = 0; i < kTokens * 2 * kWidth; ++i) {
    const int32_t position = i / kWidth / 2;
    ASSERT_NEAR(static_cast<double>(history.out.f32()[i]),
                history.expected_attention(position, i / kWidth % 2, i % kWidth, stride), 1e-5)
        << "ratio " << ratio << " position " << position;
  }
}

TEST(HistoryTest, AttentionSeesTheWindowAndClosedRows) {
  for (const int32_t ratio : {0, 4, 128}) {
    for (const auto& sizes : kChunkings) expect_attention_over_history(ratio, sizes, 1);
  }
}

TEST(HistoryTest, AttentionSeesOnlySelectedRows) {
  for (const auto& sizes : kChunkings) expect_attention_over_history(4, sizes, 3);
}

TEST(GatherRowsTest, TakesTheNamedRows) {
  const auto backend = make_reference_backend(ReferenceReal::kFloat, NumericProfile::kExact);
  const BytesBuffer x(bytes_of(std::vector<float>{1, 2, 3, 4, 5, 6}));
  const BytesBuffer ids(bytes_of(std::vector<int32_t>{2, 0, 2}));
  const BytesBuffer out(std::vector<std::byte>(24));
  const TensorView result = view_of(out, DType::kF32, {3, 2});
  backend->ops().gather_rows(view_of(x, DType::kF32, {3, 2}), view_of(ids, DType::kI32, {3}), result);
  EXPECT_EQ(std::vector<float>(result.f32(), result.f32() + 6), (std::vector<float>{5, 6, 1, 2, 5, 6}));
}

}  // namespace

}  // namespace ds4::test
