#include "quant/quantize_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>

#include "base/file.h"
#include "base/rng.h"
#include "gguf/dequantize.h"
#include "gguf/reader.h"
#include "quant/checkpoint_builder.h"
#include "quant/checkpoint_source.h"
#include "quant/gguf_source.h"
#include "quant/quant_support.h"

namespace ds4 {
namespace {

using testing::HasSubstr;

class QuantizeModelTest : public testing::Test {
 protected:
  void SetUp() override {
    SyntheticShape shape = wide_shape();
    shape.ratios = {0, 4};
    shape.mtp = true;
    config_ = synthetic_hyperparams(shape).value();
    CheckpointBuilder(config_, false).write(folder_.path(), 1);
    checkpoint_ = std::make_unique<Checkpoint>(Checkpoint::open(folder_.path()).take_value());
    source_ = open_checkpoint_source(*checkpoint_, config_, {}).take_value().model;
  }

  static QuantizeOptions options_for(std::string_view recipe, int threads = 2) {
    QuantizeOptions options;
    options.recipe = find_recipe(recipe).value();
    options.threads = threads;
    return options;
  }
  std::string out() const { return folder_.path("out.gguf"); }
  std::string bytes_of(const std::string& path) const { return read_file(path, 1 << 28).value(); }
  std::string quantized(const QuantizeOptions& options) {
    const auto report = quantize_model(*source_, options, out());
    EXPECT_TRUE(report.ok()) << report.error().message;
    if (report.ok()) report_ = report.value();
    return report.ok() ? bytes_of(out()) : "";
  }

  // A run of its own process that dies as soon as so many elements are done.
  void run_until_killed(const QuantizeOptions& options, int64_t n_elements) const {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      QuantizeOptions dying = options;
      dying.progress = [n_elements](const QuantizeProgress& progress) {
        if (progress.done_elements >= n_elements) ::raise(SIGKILL);
      };
      static_cast<void>(quantize_model(*source_, dying, out()));
      ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    ASSERT_FALSE(file_exists(out()));
  }

  // Importance of every expert tensor, different for each expert.
  Imatrix expert_importance() const {
    Imatrix imatrix;
    for (const ExpectedTensor& tensor : source_->tensors()) {
      if (tensor.spec->use != WeightUse::kExperts) continue;
      ImatrixEntry entry{tensor.name, {}, std::vector<double>(static_cast<size_t>(tensor.shape[0]), 3.0)};
      Xorshift64Star random(fnv1a64(tensor.name));
      for (int64_t i = 0; i < tensor.shape[0] * tensor.shape.back(); ++i) {
        entry.sums.push_back(std::exp(6.0f * random.next_unit()));
      }
      imatrix.entries.push_back(std::move(entry));
    }
    imatrix.datasets = {"text"};
    return imatrix;
  }

  ScratchFolder folder_;
  Hyperparams config_;
  std::unique_ptr<Checkpoint> checkpoint_;
  std::unique_ptr<ModelSource> source_;
  QuantizeReport report_;
};

TEST_F(QuantizeModelTest, TheNumberOfThreadsDoesNotMatter) {
  const Imatrix imatrix = expert_importance();
  QuantizeOptions options = options_for("q2", 1);
  options.imatrix = &imatrix;
  const std::string alone = quantized(options);
  const std::vector<TensorError> errors = report_.errors;
  options.threads = 5;
  EXPECT_TRUE(quantized(options) == alone);
  for (size_t i = 0; i < errors.size(); ++i) EXPECT_EQ(report_.errors[i].weighted_error, errors[i].weighted_error);
}

TEST_F(QuantizeModelTest, AnInterruptedRunEndsInTheSameFileAndReport) {
  const Imatrix imatrix = expert_importance();
  QuantizeOptions options = options_for("q2");
  options.imatrix = &imatrix;
  const std::string expected = quantized(options);
  const QuantizeReport expected_report = report_;
  int64_t n_elements = 0;
  for (const ExpectedTensor& tensor : source_->tensors()) n_elements += tensor.shape.elements();
  Xorshift64Star random(2);
  for (int round = 0; round < 4; ++round) {
    std::filesystem::remove(out());
    // Up to three deaths, each later than the one before.
    int64_t at = 0;
    for (uint64_t death = 0; death <= random.next() % 3; ++death) {
      at += static_cast<int64_t>(random.next() % static_cast<uint64_t>(n_elements - at));
      run_until_killed(options, at);
    }
    EXPECT_TRUE(quantized(options) == expected) << round;
    for (size_t i = 0; i < report_.errors.size(); ++i) {
      EXPECT_EQ(report_.errors[i].weighted_error, expected_report.errors[i].weighted_error);
      EXPECT_EQ(report_.errors[i].norm, expected_report.errors[i].norm);
    }
  }
}

TEST_F(QuantizeModelTest, CompleteTensorsAreNotQuantisedAgain) {
  QuantizeOptions options = options_for("q4");
  run_until_killed(options, INT64_C(2000000));
  size_t n_resumed = 0;
  int64_t first_elements = -1;
  options.progress = [&](const QuantizeProgress& progress) {
    n_resumed = progress.resumed_tensors;
    if (first_elements < 0) first_elements = progress.done_elements;
  };
  quantized(options);
  EXPECT_GT(n_resumed, 0u);
  EXPECT_EQ(report_.resumed_tensors, n_resumed);
  EXPECT_GT(first_elements, 0);
}

TEST_F(QuantizeModelTest, WhatAnotherRunLeftIsNotTakenOver) {
  run_until_killed(options_for("q4"), 1);
  const Imatrix imatrix = expert_importance();
  QuantizeOptions with_importance = options_for("q4");
  with_importance.imatrix = &imatrix;
  for (const QuantizeOptions& options : {options_for("q2"), with_importance}) {
    const auto report = quantize_model(*source_, options, out());
    ASSERT_FALSE(report.ok());
    EXPECT_EQ(report.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(report.error().message, HasSubstr("left by a run"));
  }
  with_importance.restart = true;
  quantized(with_importance);
}

TEST_F(QuantizeModelTest, ImportanceLowersTheErrorThatItWeighs) {
  const Imatrix imatrix = expert_importance();
  for (const char* recipe : {"q2", "q4", "mxfp4"}) {
    QuantizeOptions options = options_for(recipe);
    options.imatrix = &imatrix;
    quantized(options);
    const QuantizeReport with = report_;
    quantized(options_for(recipe));
    for (size_t i = 0; i < with.errors.size(); ++i) {
      if (!with.plan.tensors[i].has_importance) continue;
      EXPECT_LT(with.errors[i].weighted_relative_rmse(), with.errors[i].relative_rmse()) << with.plan.tensors[i].name;
      EXPECT_GT(with.errors[i].relative_rmse(), report_.errors[i].relative_rmse()) << with.plan.tensors[i].name;
    }
  }
}

TEST_F(QuantizeModelTest, ImportanceOfAnotherShapeIsRefusedBeforeAnythingIsWritten) {
  Imatrix imatrix = expert_importance();
  imatrix.entries[1].sums.pop_back();
  QuantizeOptions options = options_for("q4");
  options.imatrix = &imatrix;
  const auto report = quantize_model(*source_, options, out());
  ASSERT_FALSE(report.ok());
  EXPECT_THAT(report.error().message, HasSubstr(imatrix.entries[1].tensor));
  EXPECT_FALSE(file_exists(out() + ".partial"));
}

TEST_F(QuantizeModelTest, AGgufSourceGivesTheSameTensorsAsTheCheckpoint) {
  const std::string expected = quantized(options_for("q2"));
  const std::string exact_path = folder_.path("exact.gguf");
  ASSERT_TRUE(quantize_model(*source_, options_for("bf16"), exact_path).ok());
  const auto file = GgufFile::open(exact_path).take_value();
  source_ = open_gguf_source(*file, {}).take_value();
  EXPECT_EQ(source_->lossy_types(), "");
  EXPECT_TRUE(quantized(options_for("q2")) == expected);
  const auto small = GgufFile::open(out()).take_value();
  EXPECT_EQ(open_gguf_source(*small, {}).value()->lossy_types(), "IQ2_XXS, Q2_K, Q8_0");
}

TEST_F(QuantizeModelTest, TensorsThatKeepTheirTypeAreCopied) {
  const std::string q4_path = folder_.path("q4.gguf");
  ASSERT_TRUE(quantize_model(*source_, options_for("q4"), q4_path).ok());
  const auto file = GgufFile::open(q4_path).take_value();
  source_ = open_gguf_source(*file, {}).take_value();
  QuantizeOptions options = options_for("q4");
  options.overrides = {{"output.weight", DType::kF16}};
  quantized(options);
  const auto copy = GgufFile::open(out()).take_value();
  for (const TensorInfo& tensor : file->tensors()) {
    const TensorInfo& other = *copy->find(tensor.name);
    if (tensor.name == "output.weight") {
      EXPECT_EQ(other.type, DType::kF16);
      continue;
    }
    ASSERT_EQ(other.size_bytes, tensor.size_bytes);
    const auto* const wanted = file->view(tensor).data<std::byte>();
    EXPECT_EQ(std::memcmp(copy->view(other).data<std::byte>(), wanted, tensor.size_bytes), 0) << tensor.name;
  }
  for (size_t i = 0; i < report_.errors.size(); ++i) {
    if (report_.plan.tensors[i].type != DType::kQ4_K) continue;
    EXPECT_EQ(report_.errors[i].error, 0.0);
  }
}

TEST_F(QuantizeModelTest, ReportedErrorsAreThoseOfTheFile) {
  quantized(options_for("q2"));
  const auto file = GgufFile::open(out()).take_value();
  const std::span<const ExpectedTensor> tensors = source_->tensors();
  for (size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].spec->use == WeightUse::kTokenTable) continue;
    const TensorView view = file->view(*file->find(tensors[i].name));
    std::vector<float> found(static_cast<size_t>(view.elements())), wanted(found.size());
    dequantize_row(view.type, view.data<std::byte>(), found.data(), view.elements());
    const auto n = static_cast<size_t>(tensors[i].shape.back());
    double error = 0, norm = 0;
    for (size_t row = 0; row < wanted.size() / n; ++row) {
      source_->read_row(i, static_cast<int64_t>(row), std::span(wanted).subspan(row * n, n));
    }
    for (size_t k = 0; k < wanted.size(); ++k) {
      error += std::pow(static_cast<double>(wanted[k]) - static_cast<double>(found[k]), 2);
      norm += std::pow(static_cast<double>(wanted[k]), 2);
    }
    EXPECT_NEAR(report_.errors[i].error, error, 1e-9 * norm) << tensors[i].name;
    EXPECT_NEAR(report_.errors[i].norm, norm, 1e-9 * norm) << tensors[i].name;
  }
}

TEST_F(QuantizeModelTest, BadValuesEndTheRunAndLeaveNothing) {
  CheckpointBuilder builder(config_, false);
  std::vector<std::byte>& bytes = builder.tensors.at("layers.1.ffn.experts.2.w2.weight").bytes;
  bytes[100] = std::byte{0xC0};  // a BF16 NaN
  bytes[101] = std::byte{0x7F};
  builder.write(folder_.path(), 1);
  checkpoint_ = std::make_unique<Checkpoint>(Checkpoint::open(folder_.path()).take_value());
  source_ = open_checkpoint_source(*checkpoint_, config_, {}).take_value().model;
  const auto report = quantize_model(*source_, options_for("q2"), out());
  ASSERT_FALSE(report.ok());
  EXPECT_THAT(report.error().message, HasSubstr("blk.1.ffn_down_exps.weight"));
  for (const char* suffix : {"", ".partial", ".partial.journal"}) EXPECT_FALSE(file_exists(out() + suffix)) << suffix;
}

TEST_F(QuantizeModelTest, TheFingerprintTellsSourcesApart) {
  const uint64_t before = source_->fingerprint();
  CheckpointBuilder builder(config_, false);
  builder.write(folder_.path(), 3);
  const Checkpoint same = Checkpoint::open(folder_.path()).take_value();
  EXPECT_EQ(open_checkpoint_source(same, config_, {}).value().model->fingerprint(), before);
  builder.tensors.at("norm.weight").bytes[0] ^= std::byte{1};
  builder.write(folder_.path(), 3);
  const Checkpoint other = Checkpoint::open(folder_.path()).take_value();
  EXPECT_NE(open_checkpoint_source(other, config_, {}).value().model->fingerprint(), before);
}

TEST(GgufSourceTest, EveryProblemIsReportedAtOnce) {
  ScratchFolder folder;
  const Hyperparams config = synthetic_hyperparams(small_shape()).value();
  SyntheticFile file;
  ASSERT_TRUE(write_synthetic_model(config, file, folder.path("model.gguf")).ok());
  std::string bytes = read_file(folder.path("model.gguf"), 1 << 28).value();
  for (const char* name : {"blk.1.attn_kv.weight", "blk.2.ffn_norm.weight"}) bytes[bytes.find(name)] = 'x';
  const auto broken = GgufFile::from_bytes(std::as_bytes(std::span(bytes)), "broken.gguf").take_value();
  const auto source = open_gguf_source(*broken, {});
  ASSERT_FALSE(source.ok());
  for (const char* part : {"broken.gguf: 4 problems", "blk.1.attn_kv.weight is missing",
                           "blk.2.ffn_norm.weight is missing", "has no place in the model"}) {
    EXPECT_THAT(source.error().message, HasSubstr(part));
  }
  const auto lenient = open_gguf_source(*broken, {.allow_extra = true});
  ASSERT_FALSE(lenient.ok());
  EXPECT_THAT(lenient.error().message, HasSubstr("2 problems"));
}

}  // namespace
}  // namespace ds4
