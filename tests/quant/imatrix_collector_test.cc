#include "quant/imatrix_collector.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <set>

#include "backends/backend_with_ops.h"
#include "backends/cpu/cpu_backend.h"
#include "backends/host_backend.h"
#include "model/forward.h"
#include "model/weight_table.h"
#include "quant/quant_support.h"

namespace ds4 {
namespace {

using testing::ElementsAre;

class ImatrixCollectorTest : public testing::Test {
 protected:
  void SetUp() override {
    const Hyperparams hyperparams = synthetic_hyperparams(small_shape()).take_value();
    ASSERT_TRUE(write_synthetic_model(hyperparams, {}, folder_.path("m.gguf")).ok());
    model_ = Model::load(GgufFile::open(folder_.path("m.gguf")).take_value(), *backend_).take_value();
  }

  // Memory of that shape; the values repeat when they are too few.
  TensorView floats(const Shape& shape, const std::vector<float>& values) {
    const TensorView view = place(DType::kF32, shape);
    for (int64_t i = 0; i < view.elements(); ++i) view.f32()[i] = values[static_cast<size_t>(i) % values.size()];
    return view;
  }
  TensorView ints(const Shape& shape, const std::vector<int32_t>& values) {
    const TensorView view = place(DType::kI32, shape);
    std::ranges::copy(values, view.i32());
    return view;
  }
  TensorView place(DType type, const Shape& shape) {
    memory_.push_back(backend_->allocate(static_cast<uint64_t>(shape.elements()) * 4).take_value());
    return {memory_.back().get(), 0, type, shape};
  }
  const LayerWeights& layer(size_t i) const { return model_->weights.layers[i]; }
  std::vector<float> run(Backend& backend, std::span<const int32_t> tokens) {
    const auto cache = KvCache::create(*backend_, model_->hyperparams, {.n_slots = 1, .ctx_tokens = 64}).take_value();
    const auto forward =
        ForwardPass::create(backend, *model_, *cache, {.batch_rows = 64, .logits_rows = 64}).take_value();
    KvState kv = cache->new_sequence().take_value();
    const SequenceInput input{&kv, tokens, LogitsWanted::kAll};
    const std::span<const float> logits = forward->run({&input, 1}).take_value();
    return {logits.begin(), logits.end()};
  }

  ScratchFolder folder_;
  std::unique_ptr<Backend> backend_ = make_cpu_backend({.threads = 1});
  std::unique_ptr<Model> model_;
  std::vector<std::unique_ptr<Buffer>> memory_;
};

TEST_F(ImatrixCollectorTest, AddsUpTheSquaresOfAMatrixInput) {
  ImatrixCollector collector(*backend_, *model_);
  const TensorView out = floats({2, 32}, {0});
  collector.matmul(layer(0).attn_kv, floats({2, 64}, {1, -2}), out);
  collector.matmul(layer(0).attn_kv, floats({1, 64}, {3}), out.rows(0, 1));
  collector.matmul(layer(0).attn_kv, floats({0, 64}, {1}), out.rows(0, 0));
  const Imatrix imatrix = collector.statistics().take_value();
  ASSERT_EQ(imatrix.entries.size(), 1u);
  EXPECT_EQ(imatrix.entries[0].tensor, "blk.0.attn_kv.weight");
  EXPECT_THAT(imatrix.entries[0].counts, ElementsAre(3));
  ASSERT_EQ(imatrix.entries[0].sums.size(), 64u);
  EXPECT_EQ(imatrix.entries[0].sums[0], 2 * 1 + 9);
  EXPECT_EQ(imatrix.entries[0].sums[63], 2 * 4 + 9);
}

TEST_F(ImatrixCollectorTest, KeepsGroupsApart) {
  ImatrixCollector collector(*backend_, *model_);
  TensorView x = floats({2, 128}, {1});
  for (int64_t i = 0; i < 256; ++i) x.f32()[i] = i % 128 < 64 ? 2.0f : 5.0f;
  collector.matmul_grouped(layer(1).attn_output_a, x, 2, floats({2, 64}, {0}));
  const Imatrix imatrix = collector.statistics().take_value();
  const ImatrixEntry& entry = *imatrix.find("blk.1.attn_output_a.weight");
  EXPECT_THAT(entry.counts, ElementsAre(2, 2));
  EXPECT_EQ(entry.sums[0], 8);
  EXPECT_EQ(entry.sums[64], 50);
}

TEST_F(ImatrixCollectorTest, CountsExpertsAndTakesTheRoutedProductForDown) {
  ImatrixCollector collector(*backend_, *model_);
  const TensorView x = floats({3, 64}, {0.5f, -1, 2, 0.25f, 3});
  const TensorView ids = ints({3, 2}, {1, 4, 4, 0, 1, 4});
  const TensorView weights = floats({3, 2}, {0.5f, 2, 1.5f});
  const LayerWeights& w = layer(2);
  ExpertsArgs args{x, w.ffn_gate_exps, w.ffn_up_exps, w.ffn_down_exps, ids, weights, 10.0f};
  collector.experts(args, floats({3, 64}, {0}));
  args.mid = floats({3, 2, 32}, {0});
  make_reference_backend(ReferenceReal::kDouble, backend_->profile())->ops().experts(args, floats({3, 64}, {0}));

  const Imatrix imatrix = collector.statistics().take_value();
  const std::vector<std::vector<int>> slots_of_expert = {{3}, {0, 4}, {}, {}, {1, 2, 5}, {}, {}, {}};
  for (size_t expert = 0; expert < 8; ++expert) {
    double gate = 0;
    double down = 0;
    for (const int slot : slots_of_expert[expert]) {
      gate += std::pow(x.f32()[slot / 2 * 64 + 7], 2);
      down += std::pow(args.mid.f32()[slot * 32 + 7], 2);
    }
    for (const char* name : {"blk.2.ffn_gate_exps.weight", "blk.2.ffn_up_exps.weight", "blk.2.ffn_down_exps.weight"}) {
      EXPECT_EQ(imatrix.find(name)->counts[expert], static_cast<double>(slots_of_expert[expert].size())) << name;
    }
    EXPECT_FLOAT_EQ(imatrix.find("blk.2.ffn_gate_exps.weight")->sums[expert * 64 + 7], static_cast<float>(gate));
    EXPECT_FLOAT_EQ(imatrix.find("blk.2.ffn_up_exps.weight")->sums[expert * 64 + 7], static_cast<float>(gate));
    EXPECT_NEAR(imatrix.find("blk.2.ffn_down_exps.weight")->sums[expert * 32 + 7], down, 1e-5 * down);
  }
}

TEST_F(ImatrixCollectorTest, NotFiniteInputsAreReported) {
  ImatrixCollector collector(*backend_, *model_);
  collector.matmul(layer(0).attn_kv, floats({1, 64}, {1, NAN}), floats({1, 32}, {0}));
  const auto statistics = collector.statistics();
  ASSERT_FALSE(statistics.ok());
  EXPECT_THAT(statistics.error().message, testing::HasSubstr("blk.0.attn_kv.weight"));
}

TEST_F(ImatrixCollectorTest, AStepReachesEveryMatrixOfTheModelAndGivesTheSameLogits) {
  ImatrixCollector collector(*backend_, *model_);
  BackendWithOps watched(*backend_, collector);
  std::vector<int32_t> tokens(40);
  std::iota(tokens.begin(), tokens.end(), 10);
  const std::vector<float> logits = run(watched, tokens);
  const std::vector<float> plain = run(*backend_, tokens);
  ASSERT_EQ(logits.size(), plain.size());
  for (size_t i = 0; i < logits.size(); ++i) ASSERT_NEAR(logits[i], plain[i], 1e-4) << i;

  const Imatrix imatrix = collector.statistics().take_value();
  size_t n_matrices = 0;
  for (const ExpectedTensor& expected : expected_tensors(model_->hyperparams)) {
    const WeightUse use = expected.spec->use;
    if (use != WeightUse::kMatmul && use != WeightUse::kGroupedMatmul && use != WeightUse::kExperts) continue;
    ++n_matrices;
    SCOPED_TRACE(expected.name);
    const ImatrixEntry* entry = imatrix.find(expected.name);
    ASSERT_NE(entry, nullptr);
    EXPECT_TRUE(imatrix.importance(expected.name, expected.shape).ok());
    const double count = std::accumulate(entry->counts.begin(), entry->counts.end(), 0.0);
    EXPECT_EQ(count, 40.0 * (use == WeightUse::kMatmul ? 1 : 2));  // two groups, two experts per token
  }
  EXPECT_EQ(imatrix.entries.size(), n_matrices);
}

}  // namespace
}  // namespace ds4
