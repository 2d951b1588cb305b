#include "model/synthetic_weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "backends/host_backend.h"
#include "gguf/dequantize.h"
#include "gguf/weight_source.h"
#include "model/model.h"
#include "model/weight_table.h"
#include "quant/recipe.h"
#include "support/temporary_path.h"

namespace ds4 {
namespace {

struct Description {
  Hyperparams hyperparams;
  SyntheticFile file;
};

Description describe(std::string_view shape, std::string_view recipe) {
  Description made{synthetic_hyperparams(named_synthetic_shape(shape).take_value()).take_value(), {}};
  made.file.types = plan_types(expected_tensors(made.hyperparams), *find_recipe(recipe).value(), {}).take_value().types;
  made.file.metadata.set_string("general.name", "made");
  return made;
}

std::unique_ptr<GgufFile> make(std::string_view shape, std::string_view recipe, Backend& backend, int n_threads) {
  const Description description = describe(shape, recipe);
  ThreadPool threads(n_threads);
  auto file = make_synthetic_file(description.hyperparams, description.file, backend, threads);
  EXPECT_TRUE(file.ok()) << file.error().message;
  return file.take_value();
}

std::span<const std::byte> bytes_of(const GgufFile& file, const TensorInfo& tensor) {
  return {file.view(tensor).data<std::byte>(), tensor.size_bytes};
}

TEST(SyntheticShapeTest, LayersAreTheFirstOfThePublishedModel) {
  const SyntheticShape whole = named_synthetic_shape("flash").take_value();
  ASSERT_EQ(whole.ratios.size(), 43U);
  EXPECT_EQ(std::count(whole.ratios.begin(), whole.ratios.end(), 4), 21);
  EXPECT_EQ(std::count(whole.ratios.begin(), whole.ratios.end(), 128), 20);
  EXPECT_EQ(named_synthetic_shape("flash:4").value().ratios, (std::vector<int32_t>{0, 0, 4, 128}));
  EXPECT_EQ(named_synthetic_shape("flash:2").value().hash, 2);
  EXPECT_EQ(named_synthetic_shape("mini").value().ratios.size(), 8U);
}

TEST(SyntheticShapeTest, OtherNamesAreRefused) {
  for (const char* name : {"", "flash:", "flash:0", "flash:44", "flash:1x", "mini:9", "pro", "flashy", "flash:-1"}) {
    const auto shape = named_synthetic_shape(name);
    ASSERT_FALSE(shape.ok()) << name;
    EXPECT_NE(shape.error().message.find("flash:N"), std::string::npos);
  }
}

TEST(SyntheticWeightsTest, EveryTypeKeepsTheVarianceOfItsRows) {
  const auto backend = make_reference_backend(ReferenceReal::kFloat, NumericProfile::kExact);
  for (const char* recipe : {"q2", "q4", "q8", "mxfp4", "bf16"}) {
    const auto file = make("mini:4", recipe, *backend, 2);
    for (const ExpectedTensor& tensor : expected_tensors(Hyperparams::read(file->metadata()).take_value())) {
      if (tensor.spec->use != WeightUse::kMatmul && tensor.spec->use != WeightUse::kExperts) continue;
      if (tensor.shape.elements() < 4096) continue;
      const TensorInfo& info = *file->find(tensor.name);
      std::vector<float> values(static_cast<size_t>(tensor.shape.elements()));
      dequantize_row(*info.type, bytes_of(*file, info).data(), values.data(), tensor.shape.elements());
      double squares = 0;
      for (const float value : values) squares += double{value} * value;
      const double rms =
          std::sqrt(squares / static_cast<double>(values.size()) * static_cast<double>(tensor.shape.back()));
      EXPECT_NEAR(rms, 1.0, 0.15) << recipe << " " << tensor.name << " " << dtype_name(*info.type);
    }
  }
}

TEST(SyntheticWeightsTest, BytesDoNotDependOnThreadsAndRowsOfALargeMatrixDiffer) {
  const auto backend = make_reference_backend(ReferenceReal::kFloat, NumericProfile::kExact);
  const auto one = make("mini:2", "q2", *backend, 1);
  const auto three = make("mini:2", "q2", *backend, 3);
  for (const TensorInfo& tensor : one->tensors()) {
    const auto mine = bytes_of(*one, tensor);
    EXPECT_TRUE(std::ranges::equal(mine, bytes_of(*three, *three->find(tensor.name)))) << tensor.name;
  }
  const TensorInfo& experts = *one->find("blk.1.ffn_gate_exps.weight");
  const auto bytes = bytes_of(*one, experts);
  const size_t half = bytes.size() / 2;
  EXPECT_FALSE(std::ranges::equal(bytes.first(half), bytes.subspan(half)));
}

// What `backend` reads of a weight of the model.
std::vector<std::byte> placed_bytes(const TensorView& view, Backend& backend) {
  std::vector<std::byte> bytes(view.size_bytes());
  backend.download(view, bytes);
  return bytes;
}

TEST(SyntheticWeightsTest, AGeneratorMakesTheSameBytesWhereTheyAreWanted) {
  const auto backend = make_reference_backend(ReferenceReal::kFloat, NumericProfile::kExact);
  for (const char* recipe : {"q2", "q4", "q8", "mxfp4", "bf16"}) {
    const Description description = describe("mini:4", recipe);
    auto generated = make_generated_file(description.hyperparams, description.file).take_value();
    auto whole = make("mini:4", recipe, *backend, 2);
    size_t n_generated = 0;
    for (const TensorInfo& tensor : generated->tensors())
      n_generated += generated->generator()->runs(tensor).has_value() ? 1 : 0;
    EXPECT_GT(n_generated, 20u);
    uint64_t done_bytes = 0;
    const auto made = Model::load(std::move(generated), *backend, [&](uint64_t done, uint64_t total) {
                        EXPECT_LE(done, total);
                        done_bytes = done;
                      }).take_value();
    EXPECT_GT(done_bytes, 1u << 20);
    const auto loaded = Model::load(std::move(whole), *backend).take_value();
    for (const ExpectedTensor& tensor : expected_tensors(description.hyperparams)) {
      const auto mine = placed_bytes(made->weights.view(*tensor.spec, tensor.layer), *backend);
      EXPECT_EQ(mine, placed_bytes(loaded->weights.view(*tensor.spec, tensor.layer), *backend)) << tensor.name;
    }
  }
}

TEST(SyntheticWeightsTest, AGeneratedFileIsSavedWhole) {
  const auto backend = make_reference_backend(ReferenceReal::kFloat, NumericProfile::kExact);
  const Description description = describe("mini:2", "q2");
  const auto generated = make_generated_file(description.hyperparams, description.file).take_value();
  const std::string path = test::temporary_path("generated.gguf");
  ASSERT_TRUE(save_gguf_file(*generated, path).ok());
  const auto opened = GgufFile::open(path).take_value();
  const auto whole = make("mini:2", "q2", *backend, 2);
  for (const TensorInfo& tensor : whole->tensors())
    EXPECT_TRUE(std::ranges::equal(bytes_of(*whole, tensor), bytes_of(*opened, *opened->find(tensor.name))));
  std::filesystem::remove(path);
}

TEST(SyntheticWeightsTest, SavedFileHoldsTheSameModel) {
  const auto backend = make_reference_backend(ReferenceReal::kFloat, NumericProfile::kExact);
  const auto made = make("mini:3", "q4", *backend, 2);
  const std::string path = test::temporary_path("made.gguf");
  ASSERT_TRUE(save_gguf_file(*made, path).ok());
  auto opened = GgufFile::open(path).take_value();
  ASSERT_EQ(opened->tensors().size(), made->tensors().size());
  for (const TensorInfo& tensor : made->tensors()) {
    EXPECT_TRUE(std::ranges::equal(bytes_of(*made, tensor), bytes_of(*opened, *opened->find(tensor.name))));
  }
  EXPECT_EQ(opened->metadata().get_string("general.name").value(), "made");
  EXPECT_TRUE(Model::load(std::move(opened), *backend).ok());
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace ds4
