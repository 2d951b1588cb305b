#include "model/cost.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "model/synthetic.h"
#include "model/synthetic_weights.h"
#include "model/weight_table.h"

namespace ds4 {
namespace {

Hyperparams flash() { return synthetic_hyperparams(named_synthetic_shape("flash").take_value()).take_value(); }

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

// A directory without memory: costs follow from shapes and types alone.
std::unique_ptr<GgufFile> directory(const Hyperparams& h, DType experts_in, DType experts_out) {
  std::vector<TensorInfo> tensors;
  for (const ExpectedTensor& tensor : expected_tensors(h)) {
    DType type = DType::kF16;
    if (tensor.spec->use == WeightUse::kVector) type = DType::kF32;
    if (tensor.spec->use == WeightUse::kTokenTable) type = DType::kI32;
    if (tensor.spec->use == WeightUse::kExperts) type = contains(tensor.name, "down") ? experts_out : experts_in;
    const bool is_dense = std::ranges::any_of(
        std::initializer_list<std::string_view>{"attn_q_a.w", "attn_q_b.w", "attn_kv.w", "attn_output", "shexp"},
        [&](std::string_view part) { return contains(tensor.name, part); });
    if (is_dense && !contains(tensor.name, "indexer")) type = DType::kQ8_0;
    if (tensor.name == "output.weight") type = DType::kQ8_0;
    tensors.push_back({.name = tensor.name,
                       .type = type,
                       .shape = tensor.shape,
                       .size_bytes = tensor_bytes(type, tensor.shape).value()});
  }
  return std::make_unique<GgufFile>("directory", nullptr, Metadata(), std::move(tensors));
}

// The sums of the published model at q2, in MB per decoded token.
TEST(CostTest, PublishedModelReadsWhatItsSizesSay) {
  const Hyperparams h = flash();
  const ModelCost cost = model_cost(*directory(h, DType::kIQ2_XXS, DType::kQ2_K), h);
  EXPECT_NEAR(static_cast<double>(cost.dense.bytes + cost.head.bytes) * 1e-6, 7366.9, 3.0);
  EXPECT_NEAR(static_cast<double>(cost.index_query.bytes) * 1e-6, 363.3, 0.1);
  EXPECT_NEAR(static_cast<double>(cost.expert.bytes * 6) * 1e-6, 1826.1, 0.1);
  const uint64_t macs = cost.dense.macs + cost.head.macs + cost.index_query.macs + 6 * cost.expert.macs;
  EXPECT_NEAR(static_cast<double>(macs) * 1e-9, 13.27, 0.01);
}

TEST(CostTest, AttentionCountsVisibleRowsInStoredForm) {
  const Hyperparams h = flash();
  const KvLayout layout = KvLayout::compute(h, NumericProfile::kCanonical);
  constexpr uint64_t kRow = 584;
  constexpr uint64_t kMacsPerRow = 2 * 64 * 512;
  const WeightCost first = attention_cost(h, layout, 0);
  EXPECT_EQ(first.bytes, 43 * kRow);
  EXPECT_EQ(first.macs, 43 * kMacsPerRow);
  const WeightCost at_4k = attention_cost(h, layout, 4095);
  EXPECT_EQ(at_4k.bytes, kRow * (43 * 128 + 21 * 512 + 20 * 32) + 21 * 1024 * 68);
  EXPECT_TRUE(needs_index(h, 4095));
  EXPECT_FALSE(needs_index(h, 2047));
}

TEST(CostTest, ExpectedExpertsGrowFromTheUsedToAll) {
  const Hyperparams h = flash();
  EXPECT_NEAR(expected_experts(h, 1), 6.0, 1e-9);
  EXPECT_GT(expected_experts(h, 16), 75.0);
  EXPECT_LT(expected_experts(h, 16), 96.0);
  EXPECT_NEAR(expected_experts(h, 2048), 256.0, 1e-6);
}

}  // namespace
}  // namespace ds4
