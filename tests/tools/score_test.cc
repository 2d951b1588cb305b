// The program ds4-score on the embedded model.

#include <gtest/gtest.h>

#include <cmath>

#include <nlohmann/json.hpp>

#include "engine/engine.h"
#include "engine/sampler.h"
#include "support/run_program.h"

namespace ds4 {
namespace {

using test::ProgramResult;
using test::run_program;
using test::temporary_path;

const std::string kModel = DS4_SOURCE_DIR "/models/ds4-mini.gguf";
const std::string kText = DS4_SOURCE_DIR "/README.md";

ProgramResult ds4_score(const std::string& arguments) { return run_program("ds4-score", arguments); }

nlohmann::json json_of(const std::string& arguments) {
  const ProgramResult result = ds4_score(arguments + " --json");
  EXPECT_EQ(result.exit_code, 0) << result.standard_error;
  return nlohmann::json::parse(result.standard_output, nullptr, /*allow_exceptions=*/false);
}

// Mean of the negative log-likelihoods, one token at a time: windows end at ctx, then every stride.
double mean_nll(int32_t ctx, int32_t stride, int32_t context_only, int32_t n_scored) {
  EngineOptions options;
  options.model_path = kModel;
  options.ctx_tokens = ctx;
  options.n_slots = 1;
  const auto engine = Engine::load(options).take_value();
  const std::vector<int32_t> tokens = engine->tokenizer()->encode_text(read_file(kText, 1 << 20).value());
  const int32_t end = context_only + n_scored;
  double sum = 0;
  int32_t next_target = context_only;
  for (int32_t window_end = ctx; next_target < end; window_end += stride) {
    const int32_t last = std::min(window_end, end);
    KvState kv = engine->kv_cache().new_sequence().take_value();
    for (int32_t i = std::max(0, last - ctx); i + 1 < last; ++i) {
      const SequenceInput input{&kv, std::span(tokens).subspan(i, 1), LogitsWanted::kLast};
      const std::span<const float> logits = engine->forward().run({&input, 1}).take_value();
      if (i + 1 < next_target) continue;
      sum += log_sum_exp(logits) - logits[tokens[++next_target - 1]];
    }
  }
  return sum / n_scored;
}

TEST(ScoreProgramTest, PerplexityIsThatOfATokenByTokenComputation) {
  const double expected = mean_nll(48, 16, 32, 60);
  const auto json = json_of("perplexity " + kModel + " --text " + kText + " -c 48 --stride 16 -n 60 --chunk 7");
  EXPECT_EQ(json["scored"], 60);
  EXPECT_NEAR(json["nll"].get<double>(), expected, 1e-5);
  EXPECT_NEAR(json["ppl"].get<double>(), std::exp(expected), 1e-3);
  const ProgramResult text = ds4_score("perplexity -m " + kModel + " --text " + kText + " -c 48 --stride 16 -n 60");
  EXPECT_EQ(text.exit_code, 0) << text.standard_error;
  EXPECT_NE(text.standard_output.find("tokens=92 scored=60 nll="), std::string::npos) << text.standard_output;
  const size_t average = text.standard_output.find("avg_nll=");
  ASSERT_NE(average, std::string::npos) << text.standard_output;
  EXPECT_NEAR(std::stod(text.standard_output.substr(average + 8)), expected, 1e-5);
}

TEST(ScoreProgramTest, AModelComparedWithItselfDiffersInNothing) {
  const auto json = json_of("compare " + kModel + " " + kModel + " --text " + kText + " -c 64 -n 60");
  EXPECT_EQ(json["scored"], 60);
  EXPECT_EQ(json["kl"]["mean"], 0);
  EXPECT_EQ(json["kl"]["max"], 0);
  EXPECT_EQ(json["top1"], 1);
  EXPECT_EQ(json["top1_95"][1], 1);
  EXPECT_EQ(json["ppl_ratio"], 1);
  EXPECT_EQ(json["logits"]["max_abs"], 0);
}

TEST(ScoreProgramTest, SavedLogitsStandForTheModel) {
  const std::string reference = temporary_path("reference.gguf");
  for (const char* top_k : {"", " --top-k 32"}) {
    const ProgramResult saved =
        ds4_score("save " + kModel + " --text " + kText + " -c 64 -n 60 -o " + reference + top_k);
    ASSERT_EQ(saved.exit_code, 0) << saved.standard_error;
    const auto json = json_of("compare " + kModel + " --reference " + reference);
    EXPECT_EQ(json["scored"], 60);
    EXPECT_LT(json["kl"]["mean"].get<double>(), 1e-5);
    EXPECT_EQ(json["top1"], 1);
    EXPECT_NEAR(json["ppl_ratio"].get<double>(), 1, 1e-6);
  }
  // Rounding to F16 shows in the logits themselves.
  const std::string limits = " --max-rms 1e-9 --min-top20 0.1";
  const ProgramResult missed = ds4_score("gate " + kModel + " --reference " + reference + limits);
  EXPECT_EQ(missed.exit_code, 1);
  EXPECT_NE(missed.standard_output.find("MISSED  rms"), std::string::npos) << missed.standard_output;
  EXPECT_NE(missed.standard_output.find("kept    top20"), std::string::npos) << missed.standard_output;
  EXPECT_EQ(ds4_score("gate " + kModel + " --reference " + reference + " --min-top1 1 --max-rms 0.3").exit_code, 0);
}

TEST(ScoreProgramTest, ErrorsSayWhatIsWrong) {
  const auto expect_error = [](int exit_code, const std::string& arguments, const std::string& part) {
    const ProgramResult result = ds4_score(arguments);
    EXPECT_EQ(result.exit_code, exit_code) << arguments;
    EXPECT_EQ(result.standard_output, "") << arguments;
    EXPECT_NE(result.standard_error.find(part), std::string::npos) << arguments << ": " << result.standard_error;
  };
  expect_error(2, "", "perplexity");
  expect_error(2, "perplexity " + kModel, "--text");
  expect_error(2, "perplexity " + kModel + " -m " + kModel + " --text " + kText, "MODEL: expected 1, found 2");
  expect_error(2, "perplexity " + kModel + " --text " + kText + " --stride 0", "--stride");
  expect_error(2, "perplexity " + kModel + " --text " + kText + " -c 64 --stride 64",
               "--stride: expected from 1 to 63");
  expect_error(2, "compare " + kModel + " --text " + kText, "MODEL: expected 2, found 1");
  expect_error(2, "compare " + kModel + " --text " + kText + " --reference x", "--reference");
  expect_error(2, "gate " + kModel + " --reference x", "at least one limit");
  expect_error(2, "gate " + kModel + " --reference x --min-top1 2", "--min-top1");
  expect_error(2, "save " + kModel + " --text " + kText, "--out");
  expect_error(2, "save " + kModel + " --text " + kText + " -o x --top-k 5", "--top-k");
  expect_error(1, "perplexity " + kModel + " --text /nowhere/t", "/nowhere/t");
  expect_error(1, "perplexity /nowhere/m --text " + kText, "/nowhere/m");
  expect_error(1, "compare " + kModel + " --reference " + kModel, "no saved logits");
}

}  // namespace
}  // namespace ds4
