// The program ds4-bench as a user meets it, and those of its parts that could be wrong unnoticed.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "support/run_program.h"
#include "tools/bench/spread.h"
#include "tools/bench/svg_chart.h"

namespace ds4 {
namespace {

using test::ProgramResult;
using test::run_program;

ProgramResult ds4_bench(const std::string& arguments) { return run_program("ds4-bench", arguments); }

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return lines;
}

TEST(SpreadTest, QuantilesInterpolateAndDoNotDependOnOrder) {
  const Spread spread = spread_of({5, 1, 3, 2, 4});
  EXPECT_EQ(spread.median, 3);
  EXPECT_DOUBLE_EQ(spread.p10, 1.4);
  EXPECT_DOUBLE_EQ(spread.p90, 4.6);
  EXPECT_EQ(spread.least, 1);
  EXPECT_EQ(spread.most, 5);
  EXPECT_EQ(spread.n, 5);
  EXPECT_EQ(spread_of({2, 4}).median, 3);
  EXPECT_EQ(spread_of({7}).p90, 7);
  EXPECT_EQ(spread_of({}).n, 0);
}

TEST(SvgChartTest, DrawsEveryPointOfPanelsThatHaveSomeInBothModes) {
  const std::string svg =
      svg_chart("a <b> & c", {{"empty", "x", {}}, {"rates", "tokens", {{64, 10, 9, 11}, {128, 8, 8, 8}}}});
  EXPECT_TRUE(svg.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\""));
  EXPECT_TRUE(svg.ends_with("</svg>\n"));
  EXPECT_NE(svg.find("a &lt;b&gt; &amp; c"), std::string::npos);
  EXPECT_NE(svg.find("prefers-color-scheme:dark"), std::string::npos);
  EXPECT_EQ(svg.find("empty"), std::string::npos);
  EXPECT_NE(svg.find("64: 10.00"), std::string::npos);
  EXPECT_NE(svg.find("128: 8.00"), std::string::npos);
}

TEST(BenchProgramTest, WrongUsageNamesFlagValueAndWhatIsAccepted) {
  const auto expect_usage = [](const std::string& arguments, std::initializer_list<std::string_view> parts) {
    const ProgramResult result = ds4_bench(arguments);
    EXPECT_EQ(result.exit_code, 2) << arguments;
    EXPECT_EQ(result.standard_output, "") << arguments;
    for (const std::string_view part : parts) {
      EXPECT_NE(result.standard_error.find(part), std::string::npos) << arguments << ": " << result.standard_error;
    }
  };
  expect_usage("--prompt-file a --chat-prompt-file b", {"--prompt-file", "--chat-prompt-file", "several"});
  expect_usage("--prompt-file a --ctx-start 50 --ctx-max 100 -n 20 --ctx-alloc 120", {"--ctx-alloc", "120"});
  expect_usage("--prompt-file a --ctx-start 300 --ctx-max 200", {"--ctx-start", "200", "300"});
  expect_usage("--prompt-file a --step-mul 0.5", {"--step-mul", "0.5"});
  expect_usage("--sequences 1,0", {"--sequences", "0"});
  expect_usage("--prefill 1,x", {"--prefill"});
  expect_usage("--repeat 0", {"--repeat", "from 1", "'0'"});
  expect_usage("--synthetic flash:44", {"flash:44", "from 1 to 43"});
  expect_usage("--synthetic mini --recipe q9", {"q9", "mxfp4"});
  expect_usage("--synthetic mini --isa abacus", {"--isa", "abacus", "portable"});
  expect_usage("--synthetic mini -m x.gguf", {"--model", "--synthetic"});
  expect_usage("--save x.gguf", {"--save", "--synthetic"});
  expect_usage("--fast", {"--fast"});
}

TEST(BenchProgramTest, WhatCannotBeReadFailsWithTheReason) {
  const ProgramResult model = ds4_bench("-m /nowhere/x.gguf");
  EXPECT_EQ(model.exit_code, 1);
  EXPECT_NE(model.standard_error.find("/nowhere/x.gguf"), std::string::npos);
  const ProgramResult prompt =
      ds4_bench("--synthetic mini:1 --no-limits --ctx-max 10 --ctx-start 5 --prompt-file " DS4_SOURCE_DIR
                "/.gitignore --ctx-max 4000");
  EXPECT_EQ(prompt.exit_code, 1);
  EXPECT_NE(prompt.standard_error.find("at least 4000 tokens"), std::string::npos) << prompt.standard_error;
}

TEST(BenchProgramTest, JsonDescribesMachineModelAndFigures) {
  const ProgramResult result = ds4_bench(
      "--synthetic mini:3 --recipe q4 --prefill 5,300 --sequences 1,3 -n 4 --decode-ctx 250 --repeat 2 --warmup 0 "
      "--no-limits --profile-ops -t 2 --json -");
  ASSERT_EQ(result.exit_code, 0) << result.standard_error;
  const auto json = nlohmann::json::parse(result.standard_output);
  EXPECT_EQ(json.at("program"), "ds4-bench");
  EXPECT_FALSE(json.at("version").get<std::string>().empty());
  EXPECT_GE(json.at("machine").at("cpus"), 1);
  EXPECT_EQ(json.at("threads"), 2);
  EXPECT_EQ(json.at("model").at("recipe"), "q4");
  EXPECT_EQ(json.at("model").at("layers"), 3);
  EXPECT_TRUE(json.at("model").at("bytes_by_type").contains("Q4_K"));
  EXPECT_GT(json.at("start_up").at("first_token_ms"), 0);
  EXPECT_GT(json.at("kv").at("bytes_per_token"), 0);
  EXPECT_GT(json.at("peak_memory_bytes"), 1 << 20);

  ASSERT_EQ(json.at("prefill").size(), 2U);
  EXPECT_EQ(json.at("prefill")[1].at("tokens"), 300);
  EXPECT_EQ(json.at("prefill")[1].at("tokens_per_s").at("n"), 2);
  EXPECT_GT(json.at("prefill")[1].at("first_token_ms").at("median"), 0);
  ASSERT_EQ(json.at("decode").size(), 2U);
  const auto& three = json.at("decode")[1];
  EXPECT_EQ(three.at("sequences"), 3);
  EXPECT_EQ(three.at("step_ms").at("n"), 8);
  EXPECT_GE(three.at("distinct_experts"), 6);
  EXPECT_LE(three.at("distinct_experts"), 16);
  EXPECT_GT(three.at("bytes_per_step"), json.at("decode")[0].at("bytes_per_step"));
  EXPECT_DOUBLE_EQ(three.at("macs_per_step").get<double>(), 3 * json.at("decode")[0].at("macs_per_step").get<double>());
  EXPECT_EQ(json.at("profiles").size(), 4U);
}

TEST(BenchProgramTest, LimitsAreMeasuredInTheSameRun) {
  const ProgramResult result = ds4_bench("--synthetic mini:1 --prefill 2 --sequences 1 -n 2 --repeat 1 --json -");
  ASSERT_EQ(result.exit_code, 0) << result.standard_error;
  const auto json = nlohmann::json::parse(result.standard_output);
  EXPECT_GT(json.at("limits").at("read_gb_per_s"), 0);
  EXPECT_FALSE(json.at("limits").at("peaks").empty());
  for (const auto& peak : json.at("limits").at("peaks")) EXPECT_GT(peak.at("gmacs_per_s"), 0) << peak.dump();
  EXPECT_GT(json.at("decode")[0].at("part_of_read_bandwidth"), 0);
}

TEST(BenchProgramTest, SweepWritesTheTableThatOtherToolsRead) {
  const std::string folder = test::temporary_path("sweep");
  std::filesystem::create_directory(folder);
  const ProgramResult result =
      ds4_bench("--synthetic mini:3 --random-prompt --ctx-start 64 --ctx-max 300 --step-mul 2 -n 2 --no-limits --svg " +
                folder + "/chart.svg --dump-frontier-logits-dir " + folder);
  ASSERT_EQ(result.exit_code, 0) << result.standard_error;
  const std::vector<std::string> lines = lines_of(result.standard_output);
  ASSERT_EQ(lines.size(), 5U) << result.standard_output;
  EXPECT_EQ(lines[0], "ctx_tokens,prefill_tokens,prefill_tps,gen_tokens,gen_tps,kvcache_bytes");
  EXPECT_TRUE(lines[1].starts_with("64,64,")) << lines[1];
  EXPECT_TRUE(lines[2].starts_with("128,64,")) << lines[2];
  EXPECT_TRUE(lines[3].starts_with("256,128,")) << lines[3];
  EXPECT_TRUE(lines[4].starts_with("300,44,")) << lines[4];
  EXPECT_NE(lines[4].find(",2,"), std::string::npos);
  EXPECT_NE(read_file(folder + "/chart.svg", 1 << 20).value().find("decode, tokens/s"), std::string::npos);
  const auto logits = nlohmann::json::parse(read_file(folder + "/frontier_000256.logits.json", 1 << 24).value());
  EXPECT_EQ(logits.at("frontier_tokens"), 256);
  EXPECT_EQ(logits.at("prefill_tokens"), 128);
  EXPECT_EQ(logits.at("logits").size(), logits.at("vocab"));
  std::filesystem::remove_all(folder);
}

TEST(BenchProgramTest, LinearStepsEndAtTheLastFrontierAndPrefillAloneIsPossible) {
  const ProgramResult result =
      ds4_bench("--synthetic mini:1 --random-prompt --ctx-start 10 --ctx-max 25 --step-incr 10 -n 0 --no-limits");
  ASSERT_EQ(result.exit_code, 0) << result.standard_error;
  const std::vector<std::string> lines = lines_of(result.standard_output);
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_TRUE(lines[3].starts_with("25,5,")) << lines[3];
  EXPECT_NE(lines[3].find(",0,0.00,"), std::string::npos) << lines[3];
}

TEST(BenchProgramTest, SavedModelIsTheOneMeasured) {
  const std::string path = test::temporary_path("saved.gguf");
  ASSERT_EQ(ds4_bench("--synthetic mini:2 --recipe q2 --prefill 3 --no-limits --save " + path).exit_code, 0);
  const ProgramResult loaded = ds4_bench("-m " + path + " --prefill 3 --no-limits --repeat 1 --json -");
  ASSERT_EQ(loaded.exit_code, 0) << loaded.standard_error;
  const auto json = nlohmann::json::parse(loaded.standard_output);
  EXPECT_EQ(json.at("model").at("name"), "synthetic mini:2 q2");
  EXPECT_EQ(json.at("model").at("layers"), 2);
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace ds4
