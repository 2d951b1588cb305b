// Hyper-parameters, the weight table, KV layout and rotary frequencies: known sizes and every way to be wrong.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "backends/cpu/cpu_backend.h"
#include "model/kv_layout.h"
#include "model/model_fixture.h"
#include "model/weight_table.h"

namespace ds4::test {

namespace {

using ::testing::HasSubstr;

SyntheticShape flash_shape() {
  SyntheticShape shape{.hidden = 4096,
                       .heads = 64,
                       .head_dim = 512,
                       .rope = 64,
                       .q_lora = 1024,
                       .o_groups = 8,
                       .o_lora = 1024,
                       .experts = 256,
                       .used = 6,
                       .ff = 2048,
                       .idx_heads = 64,
                       .idx_dim = 128,
                       .topk = 512,
                       .window = 128,
                       .vocab = 129280,
                       .hash = 3,
                       .ratios = {0, 0},
                       .mtp = false};
  while (shape.ratios.size() < 43) shape.ratios.push_back(shape.ratios.size() % 2 == 0 ? 4 : 128);
  return shape;
}

Metadata tiny_metadata() {
  Metadata metadata;
  synthetic_hyperparams(tiny_shape()).value().write(metadata);
  return metadata;
}

TEST(WeightTableTest, FlashHas1328TensorsAnd284BillionParameters) {
  const auto hyperparams = synthetic_hyperparams(flash_shape());
  ASSERT_TRUE(hyperparams.ok()) << hyperparams.error().message;
  double parameters = 0;
  size_t n_biases = 0;
  const auto tensors = expected_tensors(hyperparams.value());
  for (const ExpectedTensor& tensor : tensors) {
    if (tensor.spec->use != WeightUse::kTokenTable) parameters += static_cast<double>(tensor.shape.elements());
    n_biases += tensor.spec->required ? 0 : 1;
  }
  EXPECT_EQ(tensors.size(), 1328u);
  EXPECT_EQ(n_biases, 40u);
  EXPECT_NEAR(parameters / 1e9, 284.33, 0.01);
}

TEST(KvLayoutTest, FlashRowsAndPages) {
  const Hyperparams h = synthetic_hyperparams(flash_shape()).value();
  const KvLayout canonical = KvLayout::compute(h, NumericProfile::kCanonical);
  EXPECT_EQ(canonical.layers[2].window_format.row_bytes, 584);  // 448 codes, 7 scales, 64 halves, padding
  EXPECT_EQ(canonical.layers[2].indexer.format.row_bytes, 68);
  // 21 layers with 64 + 64 rows a page, 20 with 2: padded to 64 bytes a part.
  EXPECT_EQ(canonical.page_bytes / kPageTokens, 3518u);
  EXPECT_EQ(canonical.frontier_bytes, 15420416u);
}

// What a checkpoint costs beside shared pages: least where windows of both ratios are closed.
TEST(KvLayoutTest, FlashCheckpointBytes) {
  const KvLayout layout = KvLayout::compute(synthetic_hyperparams(flash_shape()).value(), NumericProfile::kCanonical);
  const auto live_bytes = [&](int32_t n_tokens) {
    uint64_t bytes = 0;
    uint64_t end = 0;
    for (const ByteRange& range : layout.live_frontier(n_tokens)) {
      EXPECT_LE(range.offset + range.size_bytes, layout.frontier_bytes);
      bytes += range.size_bytes;
      end = std::max(end, range.offset + range.size_bytes);
    }
    return bytes;
  };
  EXPECT_EQ(live_bytes(0), 0u);
  EXPECT_EQ(live_bytes(2048), 4074496u);
  EXPECT_EQ(live_bytes(2048 + 127), 15123456u);
  uint64_t sum = 0;
  for (int32_t n = 2048; n < 2048 + 128; ++n) sum += live_bytes(n);
  EXPECT_LT(sum / 128, 12'000'000u);
  // Beside shared pages; with the rows of the page that is being filled it stays below 12 MB on average.
  sum = 0;
  for (int32_t n = 2048; n < 2048 + kPageTokens; ++n) sum += layout.live_bytes(n);
  EXPECT_LT(sum / kPageTokens, 12'000'000u);
}

TEST(HyperparamsTest, WriteThenReadIsTheSame) {
  const Hyperparams h = Hyperparams::read(tiny_metadata()).value();
  EXPECT_EQ(h.n_layer, 4);
  EXPECT_EQ(h.compress_ratios, tiny_shape().ratios);
  EXPECT_EQ(h.n_nextn_layer, 0);
  SyntheticShape with_draft = tiny_shape();
  with_draft.mtp = true;
  Metadata metadata;
  synthetic_hyperparams(with_draft).value().write(metadata);
  EXPECT_EQ(metadata.get_int("deepseek4.block_count").value(), 5);
  const Hyperparams draft = Hyperparams::read(metadata).value();
  EXPECT_EQ(draft.n_layer, 4);
  EXPECT_EQ(draft.n_nextn_layer, 1);
}

TEST(HyperparamsTest, AnyIntegerWidthIsRead) {
  Metadata metadata = tiny_metadata();
  metadata.set_i32("deepseek4.embedding_length", 64);
  metadata.set_u64("deepseek4.context_length", 1048576);
  metadata.set_u64("deepseek4.rope.scaling.original_context_length", 65536);
  EXPECT_EQ(Hyperparams::read(metadata).value().n_ctx_train, 1048576);
}

// Published files announce a draft layer that another file holds: the ratio list is one longer than block_count.
TEST(HyperparamsTest, AnAnnouncedDraftLayerIsNotAStoredOne) {
  Metadata metadata = tiny_metadata();
  metadata.set_u32("deepseek4.nextn_predict_layers", 1);
  metadata.set_i32_array("deepseek4.attention.compress_ratios", std::vector<int32_t>{0, 4, 128, 4, 0});
  const Hyperparams h = Hyperparams::read(metadata).value();
  EXPECT_EQ(h.n_layer, 4);
  EXPECT_EQ(h.n_nextn_layer, 0);
}

TEST(HyperparamsTest, MissingScalingKeysMeanThePublishedModel) {
  Metadata complete = tiny_metadata();
  Metadata metadata;
  for (const MetadataEntry& entry : complete.entries()) {
    if (entry.key.find("rope.scaling") == std::string::npos) metadata.set_value(entry.key, entry.value);
  }
  const Hyperparams h = Hyperparams::read(metadata).value();
  EXPECT_EQ(h.yarn_factor, 16.0f);
  EXPECT_EQ(h.yarn_original_ctx, 65536);
}

TEST(HyperparamsTest, ReportsEveryProblemAtOnce) {
  Metadata metadata = tiny_metadata();
  metadata.set_string("general.architecture", "llama");
  metadata.set_string("deepseek4.embedding_length", "wide");
  metadata.set_u32("deepseek4.expert_used_count", 0);
  metadata.set_u32("deepseek4.expert_gating_func", 2);
  metadata.set_bool("deepseek4.expert_weights_norm", false);
  const auto read = Hyperparams::read(metadata);
  ASSERT_FALSE(read.ok());
  for (const char* part :
       {"5 problems", "general.architecture: expected \"deepseek4\", found \"llama\"", "embedding_length",
        "deepseek4.expert_used_count: expected 1 to 256, found 0", "deepseek4.expert_gating_func: expected 4, found 2",
        "deepseek4.expert_weights_norm: expected true, found false"}) {
    EXPECT_THAT(read.error().message, HasSubstr(part));
  }
}

TEST(HyperparamsTest, ReportsContradictions) {
  Metadata metadata = tiny_metadata();
  metadata.set_i32_array("deepseek4.attention.compress_ratios", std::vector<int32_t>{0, 8, 128, 4});
  metadata.set_u32("deepseek4.attention.output_group_count", 3);
  metadata.set_u32("deepseek4.attention.indexer.key_length", 48);
  const auto read = Hyperparams::read(metadata);
  ASSERT_FALSE(read.ok());
  EXPECT_THAT(read.error().message, HasSubstr("layer 1: compression ratio: expected 0, 4 or 128, found 8"));
  EXPECT_THAT(read.error().message, HasSubstr("4 heads do not divide into 3 output groups"));
  EXPECT_THAT(read.error().message, HasSubstr("indexer head width: expected a power of two from 32, found 48"));
}

TEST(RopeTest, FrequenciesOfBothLayerClasses) {
  SyntheticShape shape = tiny_shape();
  shape.head_dim = 128;
  shape.rope = 64;
  shape.idx_dim = 64;
  const LoadedModel loaded = LoadedModel::load(
      synthetic_file("rope", shape), make_cpu_backend({.threads = 1, .profile = NumericProfile::kExact}),
      {.n_slots = 1, .ctx_tokens = 16, .n_pages = 0}, {.batch_rows = 1, .logits_rows = 1});
  const float* plain = loaded.model->rope.inverse_frequencies.f32();
  EXPECT_FLOAT_EQ(plain[0], 1.0f);
  EXPECT_FLOAT_EQ(plain[16], 0.01f);
  const float* yarn = loaded.model->compressed_rope.inverse_frequencies.f32();
  EXPECT_FLOAT_EQ(yarn[15], 3.63553858e-3f);
  EXPECT_FLOAT_EQ(yarn[16], 2.265625e-3f);
  EXPECT_FLOAT_EQ(yarn[20], 2.96977778e-4f);
  EXPECT_FLOAT_EQ(yarn[24], 1.953125e-5f);
  EXPECT_FLOAT_EQ(yarn[25], 5.37231267e-6f);
  EXPECT_FLOAT_EQ(yarn[31], 5.68052904e-7f);
}

}  // namespace

}  // namespace ds4::test
