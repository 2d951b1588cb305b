// The program ds4 as a user meets it: exit codes, messages, outputs. It runs on the tiny synthetic model.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "support/run_program.h"
#include "support/temporary_path.h"
#include "support/tiny_model.h"

namespace ds4 {
namespace {

using test::ProgramResult;
using test::run_program;

ProgramResult ds4(const std::string& arguments, const std::string& input = "") {
  return run_program("ds4", "-t 1 " + arguments, input);
}

ProgramResult ds4_tiny(const std::string& arguments, const std::string& input = "") {
  return ds4("-m " + test::tiny_model_path() + " --ctx 400 " + arguments, input);
}

std::string write_temporary(const std::string& name, const std::string& content) {
  const std::string path = test::temporary_path(name);
  EXPECT_TRUE(atomic_write(path, std::as_bytes(std::span(content))).ok());
  return path;
}

std::vector<float> read_floats(const std::string& path) {
  const std::string bytes = read_file(path, 1 << 26).value();
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

struct BadUsage {
  const char* arguments;
  std::vector<const char*> expected;  // parts of the message
};

// Without CUDA in the program: one line that says so. With it, but without a device: what the driver says.
TEST(CliUsageTest, CudaThatIsNotThereIsSaidInOneLine) {
#ifdef DS4_WITH_CUDA
  const ProgramResult result = ds4("--cuda --device 255 -p a");
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.standard_error.find("CUDA device"), std::string::npos) << result.standard_error;
#else
  for (const char* arguments : {"--cuda -p a", "--backend cuda -p a"}) {
    const ProgramResult result = ds4(arguments);
    EXPECT_EQ(result.exit_code, 2);
    EXPECT_NE(result.standard_error.find("built without CUDA"), std::string::npos) << result.standard_error;
    EXPECT_NE(result.standard_error.find("available: cpu"), std::string::npos) << result.standard_error;
  }
#endif
  EXPECT_EQ(std::ranges::count(ds4("--cuda --device 255 -p a").standard_error, '\n'), 1);
}

TEST(CliUsageTest, EveryBadValueIsNamedWithWhatIsAccepted) {
  const std::vector<BadUsage> cases{
      {"--temp hot", {"--temp", "a number from 0 to 100", "'hot'"}},
      {"--temp -1", {"--temp", "a number from 0 to 100", "'-1'"}},
      {"--temp nan", {"--temp", "a number from 0 to 100", "'nan'"}},
      {"--top-p 1.5", {"--top-p", "a number from 0 to 1", "'1.5'"}},
      {"--min-p 2", {"--min-p", "a number from 0 to 1", "'2'"}},
      {"--top-k 1025", {"--top-k", "an integer from 0 to 1024", "'1025'"}},
      {"--seed 0", {"--seed", "an integer from 1 to 18446744073709551615", "'0'"}},
      {"-c 0", {"--ctx", "an integer from 1", "'0'"}},
      {"--ctx 12x", {"--ctx", "an integer from 1", "'12x'"}},
      {"-t 0", {"--threads", "an integer from 1", "'0'"}},
      {"-n -3", {"--tokens", "an integer from 1", "'-3'"}},
      {"--profile fast", {"--profile", "canonical or exact", "'fast'"}},
      {"--chat-format 0801", {"--chat-format", "preview or 0731", "'0801'"}},
      {"--backend tpu", {"--backend", "expected cpu", "'tpu'"}},
      {"--backend metal", {"--backend metal", "not in this build", "available: cpu"}},
      {"--device -1", {"--device", "an integer from 0", "'-1'"}},
      {"--metal", {"--metal", "not in this build"}},
      {"--dir-steering-ffn 100.5", {"--dir-steering-ffn", "a number from -100 to 100", "'100.5'"}},
      {"--dir-steering-attn nan", {"--dir-steering-attn", "a number from -100 to 100", "'nan'"}},
      {"--dir-steering-policy now", {"--dir-steering-policy", "always, decoding, final-answer or off", "'now'"}},
      {"--dir-steering-ffn -0.5 -p a", {"ffn -0.5", "--dir-steering-file"}},
      {"--mtp head.gguf", {"--mtp", "not in this build"}},
      {"--logprobs-top-k 129", {"--logprobs-top-k", "an integer from 1 to 128", "'129'"}},
      {"--chunk 0", {"--chunk", "an integer from 1", "'0'"}},
      {"--nonsense", {"--nonsense"}},
      {"stray", {"stray"}},
      {"--temp", {"--temp"}},
      {"-p a --prompt-file b", {"--prompt and --prompt-file"}},
      {"--prompt-file /nonexistent/prompt", {"--prompt-file", "/nonexistent/prompt"}},
      {"--dump-tokens", {"--dump-tokens needs --prompt"}},
      {"--dump-logprobs f.json", {"--dump-logprobs needs --prompt"}},
      {"--dump-logits f.f32", {"--dump-logits and --token-ids"}},
      {"--token-ids f.json", {"--dump-logits and --token-ids"}},
      {"--positions f.json", {"--positions needs --dump-logits"}},
      {"-p a --dump-logits f --token-ids g", {"--dump-logits takes --token-ids"}},
      {"-p a --dump-tokens --dump-logprobs f", {"give one of them"}},
  };
  for (const BadUsage& bad : cases) {
    const ProgramResult result = ds4(bad.arguments);
    EXPECT_EQ(result.exit_code, 2) << bad.arguments;
    EXPECT_EQ(result.standard_output, "") << bad.arguments;
    EXPECT_TRUE(result.standard_error.starts_with("ds4: ")) << result.standard_error;
    EXPECT_EQ(std::count(result.standard_error.begin(), result.standard_error.end(), '\n'), 1) << result.standard_error;
    for (const char* part : bad.expected) {
      EXPECT_NE(result.standard_error.find(part), std::string::npos) << bad.arguments << ": " << result.standard_error;
    }
  }
}

TEST(CliUsageTest, HelpListsTheFlags) {
  const ProgramResult result = ds4("--help");
  EXPECT_EQ(result.exit_code, 0);
  for (const char* flag : {"--model", "--prompt", "--nothink", "--dump-logits", "--top-p"}) {
    EXPECT_NE(result.standard_output.find(flag), std::string::npos) << flag;
  }
}

TEST(CliUsageTest, LastOccurrenceWins) {
  const ProgramResult result = ds4_tiny("--temp 7 --temp 0 --think --nothink -sys a -sys '' -p x -p hi -n 1 -n 2");
  EXPECT_EQ(result.exit_code, 0) << result.standard_error;
}

TEST(CliModelTest, MissingModelIsARuntimeError) {
  const ProgramResult result = ds4("-m /nonexistent/model.gguf -p hi");
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.standard_error.find("/nonexistent/model.gguf"), std::string::npos);
}

TEST(CliModelTest, ContextBeyondTheModelIsRefused) {
  const ProgramResult result = ds4("-m " + test::tiny_model_path() + " --ctx 16000000 -p hi");
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_NE(result.standard_error.find("16000000"), std::string::npos) << result.standard_error;
}

TEST(CliPromptTest, AnswersOnStdoutAndReportsSpeedOnStderr) {
  const ProgramResult result = ds4_tiny("--nothink --temp 0 -n 5 -p hello");
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_NE(result.standard_error.find("prefill"), std::string::npos);
  EXPECT_EQ(std::count(result.standard_error.begin(), result.standard_error.end(), '\n'), 1) << result.standard_error;
  EXPECT_EQ(ds4_tiny("--nothink --temp 0 -n 5 -p hello").standard_output, result.standard_output);
  const std::string file = write_temporary("prompt.txt", "hello");
  EXPECT_EQ(ds4_tiny("--nothink --temp 0 -n 5 --prompt-file " + file).standard_output, result.standard_output);
}

TEST(CliPromptTest, PromptBeyondTheContextFailsWithBothNumbers) {
  const ProgramResult result = ds4_tiny("-p " + std::string(500, 'a'));
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_NE(result.standard_error.find("400"), std::string::npos) << result.standard_error;
}

TEST(CliDumpTest, TokensWithTheirSpelling) {
  const ProgramResult result = ds4_tiny("--dump-tokens -p '<｜User｜>a b'");
  EXPECT_EQ(result.exit_code, 0) << result.standard_error;
  EXPECT_EQ(result.standard_output, "[2, 112, 47, 113]\n     2  <｜User｜>\n   112  a\n    47  Ġ\n   113  b\n");
}

TEST(CliDumpTest, LogprobsAreGreedyAndSumToOne) {
  const std::string path = write_temporary("logprobs.json", "");
  const ProgramResult result = ds4_tiny("--nothink -p hi -n 4 --logprobs-top-k 128 --dump-logprobs " + path);
  ASSERT_EQ(result.exit_code, 0) << result.standard_error;
  const auto json = nlohmann::json::parse(read_file(path, 1 << 24).value());
  EXPECT_EQ(json["source"], "ds4");
  EXPECT_EQ(json["ctx"], 400);
  EXPECT_EQ(json["top_k"], 128);
  ASSERT_FALSE(json["steps"].empty());
  for (const auto& step : json["steps"]) {
    ASSERT_EQ(step["top_logprobs"].size(), 128U);
    EXPECT_EQ(step["selected"], step["top_logprobs"][0]["token"]);
    const double difference =
        step["top_logprobs"][0]["logit"].get<double>() - step["top_logprobs"][0]["logprob"].get<double>();
    for (const auto& entry : step["top_logprobs"]) {
      EXPECT_NEAR(entry["logit"].get<double>() - entry["logprob"].get<double>(), difference, 1e-5);
    }
  }
}

TEST(CliDumpTest, LogitsDoNotDependOnTheChunkAndFollowThePositions) {
  const std::string ids = write_temporary("ids.json", "[1, 5, 20, 33, 47, 200, 3, 18, 90]");
  const std::string positions = write_temporary("positions.json", "[0, 4, 8]");
  const std::string out = write_temporary("logits.f32", "");
  const std::string command = "--profile exact --dump-logits " + out + " --token-ids " + ids;
  ASSERT_EQ(ds4_tiny(command).exit_code, 0);
  const std::vector<float> all = read_floats(out);
  ASSERT_EQ(all.size(), 9U * 288U);
  for (const char* chunk : {"1", "4", "9", "100"}) {
    ASSERT_EQ(ds4_tiny(command + " --chunk " + chunk).exit_code, 0);
    EXPECT_EQ(read_floats(out), all) << chunk;
  }
  ASSERT_EQ(ds4_tiny(command + " --chunk 3 --positions " + positions).exit_code, 0);
  const std::vector<float> some = read_floats(out);
  ASSERT_EQ(some.size(), 3U * 288U);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_TRUE(std::equal(some.begin() + static_cast<std::ptrdiff_t>(i * 288),
                           some.begin() + static_cast<std::ptrdiff_t>((i + 1) * 288),
                           all.begin() + static_cast<std::ptrdiff_t>(i * 4 * 288)))
        << i;
  }
}

TEST(CliDumpTest, SteeringChangesLogitsAndScaleZeroDoesNot) {
  const std::string ids = write_temporary("ids.json", "[1, 5, 20, 33, 47, 200, 3, 18, 90]");
  std::vector<float> directions(4U * 64U, 0.125F);
  const std::string bytes(reinterpret_cast<const char*>(directions.data()), directions.size() * sizeof(float));
  const std::string file = " --dir-steering-file " + write_temporary("directions.f32", bytes);
  const std::string out = write_temporary("logits.f32", "");
  const auto logits = [&](const std::string& flags) {
    const ProgramResult result = ds4_tiny("--dump-logits " + out + " --token-ids " + ids + flags);
    EXPECT_EQ(result.exit_code, 0) << result.standard_error;
    return read_floats(out);
  };
  const std::vector<float> plain = logits("");
  for (const char* flags :
       {" --dir-steering-ffn 0", " --dir-steering-attn -0 --dir-steering-ffn 0", " --dir-steering-policy off",
        " --dir-steering-policy none", " --dir-steering-policy decode", " --dir-steering-policy tool-safe"})
    EXPECT_EQ(logits(file + flags), plain) << flags;
  const std::vector<float> steered = logits(file);
  EXPECT_NE(steered, plain);
  EXPECT_EQ(logits(file + " --dir-steering-ffn 1"), steered) << "the default";
  EXPECT_EQ(logits(file + " --dir-steering-ffn 1 --dir-steering-policy always"), steered);
  EXPECT_NE(logits(file + " --dir-steering-attn 1"), steered);

  const ProgramResult odd = ds4_tiny("-p a --dir-steering-file " + write_temporary("odd.f32", bytes.substr(1)));
  EXPECT_EQ(odd.exit_code, 2);
  EXPECT_NE(odd.standard_error.find("expected 1024 bytes"), std::string::npos) << odd.standard_error;
  EXPECT_NE(odd.standard_error.find("found 1023"), std::string::npos) << odd.standard_error;
}

TEST(CliDumpTest, BadInputFilesAreExplained) {
  const std::string out = test::temporary_path("none.f32");
  const auto run = [&](const std::string& ids, const std::string& positions) {
    const std::string flags = positions.empty() ? "" : " --positions " + write_temporary("p.json", positions);
    return ds4_tiny("--dump-logits " + out + " --token-ids " + write_temporary("i.json", ids) + flags);
  };
  EXPECT_NE(run("[1, 2.5]", "").standard_error.find("element 1: expected an integer, found 2.5"), std::string::npos);
  EXPECT_NE(run("{}", "").standard_error.find("expected a JSON array of integers"), std::string::npos);
  EXPECT_NE(run("[]", "").standard_error.find("no tokens"), std::string::npos);
  EXPECT_NE(run("[1, 288]", "").standard_error.find("288"), std::string::npos);
  EXPECT_NE(run("[1, 2]", "[2]").standard_error.find("expected ascending positions below 2, found 2"),
            std::string::npos);
  EXPECT_NE(run("[1, 2, 3]", "[1, 1]").standard_error.find("expected ascending positions"), std::string::npos);
  EXPECT_EQ(run("[1", "").exit_code, 2) << run("[1", "").standard_error;
  EXPECT_FALSE(file_exists(out));
}

TEST(CliReplTest, OneTurnPerLineAndCommands) {
  const std::string file = write_temporary("turn.txt", "from a file");
  const ProgramResult result = ds4_tiny(
      "--temp 0 -n 3", "hello\n/nothink\nagain\n\n/read " + file +
                           "\n/read /nonexistent/x\n/dance\n/ctx zero\n/ctx 350\n/think 5\n/help\n/quit\nnever\n");
  EXPECT_EQ(result.exit_code, 0) << result.standard_error;
  size_t n_turns = 0;
  for (size_t at = 0; (at = result.standard_error.find("prefill", at)) != std::string::npos; ++at) ++n_turns;
  EXPECT_EQ(n_turns, 3U) << result.standard_error;
  for (const char* part : {"/nonexistent/x", "/dance: no such command", "found 'zero'", "usage: /think"}) {
    EXPECT_NE(result.standard_error.find(part), std::string::npos) << part << "\n" << result.standard_error;
  }
  EXPECT_NE(result.standard_output.find("/think-max"), std::string::npos);
  EXPECT_TRUE(result.standard_output.ends_with("leave\n"));
}

TEST(CliReplTest, FailedTurnLeavesTheConversationUsable) {
  const ProgramResult result = ds4_tiny("--nothink --temp 0 -n 2", std::string(500, 'a') + "\nshort\n");
  EXPECT_EQ(result.exit_code, 0) << result.standard_error;
  EXPECT_NE(result.standard_error.find("400"), std::string::npos);
  EXPECT_NE(result.standard_error.find("prefill"), std::string::npos);
}

}  // namespace
}  // namespace ds4
