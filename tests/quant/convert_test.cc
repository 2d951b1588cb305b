#include "quant/convert.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "backends/cpu/cpu_backend.h"
#include "base/file.h"
#include "base/float_formats.h"
#include "gguf/dequantize.h"
#include "gguf/reader.h"
#include "model/synthetic.h"
#include "model/weights.h"
#include "quant/checkpoint_builder.h"
#include "quant/quant_support.h"

namespace ds4 {
namespace {

Hyperparams hyperparams_of(SyntheticShape shape, bool mtp) {
  shape.mtp = mtp;
  return synthetic_hyperparams(shape).value();
}

ConvertOptions options_for(std::string_view recipe) {
  ConvertOptions options;
  options.recipe = find_recipe(recipe).value();
  options.threads = 2;
  return options;
}

std::vector<float> values_of(const GgufFile& file, std::string_view name) {
  const TensorInfo* info = file.find(name);
  CHECK(info != nullptr, "{}", name);
  const TensorView view = file.view(*info);
  std::vector<float> values(static_cast<size_t>(view.elements()));
  dequantize_row(view.type, view.data<std::byte>(), values.data(), view.elements());
  return values;
}

float read_f32(const BuilderTensor& tensor, size_t i) {
  float value;
  std::memcpy(&value, tensor.bytes.data() + 4 * i, 4);
  return value;
}

float read_bf16(const BuilderTensor& tensor, size_t i) {
  uint16_t bits;
  std::memcpy(&bits, tensor.bytes.data() + 2 * i, 2);
  return bf16_to_f32(bits);
}

float read_scale(const BuilderTensor& tensor, size_t i) {
  return std::ldexp(1.0f, static_cast<int>(tensor.bytes[i]) - 127);
}

class ConvertTest : public testing::Test {
 protected:
  Result<ConvertReport> convert(const CheckpointBuilder& builder, const Hyperparams& config,
                                const ConvertOptions& options) {
    builder.write(source_.path(), 3);
    const Checkpoint checkpoint = Checkpoint::open(source_.path()).value();
    return convert_checkpoint(checkpoint, config, options, target_.path("out.gguf"));
  }
  void convert_ok(const CheckpointBuilder& builder, const Hyperparams& config, const ConvertOptions& options) {
    const auto report = convert(builder, config, options);
    ASSERT_TRUE(report.ok()) << report.error().message;
    report_ = report.value();
    auto file = GgufFile::open(target_.path("out.gguf"));
    ASSERT_TRUE(file.ok()) << file.error().message;
    file_ = file.take_value();
    const auto read = Hyperparams::read(file_->metadata());
    ASSERT_TRUE(read.ok()) << read.error().message;
    hyperparams_ = read.value();
    const auto backend = make_cpu_backend({.threads = 1});
    EXPECT_EQ(find_weight_problems(*file_, hyperparams_, *backend), std::vector<std::string>());
  }
  std::string error_of(const CheckpointBuilder& builder, const Hyperparams& config) {
    const auto report = convert(builder, config, options_for("f32"));
    EXPECT_FALSE(file_exists(target_.path("out.gguf")));
    return report.ok() ? "" : report.error().message;
  }

  ScratchFolder source_, target_;
  ConvertReport report_;
  std::unique_ptr<GgufFile> file_;
  Hyperparams hyperparams_;
};

TEST_F(ConvertTest, KeepsEveryValueOfAnUnquantisedCheckpoint) {
  const Hyperparams config = hyperparams_of(small_shape(), true);
  const CheckpointBuilder builder(config, false);
  ConvertOptions options = options_for("bf16");
  options.metadata.set_string("general.name", "test");
  convert_ok(builder, config, options);
  EXPECT_TRUE(report_.has_draft_layer);
  EXPECT_TRUE(report_.plan.fallbacks.empty());
  EXPECT_EQ(hyperparams_.n_nextn_layer, 1);
  EXPECT_EQ(file_->metadata().get_string("general.name").value(), "test");
  EXPECT_EQ(file_->metadata().get_int("deepseek4.expert_gating_func").value(), 4);

  const auto expect_equal = [&](std::string_view name, const char* native, auto read) {
    const std::vector<float> values = values_of(*file_, name);
    const BuilderTensor& source = builder.tensors.at(native);
    for (size_t i = 0; i < values.size(); ++i) ASSERT_EQ(values[i], read(source, i)) << name << " " << i;
  };
  expect_equal("token_embd.weight", "embed.weight", read_bf16);
  expect_equal("output_hc_scale.weight", "hc_head_scale", read_f32);
  expect_equal("blk.1.attn_compressor_ape.weight", "layers.1.attn.compressor.ape", read_f32);
  expect_equal("blk.1.indexer.proj.weight", "layers.1.attn.indexer.weights_proj.weight", read_bf16);
  expect_equal("blk.4.attn_output_a.weight", "mtp.0.attn.wo_a.weight", read_bf16);
  expect_equal("blk.4.nextn.shared_head_norm.weight", "mtp.0.norm.weight", read_bf16);

  // Experts lie one after the other.
  const std::vector<float> experts = values_of(*file_, "blk.2.ffn_down_exps.weight");
  const BuilderTensor& third = builder.tensors.at("layers.2.ffn.experts.3.w2.weight");
  const size_t n = experts.size() / 8;  // small_shape has eight
  for (size_t i = 0; i < n; ++i) ASSERT_EQ(experts[3 * n + i], read_bf16(third, i));

  // e_proj's columns, then h_proj's.
  const std::vector<float> fused = values_of(*file_, "blk.4.nextn.eh_proj.weight");
  const auto width = static_cast<size_t>(config.n_embd);
  for (size_t row = 0; row < width; ++row) {
    for (size_t i = 0; i < width; ++i) {
      ASSERT_EQ(fused[row * 2 * width + i], read_bf16(builder.tensors.at("mtp.0.e_proj.weight"), row * width + i));
      ASSERT_EQ(fused[(row * 2 + 1) * width + i],
                read_bf16(builder.tensors.at("mtp.0.h_proj.weight"), row * width + i));
    }
  }

  const TensorView table = file_->view(*file_->find("blk.0.ffn_gate_tid2eid.weight"));
  for (int64_t i = 0; i < table.elements(); ++i) {
    ASSERT_EQ(table.i32()[i], static_cast<int>(builder.tensors.at("layers.0.ffn.gate.tid2eid").bytes[8 * i]));
  }
}

TEST_F(ConvertTest, DequantisesFp8TilesAndFp4Blocks) {
  const Hyperparams config = hyperparams_of(wide_shape(), true);
  const CheckpointBuilder builder(config, true);
  convert_ok(builder, config, options_for("f32"));

  const std::vector<float> dense = values_of(*file_, "blk.1.attn_q_b.weight");  // [512, 256]: 4 x 2 tiles
  const BuilderTensor& fp8 = builder.tensors.at("layers.1.attn.wq_b.weight");
  const BuilderTensor& fp8_scale = builder.tensors.at("layers.1.attn.wq_b.scale");
  ASSERT_EQ(fp8_scale.shape, (std::vector<int64_t>{4, 2}));
  for (size_t i = 0; i < dense.size(); ++i) {
    const size_t tile = i / 256 / 128 * 2 + i % 256 / 128;
    ASSERT_EQ(dense[i], e4m3_to_f32(static_cast<uint8_t>(fp8.bytes[i])) * read_scale(fp8_scale, tile)) << i;
  }

  const std::vector<float> experts = values_of(*file_, "blk.1.ffn_up_exps.weight");
  const BuilderTensor& fp4 = builder.tensors.at("layers.1.ffn.experts.2.w3.weight");
  const BuilderTensor& fp4_scale = builder.tensors.at("layers.1.ffn.experts.2.w3.scale");
  const size_t n = experts.size() / 4;  // wide_shape has four
  for (size_t i = 0; i < n; ++i) {
    const auto pair = static_cast<uint8_t>(fp4.bytes[i / 2]);
    const auto code = static_cast<uint8_t>(i % 2 == 0 ? pair & 15 : pair >> 4);
    ASSERT_EQ(experts[2 * n + i], e2m1_to_f32(code) * read_scale(fp4_scale, i / 32)) << i;
  }
}

TEST_F(ConvertTest, TilesAtTheEdgeMayBePartial) {
  const Hyperparams config = hyperparams_of(small_shape(), false);  // widths of 64 and 32
  const CheckpointBuilder builder(config, true);
  convert_ok(builder, config, options_for("f32"));
  const std::vector<float> dense = values_of(*file_, "blk.1.attn_q_b.weight");  // [128, 32]
  const BuilderTensor& fp8 = builder.tensors.at("layers.1.attn.wq_b.weight");
  const float scale = read_scale(builder.tensors.at("layers.1.attn.wq_b.scale"), 0);
  for (size_t i = 0; i < dense.size(); ++i) {
    ASSERT_EQ(dense[i], e4m3_to_f32(static_cast<uint8_t>(fp8.bytes[i])) * scale);
  }
}

TEST_F(ConvertTest, Fp4BecomesMxfp4WithoutLoss) {
  const Hyperparams config = hyperparams_of(wide_shape(), false);
  const CheckpointBuilder builder(config, true);
  convert_ok(builder, config, options_for("f32"));
  const std::vector<float> exact = values_of(*file_, "blk.1.ffn_gate_exps.weight");
  convert_ok(builder, config, options_for("mxfp4"));
  const TensorInfo* info = file_->find("blk.1.ffn_gate_exps.weight");
  EXPECT_EQ(info->type, DType::kMXFP4);
  EXPECT_EQ(values_of(*file_, "blk.1.ffn_gate_exps.weight"), exact);
  // The scale byte of the first block is the checkpoint's own.
  EXPECT_EQ(*file_->view(*info).data<std::byte>(), builder.tensors.at("layers.1.ffn.experts.0.w1.scale").bytes[0]);
}

TEST_F(ConvertTest, EveryRecipeStaysCloseToTheCheckpoint) {
  SyntheticShape shape = wide_shape();
  shape.ratios = {4};
  shape.hash = 0;
  const Hyperparams config = hyperparams_of(shape, false);
  const CheckpointBuilder builder(config, false);
  convert_ok(builder, config, options_for("f32"));
  const std::unique_ptr<GgufFile> exact = std::move(file_);
  for (const Recipe& recipe : recipes()) {
    convert_ok(builder, config, options_for(recipe.name));
    for (const TensorInfo& tensor : exact->tensors()) {
      if (!is_float_type(*tensor.type)) continue;
      const std::vector<float> wanted = values_of(*exact, tensor.name);
      const std::vector<float> found = values_of(*file_, tensor.name);
      double error = 0, norm = 0;
      for (size_t i = 0; i < wanted.size(); ++i) {
        error += std::pow(wanted[i] - found[i], 2);
        norm += std::pow(wanted[i], 2);
      }
      // Uniform values in two bits: half a step of 1/3 of the range, or a little more where the grid is coarser.
      const DType type = *file_->find(tensor.name)->type;
      const bool two_bits = type == DType::kQ2_K || type == DType::kIQ2_XXS;
      const double limit = two_bits ? 0.45 : type == DType::kQ4_K || type == DType::kMXFP4 ? 0.15 : 0.01;
      EXPECT_LT(std::sqrt(error / norm), limit) << recipe.name << " " << tensor.name << " " << dtype_name(type);
    }
  }
}

TEST_F(ConvertTest, TheDraftLayerCanBeLeftOutOrBeAbsent) {
  const Hyperparams config = hyperparams_of(small_shape(), true);
  const CheckpointBuilder with(config, false);
  ConvertOptions options = options_for("bf16");
  options.with_draft_layer = false;
  convert_ok(with, config, options);
  EXPECT_FALSE(report_.has_draft_layer);
  EXPECT_EQ(hyperparams_.n_nextn_layer, 0);
  EXPECT_EQ(hyperparams_.n_layer, 4);
  EXPECT_EQ(file_->find("blk.4.attn_norm.weight"), nullptr);

  const CheckpointBuilder without(hyperparams_of(small_shape(), false), false);
  convert_ok(without, config, options_for("bf16"));
  EXPECT_FALSE(report_.has_draft_layer);
  EXPECT_EQ(hyperparams_.n_nextn_layer, 0);
}

TEST_F(ConvertTest, OptionalTensorsMayBeAbsent) {
  const Hyperparams config = hyperparams_of(small_shape(), true);
  CheckpointBuilder builder(config, false);
  builder.tensors.erase("mtp.0.norm.weight");
  builder.tensors.erase("layers.2.ffn.gate.bias");
  convert_ok(builder, config, options_for("bf16"));
  EXPECT_EQ(file_->find("blk.2.exp_probs_b.bias"), nullptr);
}

TEST_F(ConvertTest, EveryProblemIsReportedAtOnce) {
  const Hyperparams config = hyperparams_of(wide_shape(), true);
  CheckpointBuilder builder(config, true);
  auto& tensors = builder.tensors;
  tensors.erase("norm.weight");
  tensors.erase("layers.1.attn.wq_b.scale");
  tensors.erase("layers.1.ffn.experts.3.w2.weight");
  tensors.erase("mtp.0.h_proj.weight");
  tensors["surplus"] = make_tensor("F32", {3}, 1);
  tensors["layers.2.attn.wkv.weight"] = make_tensor("F8_E4M3", {256, 128}, 1);
  tensors["layers.2.attn.wq_a.scale"] = make_tensor("F32", {2, 2}, 1);
  tensors["layers.2.attn_norm.weight"] = make_tensor("I64", {256}, 1);
  tensors["layers.3.ffn.experts.0.w1.scale"] = make_tensor("F8_E8M0", {256, 4}, 1);
  tensors["layers.0.ffn.gate.tid2eid"].bytes[8] = std::byte{4};
  const std::string message = error_of(builder, config);
  for (const char* part :
       {"tensor norm.weight is missing", "tensor layers.1.attn.wq_b.scale is missing", "F8_E4M3",
        "tensor layers.1.ffn.experts.3.w2.weight is missing", "tensor mtp.0.h_proj.weight is missing",
        "tensor surplus [3] has no place", "tensor layers.2.attn.wkv.weight: expected [256, 256]",
        "found F8_E4M3 [256, 128]", "tensor layers.2.attn.wq_a.scale: expected F8_E8M0 [2, 2], found F32",
        "tensor layers.2.attn_norm.weight: expected [256] values, found I64",
        "tensor layers.3.ffn.experts.0.w1.scale: expected F8_E8M0 [256, 8]",
        "element 1: expected an expert from 0 to 3"}) {
    EXPECT_NE(message.find(part), std::string::npos) << "no '" << part << "' in\n" << message;
  }
}

TEST_F(ConvertTest, ExtraTensorsMayBeAllowed) {
  const Hyperparams config = hyperparams_of(small_shape(), false);
  CheckpointBuilder builder(config, false);
  builder.tensors["surplus"] = make_tensor("F32", {3}, 1);
  ConvertOptions options = options_for("bf16");
  options.allow_extra = true;
  convert_ok(builder, config, options);
}

TEST_F(ConvertTest, ValuesThatNoFileShouldHoldAreRefused) {
  const Hyperparams config = hyperparams_of(small_shape(), false);
  CheckpointBuilder builder(config, false);
  const float infinity = INFINITY;
  std::memcpy(builder.tensors["layers.3.attn.attn_sink"].bytes.data() + 4, &infinity, 4);
  const std::string message = error_of(builder, config);
  EXPECT_NE(message.find("blk.3.attn_sinks.weight"), std::string::npos) << message;
}

}  // namespace
}  // namespace ds4
