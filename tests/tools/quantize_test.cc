// ds4-gguf quantize as a user meets it.

#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "gguf/reader.h"
#include "support/run_program.h"

namespace ds4 {
namespace {

using test::ProgramResult;
using test::run_program;
using test::temporary_path;

const std::string kShape = DS4_SOURCE_DIR "/tests/vectors/hf/tiny.json";
const std::string kCheckpoint = DS4_SOURCE_DIR "/../shared/model";

ProgramResult quantize(const std::string& arguments) { return run_program("ds4-gguf", "quantize " + arguments); }

void expect_parts(const std::string& text, std::initializer_list<std::string_view> parts) {
  for (const std::string_view part : parts) {
    EXPECT_NE(text.find(part), std::string::npos) << "no '" << part << "' in: " << text;
  }
}

// The trained model where it lies beside the repository, else a synthetic one.
std::string source_path() {
  if (std::filesystem::exists(kCheckpoint)) return kCheckpoint;
  const std::string path = temporary_path("quantize-source.gguf");
  EXPECT_EQ(run_program("ds4-gguf", "synth " + kShape + " " + path).exit_code, 0);
  return path;
}

TEST(QuantizeProgramTest, WrongUsageNamesFlagValueAndWhatIsAccepted) {
  const auto expect_usage = [](const std::string& arguments, std::initializer_list<std::string_view> parts) {
    const ProgramResult result = quantize(arguments);
    EXPECT_EQ(result.exit_code, 2) << arguments;
    EXPECT_EQ(result.standard_output, "") << arguments;
    expect_parts(result.standard_error, parts);
  };
  expect_usage("x", {"OUT"});
  expect_usage("x y --recipe q9", {"--recipe", "'q9'", "mixed", "dense4"});
  expect_usage("x y --layers 5-3=Q4_K", {"--layers", "'5-3=Q4_K'", "0-3,40=Q4_K"});
  expect_usage("x y --no-mtp", {"--no-mtp", "folder", "'x'"});
  expect_usage("x y --chat-format 1999", {"--chat-format", "'1999'"});
  expect_usage(source_path() + " y --layers 77=Q4_K --dry-run", {"blk.77.", "matches no tensor"});
}

TEST(QuantizeProgramTest, WhatCannotBeReadFailsWithTheReason) {
  const auto expect_failure = [](const std::string& arguments, std::initializer_list<std::string_view> parts) {
    const ProgramResult result = quantize(arguments);
    EXPECT_EQ(result.exit_code, 1) << arguments;
    expect_parts(result.standard_error, parts);
  };
  expect_failure("/nowhere/x.gguf y", {"/nowhere/x.gguf", "No such file"});
  expect_failure(std::string(DS4_SOURCE_DIR) + " y", {"config.json", "No such file"});
  expect_failure(kShape + " y", {kShape});
  expect_failure(source_path() + " y --dry-run --imatrix /nowhere/i", {"/nowhere/i", "No such file"});
  expect_failure(source_path() + " y --dry-run --imatrix " + kShape, {kShape});
  expect_failure(source_path() + " /nowhere/y", {"/nowhere/y.partial"});
}

TEST(QuantizeProgramTest, ADryRunShowsThePlanAndWritesNothing) {
  const std::string out = temporary_path("quantize-dry.gguf");
  const ProgramResult result = quantize(source_path() + " " + out + " --recipe mixed --dry-run --tensors");
  EXPECT_EQ(result.exit_code, 0) << result.standard_error;
  expect_parts(result.standard_output, {"experts gate/up", "blk.0.ffn_down_exps.weight", "total", "would write"});
  for (const char* suffix : {"", ".partial", ".partial.journal"}) EXPECT_FALSE(file_exists(out + suffix));
}

TEST(QuantizeProgramTest, TheFileLoadsAndSaysHowItWasMade) {
  const std::string out = temporary_path("quantize-out.gguf");
  const std::string report_path = temporary_path("quantize-report.json");
  const ProgramResult made = quantize(source_path() + " " + out +
                                      " --recipe q2 --layers 0=Q4_K --type output.weight=F16 --report " + report_path);
  ASSERT_EQ(made.exit_code, 0) << made.standard_error;
  expect_parts(made.standard_output, {"error, weighted", "total", "wrote " + out});
  EXPECT_EQ(run_program("ds4-gguf", "inspect " + out).exit_code, 0);

  const auto file = GgufFile::open(out).take_value();
  const Metadata& metadata = file->metadata();
  EXPECT_EQ(metadata.get_string("quantize.recipe").value(), "q2");
  EXPECT_EQ(metadata.get_string_array("quantize.overrides").value(),
            (std::vector<std::string_view>{"layers 0=Q4_K", "type output.weight=F16"}));
  EXPECT_EQ(metadata.get_int("general.file_type").value(), 19);
  EXPECT_EQ(file->find("output.weight")->type, DType::kF16);

  const auto report = nlohmann::json::parse(read_file(report_path, 1 << 24).value());
  EXPECT_EQ(report["source_fingerprint"], metadata.get_string("quantize.source.fingerprint").value());
  EXPECT_EQ(report["tensors"].size(), file->tensors().size());
  for (const auto& tensor : report["tensors"]) {
    EXPECT_LT(tensor["relative_rmse"].get<double>(), 0.36) << tensor["name"];
    EXPECT_EQ(tensor["weighted_relative_rmse"], tensor["relative_rmse"]);
  }

  // Quantising it again is allowed and said.
  const ProgramResult again = quantize(out + " " + temporary_path("quantize-again.gguf") + " --recipe q2");
  EXPECT_EQ(again.exit_code, 0) << again.standard_error;
  expect_parts(again.standard_output, {"the source itself is quantised"});
}

TEST(QuantizeProgramTest, WhatAnotherRunLeftNeedsRestart) {
  const std::string out = temporary_path("quantize-left.gguf");
  ASSERT_TRUE(atomic_write(temporary_path("quantize-left.gguf.partial"), {}).ok());
  const std::string journal = "ds4-partial 1 0000000000000001\n";
  const auto bytes = std::as_bytes(std::span(journal));
  ASSERT_TRUE(atomic_write(temporary_path("quantize-left.gguf.partial.journal"), bytes).ok());
  const ProgramResult refused = quantize(source_path() + " " + out + " --recipe q4");
  EXPECT_EQ(refused.exit_code, 2);
  expect_parts(refused.standard_error, {"quantize-left.gguf.partial", "--restart"});
  EXPECT_EQ(quantize(source_path() + " " + out + " --recipe q4 --restart").exit_code, 0);
  EXPECT_FALSE(file_exists(out + ".partial"));
}

}  // namespace
}  // namespace ds4
