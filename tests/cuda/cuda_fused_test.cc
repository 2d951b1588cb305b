// Fused steps of the CUDA backend against the composition of its own plain ops, on the model's real widths: the same
// bits. Without a device every test says so and is skipped.

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "backends/cuda/cuda_backend.h"
#include "ops/op_runner.h"

namespace ds4::test {
namespace {

class CudaFused : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    Result<std::unique_ptr<Backend>> made = make_cuda_backend({});
    if (!made.ok()) GTEST_SKIP() << made.error().message;
    backend_ = made.take_value();
  }

  // Valid blocks of random codes with scales near 2^-7.
  TensorView weight(DType type, Shape shape) {
    const DTypeInfo& info = dtype_info(type);
    std::vector<std::byte> bytes(static_cast<size_t>(tensor_bytes(type, shape).value()));
    for (size_t i = 0; i + 4 <= bytes.size(); i += 4) {
      const auto word = static_cast<uint32_t>(random_());
      std::memcpy(&bytes[i], &word, 4);
    }
    const size_t n_scales = type == DType::kQ2_K ? 2 : 1;
    const size_t first = type == DType::kQ2_K ? 80 : 0;
    for (size_t block = 0; block < bytes.size(); block += info.block_bytes) {
      for (size_t i = 0; i < n_scales * (type == DType::kF16 ? 0 : 1); ++i) {
        const auto half = static_cast<uint16_t>(0x2000u | (random_() & 0x3FFu));
        std::memcpy(&bytes[block + first + 2 * i], &half, 2);
      }
      if (type == DType::kF16) {
        const auto half = static_cast<uint16_t>(0x2000u | (random_() & 0x83FFu));
        std::memcpy(&bytes[block], &half, 2);
      }
    }
    hosts_.push_back(std::make_unique<BytesBuffer>(std::move(bytes)));
    return backend_->place_weight({hosts_.back().get(), 0, type, shape}).value();
  }
  TensorView empty(Shape shape, DType type = DType::kF32) {
    buffers_.push_back(backend_->allocate(static_cast<uint64_t>(shape.elements()) * 4).value());
    return {buffers_.back().get(), 0, type, shape};
  }
  TensorView floats(Shape shape) {
    const TensorView view = empty(shape);
    std::normal_distribution<float> normal;
    std::vector<float> values(static_cast<size_t>(shape.elements()));
    for (float& value : values) value = normal(random_);
    backend_->upload(std::as_bytes(std::span(values)), view);
    EXPECT_TRUE(backend_->finish().ok());  // before the values go
    return view;
  }
  std::vector<float> values(const TensorView& view) {
    std::vector<float> out(static_cast<size_t>(view.elements()));
    backend_->download(view, std::as_writable_bytes(std::span(out)));
    return out;
  }
  HcSplit split(int64_t rows) { return {floats({rows, 4}), floats({rows, 4}), floats({rows, 4, 4})}; }

  // Runs both on the same streams; every value of `outputs` must agree in its bits.
  template <class Fused, class Composed>
  void compare(const TensorView& streams, const std::vector<TensorView>& outputs, const Fused& fused,
               const Composed& composed) {
    const TensorView before = floats(streams.shape);
    std::vector<std::vector<float>> results[2];
    for (int pass = 0; pass < 2; ++pass) {
      backend_->copy(before, streams);
      pass == 0 ? fused() : composed();
      const Result<void> finished = backend_->finish();
      ASSERT_TRUE(finished.ok()) << finished.error().message;
      for (const TensorView& view : outputs) results[pass].push_back(values(view));
      results[pass].push_back(values(streams));
    }
    for (size_t i = 0; i < results[0].size(); ++i) {
      const size_t n_bytes = results[0][i].size() * sizeof(float);
      EXPECT_EQ(std::memcmp(results[0][i].data(), results[1][i].data(), n_bytes), 0) << "output " << i;
      for (const float value : results[0][i]) ASSERT_TRUE(std::isfinite(value)) << "output " << i;
    }
  }

  std::mt19937 random_{7};
  std::unique_ptr<Backend> backend_;
  std::vector<std::unique_ptr<Buffer>> hosts_, buffers_;
};

TEST_P(CudaFused, Project) {
  const int64_t rows = GetParam();
  const TensorView x = floats({rows, 4096});
  std::vector<Product> products;
  for (const int64_t n_out : {1024, 512})
    products.push_back({weight(DType::kQ8_0, {n_out, 4096}), empty({rows, n_out})});
  for (const int64_t n_out : {1024, 256, 64})
    products.push_back({weight(DType::kF16, {n_out, 4096}), empty({rows, n_out})});
  std::vector<TensorView> outputs;
  for (const Product& product : products) outputs.push_back(product.out);
  Ops& ops = backend_->ops();
  compare(empty({rows, 4}), outputs, [&] { ops.project(x, products); }, [&] { ops.Ops::project(x, products); });
}

TEST_P(CudaFused, Queries) {
  const int64_t rows = GetParam();
  std::vector<int32_t> positions(static_cast<size_t>(rows));
  for (int32_t& position : positions) position = static_cast<int32_t>(random_() % 100000);
  BatchView batch;
  batch.n_rows = static_cast<int32_t>(rows);
  batch.positions = empty({rows}, DType::kI32);
  backend_->upload(std::as_bytes(std::span(positions)), batch.positions);
  QueryArgs args{.x = floats({rows, 1024}),
                 .weight = weight(DType::kQ8_0, {32768, 1024}),
                 .query = empty({rows, 64, 512}),
                 .index_weight = weight(DType::kF16, {8192, 1024}),
                 .index_query = empty({rows, 64, 128}),
                 .rope = {floats({32})},
                 .rms_epsilon = 1e-6f};
  Ops& ops = backend_->ops();
  compare(
      empty({rows, 4}), {args.query, args.index_query}, [&] { ops.queries(args, batch); },
      [&] { ops.Ops::queries(args, batch); });
}

TEST_P(CudaFused, AttentionOutput) {
  const int64_t rows = GetParam();
  const AttentionOutputArgs args{.heads = floats({rows, 32768}),
                                 .a = weight(DType::kQ8_0, {8192, 4096}),
                                 .n_groups = 8,
                                 .lora = empty({rows, 8192}),
                                 .b = weight(DType::kQ8_0, {4096, 8192}),
                                 .y = empty({rows, 4096}),
                                 .steer = {}};
  const HcSplit hc = split(rows);
  const TensorView streams = empty({rows, 4, 4096});
  Ops& ops = backend_->ops();
  compare(
      streams, {args.lora, args.y}, [&] { ops.attention_output(args, hc, streams); },
      [&] { ops.Ops::attention_output(args, hc, streams); });
}

TEST_P(CudaFused, Ffn) {
  const int64_t rows = GetParam();
  constexpr int64_t kD = 4096, kF = 2048, kE = 16, kUsed = 6;
  const TensorView x = floats({rows, kD});
  FfnArgs args{.x = x,
               .router_weight = weight(DType::kF16, {kE, kD}),
               .router = {},
               .experts = {},
               .shared = {},
               .shared_out = empty({rows, kD}),
               .y = empty({rows, kD}),
               .steer = {}};
  args.router.logits = empty({rows, kE});
  args.router.bias = floats({kE});
  args.router.weights_scale = 1.5f;
  args.experts = {.x = x,
                  .gate = weight(DType::kIQ2_XXS, {kE, kF, kD}),
                  .up = weight(DType::kIQ2_XXS, {kE, kF, kD}),
                  .down = weight(DType::kQ2_K, {kE, kD, kF}),
                  .ids = empty({rows, kUsed}, DType::kI32),
                  .weights = empty({rows, kUsed}),
                  .clamp = 7.0f,
                  .mid = empty({rows, kUsed, kF})};
  args.shared = {.x = x,
                 .gate = weight(DType::kQ8_0, {kF, kD}),
                 .up = weight(DType::kQ8_0, {kF, kD}),
                 .down = weight(DType::kQ8_0, {kD, kF}),
                 .clamp = 7.0f,
                 .gate_scratch = empty({rows, kF}),
                 .up_scratch = empty({rows, kF})};
  const HcSplit hc = split(rows);
  const TensorView streams = empty({rows, 4, kD});
  Ops& ops = backend_->ops();
  compare(
      streams, {args.router.logits, args.experts.weights, args.experts.mid}, [&] { ops.ffn(args, hc, streams); },
      [&] { ops.Ops::ffn(args, hc, streams); });
}

INSTANTIATE_TEST_SUITE_P(Rows, CudaFused, ::testing::Values(1, 2, 3, 5, 16, 20));

}  // namespace
}  // namespace ds4::test
