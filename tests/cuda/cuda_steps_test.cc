// Fused steps of the CUDA backend at the shapes of Flash against the same steps spelled with its plain ops, where rows
// are many, alone, or of several sequences. Attention's step is in the table of op cases. Skipped without a device.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <random>

#include "backends/backend.h"
#include "backends/cuda/cuda_backend.h"
#include "ops/op_runner.h"
#include "ops/ops.h"

namespace ds4::test {
namespace {

constexpr int32_t kSlots = 5;
constexpr int32_t kPages = 40;  // of a slot

struct Stretch {
  int32_t slot, position, n_rows;
};

class CudaStep : public ::testing::Test {
 protected:
  void SetUp() override {
    Result<std::unique_ptr<Backend>> made = make_cuda_backend({.device = 0, .profile = NumericProfile::kCanonical});
    if (!made.ok()) GTEST_SKIP() << made.error().message;
    backend_ = made.take_value();
  }

  TensorView make(DType type, const Shape& shape) {
    TensorView view{nullptr, 0, type, shape};
    buffers_.push_back(backend_->allocate(std::max<uint64_t>(view.size_bytes(), 1)).take_value());
    view.buffer = buffers_.back().get();
    return view;
  }
  template <class T>
  TensorView place(DType type, const Shape& shape, const std::vector<T>& values) {
    const TensorView view = make(type, shape);
    backend_->upload(std::as_bytes(std::span(values)), view);
    return view;
  }
  TensorView random(const Shape& shape, float scale) {
    std::vector<float> values(TensorView{nullptr, 0, DType::kF32, shape}.elements());
    std::uniform_real_distribution<float> uniform(-scale, scale);
    for (float& value : values) value = uniform(random_);
    return place(DType::kF32, shape, values);
  }
  template <class T = std::byte>
  std::vector<T> read(const TensorView& view) {
    std::vector<T> values(view.size_bytes() / sizeof(T));
    backend_->download(view, std::as_writable_bytes(std::span(values)));
    const Result<void> finished = backend_->finish();
    EXPECT_TRUE(finished.ok()) << (finished.ok() ? "" : finished.error().message);
    return values;
  }
  TensorView copy_of(const TensorView& view) {
    const TensorView copy = make(view.type, view.shape);
    backend_->copy(view, copy);
    return copy;
  }
  // The spans of the stretches and what a batch needs of them.
  BatchView batch(const std::vector<Stretch>& stretches) {
    spans_.clear();
    std::vector<int32_t> positions;
    for (const Stretch& s : stretches) {
      spans_.push_back({s.slot, static_cast<int32_t>(positions.size()), s.n_rows, s.position});
      for (int32_t i = 0; i < s.n_rows; ++i) positions.push_back(s.position + i);
    }
    const auto n = static_cast<int32_t>(positions.size());
    const TensorView view = place(DType::kI32, {n}, positions);
    return {n, view, view, spans_};
  }
  Ops& ops() { return backend_->ops(); }

  std::unique_ptr<Backend> backend_;
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::vector<SequenceSpan> spans_;
  std::mt19937 random_{7};
};

double largest_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    const double difference = std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    largest = std::isnan(difference) ? 1e30 : std::max(largest, difference);
  }
  return largest;
}

size_t n_differing(const std::vector<std::byte>& a, const std::vector<std::byte>& b) {
  size_t n = 0;
  for (size_t i = 0; i < a.size(); ++i) n += a[i] != b[i] ? 1 : 0;
  return n;
}

TEST_F(CudaStep, SublayerInputIsItsOps) {
  constexpr int64_t kWidth = 4096;
  for (const int64_t n : {1, 2, 16, 64, 65, 130}) {
    SCOPED_TRACE(n);
    const TensorView fn = random({24, 4 * kWidth}, 0.05f);
    std::vector<uint16_t> halves;
    for (const float value : read<float>(fn)) {
      const auto half = static_cast<_Float16>(value);
      uint16_t bits = 0;
      std::memcpy(&bits, &half, sizeof(bits));
      halves.push_back(bits);
    }
    HcPreArgs pre;
    pre.streams = random({n, 4, kWidth}, 5.0f);
    const auto bytes = std::as_bytes(std::span(halves));
    buffers_.push_back(std::make_unique<BytesBuffer>(std::vector<std::byte>(bytes.begin(), bytes.end())));
    pre.fn = backend_->place_weight({buffers_.back().get(), 0, DType::kF16, {24, 4 * kWidth}}).value();
    pre.scale = random({3}, 0.5f);
    pre.base = random({24}, 1.0f);
    pre.normed_scratch = make(DType::kF32, {n, 4 * kWidth});
    pre.mix_scratch = make(DType::kF32, {n, 24});
    const SublayerInputArgs args{pre, make(DType::kF32, {n, kWidth}), random({kWidth}, 2.0f)};
    std::array<HcSplit, 2> splits;
    std::array<TensorView, 2> outs;
    for (size_t i = 0; i < 2; ++i) {
      splits[i] = {make(DType::kF32, {n, 4}), make(DType::kF32, {n, 4}), make(DType::kF32, {n, 4, 4})};
      outs[i] = make(DType::kF32, {n, kWidth});
    }
    ops().Ops::sublayer_input(args, splits[0], outs[0]);
    ops().sublayer_input(args, splits[1], outs[1]);
    // Products of 16384 terms of order one tenth, in another order and as TF32 pairs, on more than 16 rows by both.
    const double unit = n <= 16 ? 1e-6 : 4e-6;
    EXPECT_LT(largest_difference(read<float>(splits[0].pre), read<float>(splits[1].pre)), 4 * unit);
    EXPECT_LT(largest_difference(read<float>(splits[0].post), read<float>(splits[1].post)), 8 * unit);
    EXPECT_LT(largest_difference(read<float>(splits[0].comb), read<float>(splits[1].comb)), 8 * unit);
    EXPECT_LT(largest_difference(read<float>(outs[0]), read<float>(outs[1])), 30 * unit);
  }
}

// KV memory of sequences with rings full of tokens.
struct Rings {
  std::array<CompressorKv, 2> compressors;
  KvMemory memory;
};

constexpr KvRowFormat kRow{KvEncoding::kFp8, 512, 64, 584};
constexpr KvRowFormat kIndexRow{KvEncoding::kFp4, 128, 64, 68};

// Offsets of a compressor behind `frontier_end` and `page_end`, which move on.
CompressorKv place_compressor(int32_t ratio, const KvRowFormat& format, uint64_t& frontier_end, uint64_t& page_end) {
  CompressorKv c{.ratio = ratio, .n_lanes = ratio == 4 ? 2 : 1, .format = format};
  c.ring_rows = c.n_lanes * ratio;
  const uint64_t ring_bytes = uint64_t{4} * c.ring_rows * c.n_lanes * format.width;
  c.kv_ring_bytes_offset = frontier_end;
  c.score_ring_bytes_offset = frontier_end + ring_bytes;
  c.page_bytes_offset = page_end;
  frontier_end += 2 * ring_bytes;
  page_end += (static_cast<uint64_t>(kPageTokens / ratio * format.row_bytes) + 63) / 64 * 64;
  return c;
}

class CudaLatents : public CudaStep, public ::testing::WithParamInterface<int32_t> {
 protected:
  Rings rings(int32_t ratio) {
    Rings rings;
    uint64_t frontier_end = 0;
    uint64_t page_end = 0;
    rings.compressors[0] = place_compressor(ratio, kRow, frontier_end, page_end);
    rings.compressors[1] = place_compressor(4, kIndexRow, frontier_end, page_end);
    TensorView frontiers = random({kSlots, static_cast<int64_t>(frontier_end / 4)}, 2.0f);
    frontiers.type = DType::kU8;
    frontiers.shape = {kSlots, static_cast<int64_t>(frontier_end)};
    std::vector<int32_t> table(kSlots * kPages);
    for (size_t i = 0; i < table.size(); ++i) table[i] = static_cast<int32_t>(i * 7 % table.size());
    rings.memory = {frontiers, make(DType::kU8, {kSlots * kPages, static_cast<int64_t>(page_end)}),
                    place(DType::kI32, {kSlots, kPages}, table)};
    return rings;
  }
  CompressArgs compression(const CompressorKv& compressor, int64_t n_rows, const TensorView& frequencies) {
    const int64_t width = int64_t{compressor.n_lanes} * compressor.format.width;
    CompressArgs args;
    args.kv = random({n_rows, width}, 2.0f);
    args.score = random({n_rows, width}, 4.0f);
    args.ape = random({compressor.ratio, width}, 1.0f);
    args.norm = random({compressor.format.width}, 2.0f);
    args.rope = {frequencies};
    args.compressor = compressor;
    return args;
  }
};

TEST_P(CudaLatents, AreTheirOps) {
  const int32_t ratio = GetParam();
  const std::vector<std::vector<Stretch>> batches = {{{1, 0, 1}},     {{2, 3, 1}},
                                                     {{2, 127, 1}},   {{0, 126, 9}},
                                                     {{3, 255, 2}},   {{1, 2047, 1}, {0, 3, 1}, {4, 130, 5}},
                                                     {{1, 100, 200}}, {{4, 8, 1}, {2, 120, 70}}};
  for (const std::vector<Stretch>& stretches : batches) {
    SCOPED_TRACE(::testing::Message() << "position " << stretches[0].position << ", " << stretches[0].n_rows
                                      << " rows");
    const BatchView batch = this->batch(stretches);
    Rings first = rings(ratio);
    Rings second = first;
    second.memory.frontiers = copy_of(first.memory.frontiers);
    second.memory.pages = copy_of(first.memory.pages);
    const TensorView frequencies = random({32}, 0.5f);
    const std::vector<CompressArgs> compressions = {compression(first.compressors[0], batch.n_rows, frequencies),
                                                    compression(first.compressors[1], batch.n_rows, frequencies)};
    LatentArgs args;
    args.q_lora = random({batch.n_rows, 1024}, 2.0f);
    args.q_norm = random({1024}, 2.0f);
    args.kv = random({batch.n_rows, 512}, 2.0f);
    args.kv_norm = random({512}, 2.0f);
    args.rope = {frequencies};
    args.window_format = kRow;
    args.window_rows = make(DType::kU8, {batch.n_rows, kRow.row_bytes});
    args.compressions = std::span(compressions).first(ratio == 4 ? 2 : 1);
    LatentArgs again = args;
    again.q_lora = copy_of(args.q_lora);
    again.kv = copy_of(args.kv);
    again.window_rows = make(DType::kU8, {batch.n_rows, kRow.row_bytes});
    ops().Ops::latents(args, batch, first.memory);
    ops().latents(again, batch, second.memory);
    EXPECT_LT(largest_difference(read<float>(args.q_lora), read<float>(again.q_lora)), 1e-5);
    EXPECT_LT(largest_difference(read<float>(args.kv), read<float>(again.kv)), 1e-5);
    // A value next to the edge between two codes may take the other.
    EXPECT_LE(n_differing(read(args.window_rows), read(again.window_rows)), 1 + batch.n_rows / 4);
    EXPECT_EQ(n_differing(read(first.memory.frontiers), read(second.memory.frontiers)), 0);
    EXPECT_LE(n_differing(read(first.memory.pages), read(second.memory.pages)), 4 + batch.n_rows);
  }
}

INSTANTIATE_TEST_SUITE_P(Ratio, CudaLatents, ::testing::Values(4, 128));

}  // namespace
}  // namespace ds4::test
