#include "quant/recipe.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "model/synthetic.h"
#include "quant/quant_support.h"

namespace ds4 {
namespace {

std::vector<ExpectedTensor> tensors_of(SyntheticShape shape) {
  shape.mtp = true;
  return expected_tensors(synthetic_hyperparams(shape).value());
}

std::map<std::string, DType> planned(const SyntheticShape& shape, std::string_view recipe,
                                     const std::vector<TypeOverride>& overrides = {}) {
  const auto tensors = tensors_of(shape);
  const auto plan = plan_types(tensors, *find_recipe(recipe).value(), overrides);
  EXPECT_TRUE(plan.ok()) << plan.error().message;
  std::map<std::string, DType> types;
  for (size_t i = 0; i < tensors.size(); ++i) types[tensors[i].name] = plan.value().types[i];
  return types;
}

TEST(RecipeTest, AntirezMixMatchesThePublishedFiles) {
  const auto types = planned(wide_shape(), "antirez");
  EXPECT_EQ(types.at("token_embd.weight"), DType::kF16);
  EXPECT_EQ(types.at("output.weight"), DType::kQ8_0);
  EXPECT_EQ(types.at("output_hc_fn.weight"), DType::kF16);
  EXPECT_EQ(types.at("blk.1.attn_compressor_kv.weight"), DType::kF16);
  EXPECT_EQ(types.at("blk.1.attn_compressor_ape.weight"), DType::kF16);
  EXPECT_EQ(types.at("blk.1.indexer.attn_q_b.weight"), DType::kF16);
  EXPECT_EQ(types.at("blk.1.indexer.proj.weight"), DType::kF16);
  EXPECT_EQ(types.at("blk.1.indexer_compressor_gate.weight"), DType::kF16);
  EXPECT_EQ(types.at("blk.1.ffn_gate_inp.weight"), DType::kF16);
  EXPECT_EQ(types.at("blk.1.ffn_gate_exps.weight"), DType::kIQ2_XXS);
  EXPECT_EQ(types.at("blk.1.ffn_up_exps.weight"), DType::kIQ2_XXS);
  EXPECT_EQ(types.at("blk.1.ffn_down_exps.weight"), DType::kQ2_K);
  EXPECT_EQ(types.at("blk.1.attn_output_a.weight"), DType::kQ8_0);
  EXPECT_EQ(types.at("blk.1.ffn_down_shexp.weight"), DType::kQ8_0);
  EXPECT_EQ(types.at("blk.1.attn_sinks.weight"), DType::kF32);
  EXPECT_EQ(types.at("blk.0.ffn_gate_tid2eid.weight"), DType::kI32);
  EXPECT_EQ(types.at("blk.4.nextn.eh_proj.weight"), DType::kQ8_0);
}

TEST(RecipeTest, StockMixMatchesThePublishedFiles) {
  const auto types = planned(wide_shape(), "stock");
  for (const char* name : {"token_embd.weight", "output_hc_fn.weight", "blk.1.hc_ffn_fn.weight",
                           "blk.1.attn_compressor_ape.weight", "blk.1.indexer.proj.weight"}) {
    EXPECT_EQ(types.at(name), DType::kQ8_0) << name;
  }
  EXPECT_EQ(types.at("blk.1.ffn_gate_inp.weight"), DType::kF32);
  EXPECT_EQ(types.at("blk.1.ffn_gate_exps.weight"), DType::kQ2_K);
}

TEST(RecipeTest, RowsThatAreNotWholeBlocksFallBackAndAreReported) {
  SyntheticShape shape = small_shape();
  shape.ff = 16;  // not even a Q8_0 block
  const auto tensors = tensors_of(shape);
  const auto plan = plan_types(tensors, *find_recipe("antirez").value(), {});
  ASSERT_TRUE(plan.ok());
  for (size_t i = 0; i < tensors.size(); ++i) {
    EXPECT_TRUE(tensor_bytes(plan.value().types[i], tensors[i].shape).ok()) << tensors[i].name;
  }
  const auto reported = [&](std::string_view line) {
    return std::ranges::find(plan.value().fallbacks, line) != plan.value().fallbacks.end();
  };
  EXPECT_TRUE(reported("blk.0.ffn_gate_exps.weight [8, 16, 64]: Q8_0 instead of IQ2_XXS"));
  EXPECT_TRUE(reported("blk.0.ffn_down_exps.weight [8, 64, 16]: F16 instead of Q2_K"));
}

TEST(RecipeTest, EveryRecipePlansEveryTensor) {
  for (const Recipe& recipe : recipes()) {
    const auto tensors = tensors_of(wide_shape());
    const auto plan = plan_types(tensors, recipe, {});
    ASSERT_TRUE(plan.ok()) << recipe.name;
    EXPECT_EQ(plan.value().types.size(), tensors.size());
    for (const std::string& line : plan.value().fallbacks) EXPECT_EQ(line, "") << recipe.name;
  }
}

TEST(RecipeTest, TheLastMatchingOverrideCounts) {
  const auto types = planned(wide_shape(), "f32",
                             {{"blk.*.ffn_?own_exps.weight", DType::kQ4_K}, {"blk.2.*_exps.weight", DType::kMXFP4}});
  EXPECT_EQ(types.at("blk.1.ffn_down_exps.weight"), DType::kQ4_K);
  EXPECT_EQ(types.at("blk.1.ffn_up_exps.weight"), DType::kF32);
  EXPECT_EQ(types.at("blk.2.ffn_down_exps.weight"), DType::kMXFP4);
  EXPECT_EQ(types.at("blk.2.ffn_up_exps.weight"), DType::kMXFP4);
}

TEST(RecipeTest, BadOverridesAreAllReported) {
  const std::vector<TypeOverride> overrides = {
      {"blk.9.*", DType::kF16}, {"output_norm.weight", DType::kQ2_K}, {"*tid2eid*", DType::kF16}};
  const auto plan = plan_types(tensors_of(wide_shape()), recipes()[0], overrides);
  ASSERT_FALSE(plan.ok());
  for (const char* part : {"blk.9.*", "output_norm.weight", "*tid2eid*", "3 problems"}) {
    EXPECT_NE(plan.error().message.find(part), std::string::npos) << plan.error().message;
  }
}

TEST(RecipeTest, PatternsMatchGroupsToo) {
  const auto types = planned(wide_shape(), "q4", {{"dense", DType::kQ4_K}, {"experts*", DType::kQ8_0}});
  EXPECT_EQ(types.at("blk.1.attn_q_b.weight"), DType::kQ4_K);
  EXPECT_EQ(types.at("blk.1.ffn_down_shexp.weight"), DType::kQ4_K);
  EXPECT_EQ(types.at("blk.1.ffn_down_exps.weight"), DType::kQ8_0);
  EXPECT_EQ(types.at("output.weight"), DType::kQ8_0);
  EXPECT_EQ(types.at("blk.1.attn_norm.weight"), DType::kF32);
}

TEST(RecipeTest, Dense4LeavesOutputAndSmallMatricesFine) {
  const auto types = planned(wide_shape(), "dense4");
  EXPECT_EQ(types.at("blk.1.attn_output_b.weight"), DType::kQ4_K);
  EXPECT_EQ(types.at("blk.1.ffn_up_shexp.weight"), DType::kQ4_K);
  EXPECT_EQ(types.at("output.weight"), DType::kQ8_0);
  EXPECT_EQ(types.at("blk.1.indexer.attn_q_b.weight"), DType::kF16);
}

TEST(RecipeTest, MixedIsFineInTheLastSeventhAndTheDraftLayer) {
  SyntheticShape shape = wide_shape();
  shape.ratios = std::vector<int32_t>(43, 4);
  shape.experts = 2;
  const auto types = planned(shape, "mixed");
  for (int layer = 0; layer < 44; ++layer) {
    const bool fine = layer >= 37;  // 43 is the draft layer
    EXPECT_EQ(types.at(fmt::format("blk.{}.ffn_gate_exps.weight", layer)), fine ? DType::kQ4_K : DType::kIQ2_XXS);
    EXPECT_EQ(types.at(fmt::format("blk.{}.ffn_down_exps.weight", layer)), fine ? DType::kQ4_K : DType::kQ2_K);
  }
  EXPECT_EQ(types.at("blk.40.attn_q_a.weight"), DType::kQ8_0);
  const auto few = planned(wide_shape(), "mixed");  // four layers: one of them
  EXPECT_EQ(few.at("blk.2.ffn_gate_exps.weight"), DType::kIQ2_XXS);
  EXPECT_EQ(few.at("blk.3.ffn_gate_exps.weight"), DType::kQ4_K);
}

TEST(RecipeTest, LayersAreRangesOfExperts) {
  const auto overrides = parse_layer_override("0-1,3=q4_k");
  ASSERT_TRUE(overrides.ok()) << overrides.error().message;
  const auto types = planned(wide_shape(), "q2", overrides.value());
  EXPECT_EQ(types.at("blk.0.ffn_up_exps.weight"), DType::kQ4_K);
  EXPECT_EQ(types.at("blk.1.ffn_down_exps.weight"), DType::kQ4_K);
  EXPECT_EQ(types.at("blk.2.ffn_up_exps.weight"), DType::kIQ2_XXS);
  EXPECT_EQ(types.at("blk.3.ffn_gate_exps.weight"), DType::kQ4_K);
  EXPECT_EQ(types.at("blk.3.ffn_gate_shexp.weight"), DType::kQ8_0);
  const auto beyond =
      plan_types(tensors_of(wide_shape()), *find_recipe("q2").value(), parse_layer_override("7=F16").value());
  ASSERT_FALSE(beyond.ok());
  EXPECT_NE(beyond.error().message.find("blk.7."), std::string::npos) << beyond.error().message;
  for (const char* bad : {"", "=Q4_K", "3", "3=", "3=Q9", "3-1=Q4_K", "a=Q4_K", "1,,2=Q4_K", "-1=Q4_K", "1-=Q4_K",
                          "1000=Q4_K", "1,=Q4_K", "99999999999=Q4_K"}) {
    const auto result = parse_layer_override(bad);
    ASSERT_FALSE(result.ok()) << bad;
    EXPECT_NE(result.error().message.find("0-3,40=Q4_K"), std::string::npos);
  }
}

TEST(RecipeTest, OlderNamesStayUnderstood) {
  EXPECT_EQ(find_recipe("antirez").value(), find_recipe("q2").value());
  EXPECT_EQ(find_recipe("q8_0").value(), find_recipe("q8").value());
}

TEST(RecipeTest, OverrideTextIsChecked) {
  const auto good = parse_type_override("blk.*=q8_0");
  ASSERT_TRUE(good.ok());
  EXPECT_EQ(good.value().pattern, "blk.*");
  EXPECT_EQ(good.value().type, DType::kQ8_0);
  for (const char* bad : {"", "blk.*", "=F16", "blk.*=", "blk.*=Q9", "blk.*=I32"}) {
    const auto result = parse_type_override(bad);
    ASSERT_FALSE(result.ok()) << bad;
    EXPECT_NE(result.error().message.find("IQ2_XXS"), std::string::npos);
  }
  EXPECT_FALSE(find_recipe("q9").ok());
}

}  // namespace
}  // namespace ds4
