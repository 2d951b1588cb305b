#include "model/synthetic.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "base/file.h"
#include "gguf/dequantize.h"
#include "gguf/reader.h"
#include "model/weight_table.h"
#include "quant/model_json.h"
#include "quant/quant_support.h"

namespace ds4 {
namespace {

class SyntheticVectorTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    const std::string path = std::string(DS4_SOURCE_DIR "/tests/vectors/hf/") + GetParam() + ".json";
    const auto text = read_file(path, 1 << 24);
    ASSERT_TRUE(text.ok()) << text.error().message;
    json_ = nlohmann::json::parse(text.value());
    auto shape = parse_synthetic_shape(text.value(), path);
    ASSERT_TRUE(shape.ok()) << shape.error().message;
    shape_ = shape.value();
  }

  nlohmann::json json_;
  SyntheticShape shape_;
};

TEST_P(SyntheticVectorTest, ProbesAreReproducedBitForBit) {
  for (const auto& [name, expected] : json_["probe"].items()) {
    std::vector<float> values(expected.size());
    synthetic_values(name, shape_.hidden, 0, values);
    EXPECT_EQ(values, expected.get<std::vector<float>>()) << name;
  }
}

TEST_P(SyntheticVectorTest, TokensAreReproduced) {
  EXPECT_EQ(synthetic_tokens(GetParam(), json_["n"].get<int32_t>(), shape_.vocab),
            json_["tokens"].get<std::vector<int32_t>>());
}

TEST_P(SyntheticVectorTest, ShapeGivesHyperparams) {
  const auto h = synthetic_hyperparams(shape_);
  ASSERT_TRUE(h.ok()) << h.error().message;
  EXPECT_EQ(h.value().n_layer, static_cast<int32_t>(shape_.ratios.size()));
  EXPECT_EQ(h.value().compress_ratios, shape_.ratios);
  EXPECT_EQ(h.value().n_nextn_layer, 0);
  EXPECT_EQ(h.value().expert_weights_scale, 1.5f);
}

INSTANTIATE_TEST_SUITE_P(Golden, SyntheticVectorTest, testing::Values("tiny", "mini", "pro"));

TEST(SyntheticValuesTest, PiecesEqualTheWhole) {
  std::vector<float> whole(1000);
  synthetic_values("blk.1.ffn_up_exps.weight", 8, 0, whole);
  for (size_t cut : {1u, 499u, 999u}) {
    std::vector<float> pieces(1000);
    synthetic_values("blk.1.ffn_up_exps.weight", 8, 0, std::span(pieces).first(cut));
    synthetic_values("blk.1.ffn_up_exps.weight", 8, static_cast<int64_t>(cut), std::span(pieces).subspan(cut));
    EXPECT_EQ(pieces, whole);
  }
}

TEST(SyntheticValuesTest, KindsHaveTheirOwnRange) {
  const auto range = [](std::string_view name) {
    std::vector<float> values(4096);
    synthetic_values(name, 48, 0, values);
    const auto [low, high] = std::ranges::minmax(values);
    return std::pair(low, high);
  };
  const auto expect_range = [&](std::string_view name, float low, float high) {
    EXPECT_NEAR(range(name).first, low, 0.01f) << name;
    EXPECT_NEAR(range(name).second, high, 0.01f) << name;
  };
  expect_range("output_norm.weight", 0.75f, 1.25f);
  expect_range("blk.0.hc_attn_scale.weight", 0.75f, 1.25f);
  expect_range("blk.0.hc_attn_base.weight", -0.5f, 0.5f);
  expect_range("blk.2.attn_compressor_ape.weight", -0.5f, 0.5f);
  expect_range("blk.2.attn_sinks.weight", -1.0f, 1.0f);
  expect_range("blk.4.exp_probs_b.bias", -0.1f, 0.1f);
  expect_range("token_embd.weight", -1.0f, 1.0f);
  expect_range("blk.0.attn_kv.weight", -0.25f, 0.25f);  // sqrt(3 / 48)
}

TEST(SyntheticExpertsTest, EachTokenChoosesDistinctExperts) {
  constexpr int32_t kUsed = 6;
  std::vector<int32_t> experts(512 * kUsed);
  synthetic_experts("blk.0.ffn_gate_tid2eid.weight", 16, kUsed, 0, experts);
  for (size_t token = 0; token < 512; ++token) {
    const std::set<int32_t> chosen(experts.begin() + static_cast<ptrdiff_t>(token * kUsed),
                                   experts.begin() + static_cast<ptrdiff_t>((token + 1) * kUsed));
    EXPECT_EQ(chosen.size(), size_t{kUsed});
    EXPECT_GE(*chosen.begin(), 0);
    EXPECT_LT(*chosen.rbegin(), 16);
  }
  std::vector<int32_t> later(kUsed);
  synthetic_experts("blk.0.ffn_gate_tid2eid.weight", 16, kUsed, 100, later);
  EXPECT_TRUE(std::equal(later.begin(), later.end(), experts.begin() + 100 * kUsed));
}

TEST(SyntheticModelTest, FileHoldsEveryTensorOfTheTable) {
  SyntheticShape shape = small_shape();
  shape.mtp = true;
  const Hyperparams h = synthetic_hyperparams(shape).value();
  const ScratchFolder folder;
  const std::string path = folder.path("model.gguf");
  SyntheticFile file;
  file.metadata.set_string("general.name", "small");
  const auto written = write_synthetic_model(h, file, path);
  ASSERT_TRUE(written.ok()) << written.error().message;

  const auto opened = GgufFile::open(path);
  ASSERT_TRUE(opened.ok()) << opened.error().message;
  const GgufFile& gguf = *opened.value();
  EXPECT_EQ(gguf.metadata().get_string("general.name").value(), "small");
  const auto read = Hyperparams::read(gguf.metadata());
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(read.value().n_nextn_layer, 1);
  const auto expected = expected_tensors(read.value());
  ASSERT_EQ(gguf.tensors().size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(gguf.tensors()[i].name, expected[i].name);
    EXPECT_EQ(gguf.tensors()[i].shape, expected[i].shape) << expected[i].name;
  }
  const TensorView norm = gguf.view(*gguf.find("blk.4.nextn.enorm.weight"));
  std::vector<float> values(static_cast<size_t>(norm.elements()));
  synthetic_values("blk.4.nextn.enorm.weight", norm.shape.back(), 0, values);
  EXPECT_TRUE(std::equal(values.begin(), values.end(), norm.f32()));
}

TEST(SyntheticModelTest, ImpossibleShapesAreRefusedWithEveryReason) {
  SyntheticShape shape = small_shape();
  shape.rope = 2 * shape.head_dim;
  shape.o_groups = 3;
  shape.ratios[1] = 5;
  const auto h = synthetic_hyperparams(shape);
  ASSERT_FALSE(h.ok());
  for (const char* part : {"ratio", "rotary", "output groups"}) {
    EXPECT_NE(h.error().message.find(part), std::string::npos) << h.error().message;
  }
  shape = small_shape();
  shape.experts = 12;
  const auto odd = synthetic_hyperparams(shape);
  ASSERT_FALSE(odd.ok());
  EXPECT_NE(odd.error().message.find("power of two"), std::string::npos) << odd.error().message;
}

}  // namespace
}  // namespace ds4
