// ds4-gguf imatrix and imatrix-merge on the embedded model.

#include <gtest/gtest.h>

#include "quant/imatrix.h"
#include "support/run_program.h"

namespace ds4 {
namespace {

using test::ProgramResult;
using test::run_program;
using test::temporary_path;

const std::string kModel = DS4_SOURCE_DIR "/models/ds4-mini.gguf";
const std::string kText = DS4_SOURCE_DIR "/tests/data/quality/calibration.txt";
const std::string kPrompts = DS4_SOURCE_DIR "/tests/data/quality/calibration_chat.txt";

ProgramResult ds4_gguf(const std::string& arguments) { return run_program("ds4-gguf", arguments); }

// Runs `imatrix` with these arguments and reads what it wrote.
Imatrix collect(const std::string& arguments, const std::string& path) {
  const ProgramResult result = ds4_gguf("imatrix " + kModel + " " + arguments + " -o " + path);
  EXPECT_EQ(result.exit_code, 0) << result.standard_error;
  return read_imatrix(path).take_value();
}

TEST(ImatrixProgramTest, PartsOfATextAddUpToTheWhole) {
  const std::string whole_path = temporary_path("whole.gguf");
  const std::string first_path = temporary_path("first.gguf");
  const std::string rest_path = temporary_path("rest.gguf");
  const std::string merged_path = temporary_path("merged.gguf");
  const Imatrix whole = collect("--text " + kText + " -c 32 --max-tokens 96 --save-every 1", whole_path);
  EXPECT_EQ(whole.n_chunks, 3);
  EXPECT_EQ(whole.chunk_tokens, 32);
  EXPECT_EQ(whole.datasets, std::vector<std::string>{kText});
  EXPECT_EQ(whole.find("output.weight")->counts, std::vector<double>{96});

  collect("--text " + kText + " -c 32 --max-tokens 64 --chunk 7", first_path);
  EXPECT_EQ(collect("--text " + kText + " -c 32 --max-tokens 96 --skip 2", rest_path).n_chunks, 1);
  const ProgramResult result = ds4_gguf("imatrix-merge " + merged_path + " " + first_path + " " + rest_path);
  ASSERT_EQ(result.exit_code, 0) << result.standard_error;
  EXPECT_NE(result.standard_output.find("experts never used: "), std::string::npos);
  const Imatrix merged = read_imatrix(merged_path).take_value();
  EXPECT_EQ(merged.n_chunks, 3);
  ASSERT_EQ(merged.entries.size(), whole.entries.size());
  for (size_t i = 0; i < whole.entries.size(); ++i) {
    SCOPED_TRACE(whole.entries[i].tensor);
    EXPECT_EQ(merged.entries[i].tensor, whole.entries[i].tensor);
    EXPECT_EQ(merged.entries[i].counts, whole.entries[i].counts);
    for (size_t j = 0; j < whole.entries[i].sums.size(); ++j) {
      ASSERT_NEAR(merged.entries[i].sums[j], whole.entries[i].sums[j], 1e-5 * whole.entries[i].sums[j]) << j;
    }
  }
}

TEST(ImatrixProgramTest, RenderedPromptsAreSequencesOfTheirOwn) {
  const Imatrix imatrix = collect("--text " + kPrompts + " -c 24 --format dat", temporary_path("chat.dat"));
  EXPECT_EQ(imatrix.n_chunks, 20);
  EXPECT_FALSE(imatrix.has_counts());
}

TEST(ImatrixProgramTest, ErrorsSayWhatIsWrong) {
  const auto expect_error = [](int exit_code, const std::string& arguments, const std::string& part) {
    const ProgramResult result = ds4_gguf(arguments);
    EXPECT_EQ(result.exit_code, exit_code) << arguments;
    EXPECT_NE(result.standard_error.find(part), std::string::npos) << arguments << ": " << result.standard_error;
  };
  expect_error(2, "imatrix " + kModel + " --text " + kText, "--out");
  expect_error(2, "imatrix " + kModel + " -o x", "--text");
  expect_error(2, "imatrix " + kModel + " --text " + kText + " -o x --format csv", "--format");
  expect_error(2, "imatrix " + kModel + " --text " + kText + " -o x -c 1", "--ctx");
  expect_error(2, "imatrix " + kModel + " --text " + kText + " -o x --max-tokens 40 --skip 1", "1 to skip");
  expect_error(1, "imatrix " + kModel + " --text /nowhere/t -o x", "/nowhere/t");
  expect_error(1, "imatrix " + kText + " --text " + kText + " -o x", kText);
  expect_error(1, "imatrix-merge x " + kModel, "no importance matrix");
  const std::string means = temporary_path("means.dat");
  collect("--text " + kText + " --max-tokens 8 --format dat", means);
  expect_error(2, "imatrix-merge x " + means, "means without counts");
}

}  // namespace
}  // namespace ds4
