// The program ds4-gguf as a user meets it: exit codes, messages, and files that the other programs can use.

#include <gtest/gtest.h>

#include "support/run_program.h"

namespace ds4 {
namespace {

using test::ProgramResult;
using test::run_program;

const std::string kShape = DS4_SOURCE_DIR "/tests/vectors/hf/tiny.json";
const std::string kEmbeddedModel = DS4_SOURCE_DIR "/models/ds4-mini.gguf";
const std::string kCheckpoint = DS4_SOURCE_DIR "/../shared/model";

ProgramResult ds4_gguf(const std::string& arguments) { return run_program("ds4-gguf", arguments); }

std::string temporary(const std::string& name) {
  return testing::TempDir() + "ds4-gguf-" + std::to_string(getpid()) + "-" + name;
}

void expect_parts(const std::string& text, std::initializer_list<std::string_view> parts) {
  for (const std::string_view part : parts) {
    EXPECT_NE(text.find(part), std::string::npos) << "no '" << part << "' in: " << text;
  }
}

TEST(GgufProgramTest, WrongUsageNamesFlagValueAndWhatIsAccepted) {
  const auto expect_usage = [](const std::string& arguments, std::initializer_list<std::string_view> parts) {
    const ProgramResult result = ds4_gguf(arguments);
    EXPECT_EQ(result.exit_code, 2) << arguments;
    EXPECT_EQ(result.standard_output, "") << arguments;
    expect_parts(result.standard_error, parts);
  };
  expect_usage("", {"convert", "inspect", "synth"});
  expect_usage("destroy", {"destroy"});
  expect_usage("synth " + kShape, {"OUT"});
  expect_usage("synth " + kShape + " x --types q9", {"--recipe", "'q9'", "q2", "mxfp4"});
  expect_usage("synth " + kShape + " x --type blk=Q9", {"--type", "'blk=Q9'", "IQ2_XXS"});
  expect_usage("synth " + kShape + " x --type nothing=F16", {"'nothing'", "matches no tensor"});
  expect_usage("convert /nowhere x --chat-format 1999", {"--chat-format", "'1999'", "preview", "0731"});
  expect_usage("convert /nowhere x --threads 0", {"--threads", "'0'", "from 1 to"});
  expect_usage("inspect x --backend abacus", {"--backend", "'abacus'", "cpu"});
}

TEST(GgufProgramTest, WhatCannotBeReadFailsWithTheReason) {
  const auto expect_failure = [](const std::string& arguments, std::initializer_list<std::string_view> parts) {
    const ProgramResult result = ds4_gguf(arguments);
    EXPECT_EQ(result.exit_code, 1) << arguments;
    expect_parts(result.standard_error, parts);
  };
  expect_failure("inspect /nowhere/x.gguf", {"/nowhere/x.gguf", "No such file"});
  expect_failure("inspect " + kShape, {kShape});
  expect_failure("convert /nowhere x", {"/nowhere/config.json", "No such file"});
  expect_failure("synth " + std::string(DS4_SOURCE_DIR "/README.md") + " x", {"README.md", "not valid JSON"});
  expect_failure("synth " + kShape + " /nowhere/x.gguf", {"/nowhere/x.gguf"});
}

TEST(GgufProgramTest, SynthWritesAModelThatInspectAccepts) {
  const std::string path = temporary("synth.gguf");
  const ProgramResult made = ds4_gguf("synth " + kShape + " " + path + " --types stock --mtp");
  ASSERT_EQ(made.exit_code, 0) << made.standard_error;
  expect_parts(made.standard_output, {"wrote", path, "Q8_0 instead of Q2_K"});
  const ProgramResult seen = ds4_gguf("inspect " + path + " --tensors");
  EXPECT_EQ(seen.exit_code, 0) << seen.standard_error;
  expect_parts(seen.standard_output, {"deepseek4.block_count", "Q2_K", "experts gate/up", "token table",
                                      "blk.6.nextn.eh_proj.weight", "loads on cpu: yes"});
  std::filesystem::remove(path);
}

TEST(GgufProgramTest, InspectSaysWhatADeviceWouldTakeWithoutOne) {
  const ProgramResult seen = ds4_gguf("inspect " + kEmbeddedModel + " --backend cuda");
  ASSERT_EQ(seen.exit_code, 0) << seen.standard_error;
  EXPECT_NE(seen.standard_output.find("loads on cuda: yes"), std::string::npos) << seen.standard_output;
  EXPECT_NE(seen.standard_output.find("taken"), std::string::npos);
}

TEST(GgufProgramTest, InspectListsEveryReasonWhyAFileDoesNotLoad) {
  const std::string path = temporary("short.gguf");
  ASSERT_EQ(ds4_gguf("synth " + kShape + " " + path).exit_code, 0);
  std::string bytes = read_file(path, 1 << 28).value();
  for (const char* name : {"blk.3.attn_kv.weight", "blk.5.ffn_norm.weight"}) bytes[bytes.find(name)] = 'x';
  ASSERT_TRUE(atomic_write(path, std::as_bytes(std::span(bytes))).ok());
  const ProgramResult result = ds4_gguf("inspect " + path);
  EXPECT_EQ(result.exit_code, 1);
  expect_parts(result.standard_error, {"does not load on cpu: 2 problems", "blk.3.attn_kv.weight is missing",
                                       "blk.5.ffn_norm.weight is missing"});
  EXPECT_NE(result.standard_output.find("other"), std::string::npos);  // the summary comes all the same
  std::filesystem::remove(path);
}

TEST(GgufProgramTest, TheEmbeddedModelIsWhatItsCommandGives) {
  ASSERT_EQ(ds4_gguf("inspect " + kEmbeddedModel).exit_code, 0);
  if (!std::filesystem::exists(kCheckpoint)) GTEST_SKIP() << "no checkpoint beside the repository";
  const std::string path = temporary("mini.gguf");
  const ProgramResult made = ds4_gguf("convert " + kCheckpoint + " " + path +
                                      " --recipe q8_0 --type token_embd.weight=BF16 --type output.weight=BF16"
                                      " --name ds4-mini --license mit");
  ASSERT_EQ(made.exit_code, 0) << made.standard_error;
  EXPECT_TRUE(read_file(path, 1 << 28).value() == read_file(kEmbeddedModel, 1 << 28).value());
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace ds4
