// The trained model through our own converter, against logits and greedy continuations that an independent
// implementation computed from the checkpoint. The checkpoint lies beside the repository and is not part of it; without
// it the tests on the converted file are skipped and those on the embedded model still run.

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "model/model_fixture.h"
#include "quant/convert.h"
#include "quant/model_json.h"
#include "support/temporary_path.h"

namespace ds4::test {

namespace {

const std::string kCheckpoint = std::string(DS4_SOURCE_DIR) + "/../shared/model";

nlohmann::json read_golden(const std::string& path) { return nlohmann::json::parse(read_file(path, 1 << 26).value()); }

LoadedModel load(const std::string& path, NumericProfile profile) {
  return LoadedModel::load(path, make_backend(BackendKind::kCpu, profile),
                           {.n_slots = 1, .ctx_tokens = 2048, .n_pages = 0}, {.batch_rows = 1500, .logits_rows = 1500});
}

// At most n_tokens, ended by the end-of-sentence token.
std::vector<int32_t> continue_greedily(const LoadedModel& loaded, const std::vector<int32_t>& prompt, size_t n_tokens) {
  const int32_t n_vocab = loaded.model->hyperparams.n_vocab;
  constexpr int32_t kEnd = 1;
  KvState kv = loaded.new_sequence();
  std::vector<int32_t> output;
  std::vector<int32_t> next = prompt;
  while (output.size() < n_tokens && (output.empty() || output.back() != kEnd)) {
    const SequenceInput input{&kv, next, LogitsWanted::kLast};
    const auto logits = loaded.forward->run(std::span(&input, 1));
    CHECK(logits.ok(), "{}", logits.error().message);
    output.push_back(argmax(logits.value().data(), n_vocab));
    next = {output.back()};
  }
  return output;
}

class TrainedModelTest : public ::testing::Test {
 protected:
  void SetUp() override {
#ifdef DS4_SANITIZED
    GTEST_SKIP() << "too slow under sanitizers; tests/quant covers the same paths on small models";
#endif
    if (!std::filesystem::exists(kCheckpoint + "/golden.json")) GTEST_SKIP() << "no checkpoint beside the repository";
    golden_ = read_golden(kCheckpoint + "/golden.json");
    path_ = temporary_path("trained_bf16.gguf");
    auto checkpoint = Checkpoint::open(kCheckpoint);
    ASSERT_TRUE(checkpoint.ok()) << checkpoint.error().message;
    const auto config =
        parse_checkpoint_config(read_file(kCheckpoint + "/config.json", 1 << 20).value(), "config.json");
    ASSERT_TRUE(config.ok()) << config.error().message;
    const auto recipe = find_recipe("bf16");
    ASSERT_TRUE(recipe.ok());
    ConvertOptions options;
    options.recipe = recipe.value();
    const auto report = convert_checkpoint(checkpoint.value(), config.value(), options, path_);
    ASSERT_TRUE(report.ok()) << report.error().message;
    loaded_ = load(path_, NumericProfile::kExact);
  }

  nlohmann::json golden_;
  std::string path_;
  LoadedModel loaded_;
};

TEST_F(TrainedModelTest, ConvertedFileGivesTheGoldenLogits) {
  const std::string raw = read_file(kCheckpoint + "/golden.f32", 1 << 26).value();
  const auto n_vocab = golden_["vocab"].get<size_t>();
  for (const auto& sequence : golden_["sequences"]) {
    const auto tokens = sequence["tokens"].get<std::vector<int32_t>>();
    SCOPED_TRACE(tokens.size());
    KvState kv = loaded_.new_sequence();
    const std::vector<float> logits = loaded_.run(kv, tokens, {512});
    size_t row = 0;
    double worst = 0;
    for (const auto position : sequence["positions"].get<std::vector<size_t>>()) {
      std::vector<float> expected(n_vocab);
      std::memcpy(expected.data(), raw.data() + sequence["offset"].get<size_t>() + row++ * n_vocab * sizeof(float),
                  n_vocab * sizeof(float));
      for (size_t v = 0; v < n_vocab; ++v)
        worst = std::max(worst, std::fabs(double{logits[position * n_vocab + v]} - expected[v]));
    }
    EXPECT_LE(worst, 2e-4 * sequence["logit_rms"].get<double>());
    const auto best = sequence["argmax_all"].get<std::vector<int32_t>>();
    for (size_t i = 0; i < best.size(); ++i)
      EXPECT_EQ(argmax(logits.data() + i * n_vocab, static_cast<int32_t>(n_vocab)), best[i]) << i;
  }
}

TEST_F(TrainedModelTest, ConvertedFileContinuesAsTheGoldenOutputs) {
  for (const auto& golden : golden_["continuations"]) {
    const auto expected = golden["output_ids"].get<std::vector<int32_t>>();
    EXPECT_EQ(continue_greedily(loaded_, golden["prompt_ids"].get<std::vector<int32_t>>(), expected.size()), expected)
        << golden["prompt"].get<std::string>();
  }
}

}  // namespace

}  // namespace ds4::test
