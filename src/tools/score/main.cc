// ds4-score: how good a model file is. Exit status: 0 done, 1 failed or a limit was missed, 2 wrong usage.

#include <CLI/CLI.hpp>

#include "tools/common/options.h"
#include "tools/score/commands.h"

namespace ds4 {

namespace {

constexpr std::string_view kProgram = "ds4-score";
constexpr int32_t kMaxStepTokens = 1 << 16;

struct Command {
  CLI::App* app;
  Result<int> (*run)(const ScoreOptions&);
};

void add_text_options(CLI::App& command, ScoreOptions& options) {
  command.add_option("--text", options.text_path, "text to score")->take_last()->type_name("FILE");
  add_integer_option(command, "--stride", options.plan.stride, {1, INT32_MAX},
                     "tokens by which the window of --ctx (2048) advances (half of it)");
  add_integer_option(command, "--context-only", options.plan.context_only, {1, INT32_MAX},
                     "tokens at the beginning of the text that are not scored (32)");
  add_integer_option(command, "-n,--tokens", options.plan.max_scored, {1, INT32_MAX}, "score only so many (all)");
}

void add_common_options(CLI::App& command, ScoreOptions& options) {
  add_model_options(command, options.engine);
  add_integer_option(command, "--chunk", options.step_tokens, {1, kMaxStepTokens}, "tokens computed at once (256)");
}

Command add_perplexity(CLI::App& app, ScoreOptions& options) {
  CLI::App* command = app.add_subcommand("perplexity", "Perplexity of a model on a text, by sliding windows");
  command->add_option("MODEL", options.models, "GGUF file (as -m)")->expected(0, 1);
  add_text_options(*command, options);
  command->add_flag("--json", options.json, "print JSON");
  add_common_options(*command, options);
  return {command, run_perplexity};
}

Command add_save(CLI::App& app, ScoreOptions& options) {
  CLI::App* command = app.add_subcommand("save", "Keep a model's logits on a text, for compare and gate --reference");
  command->add_option("MODEL", options.models, "GGUF file (as -m)")->expected(0, 1);
  add_text_options(*command, options);
  command->add_option("-o,--out", options.output_path, "file to write")->required()->type_name("FILE");
  add_integer_option(*command, "--top-k", options.top_k, {kTopMany, INT32_MAX},
                     "keep only the most likely tokens of each position (all)");
  add_common_options(*command, options);
  return {command, run_save};
}

void add_compare_options(CLI::App& command, ScoreOptions& options) {
  command.add_option("MODEL", options.models, "reference and candidate; with --reference the candidate")
      ->expected(0, 2);
  add_text_options(command, options);
  command.add_option("--reference", options.reference_path, "saved logits instead of a reference model")
      ->take_last()
      ->type_name("FILE");
  command.add_flag("--json", options.json, "print JSON");
  add_common_options(command, options);
}

Command add_compare(CLI::App& app, ScoreOptions& options) {
  CLI::App* command = app.add_subcommand("compare", "How far a model's predictions are from a reference's");
  add_compare_options(*command, options);
  return {command, run_compare};
}

void add_limit(CLI::App& command, const std::string& name, std::optional<double>& limit, double most,
               const std::string& help) {
  command.add_option(name, limit, help)->take_last()->check(CLI::Range(0.0, most))->type_name("X");
}

Result<int> run_gate(const ScoreOptions& options) {
  if (options.limits.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "gate: expected at least one limit, such as --min-top1 0.99");
  }
  return run_compare(options);
}

Command add_gate(CLI::App& app, ScoreOptions& options) {
  CLI::App* command = app.add_subcommand("gate", "compare, with limits: exit code 1 when one is missed");
  add_compare_options(*command, options);
  GateLimits& limits = options.limits;
  command->option_defaults()->group("Limits");
  add_limit(*command, "--min-top1", limits.min_top1, 1, "share of positions with the same best token");
  add_limit(*command, "--min-top5", limits.min_top5, 1, "mean share of the best 5 in common");
  add_limit(*command, "--min-top20", limits.min_top20, 1, "mean share of the best 20 in common");
  add_limit(*command, "--max-rms", limits.max_rms, 1e6, "rms difference of the logits at the worst position");
  add_limit(*command, "--max-top20-abs", limits.max_top20_abs, 1e6, "largest difference among the best 20");
  add_limit(*command, "--max-kl", limits.max_kl, 1e6, "mean KL divergence in nats");
  add_limit(*command, "--max-ppl-ratio", limits.max_ppl_ratio, 1e6, "perplexity over the reference's");
  return {command, run_gate};
}

int run(int argc, char** argv) {
  CLI::App app("Measures how good a model file is, alone or against another.", std::string(kProgram));
  app.require_subcommand(0, 1);
  ScoreOptions options;
  const Command commands[] = {add_perplexity(app, options), add_compare(app, options), add_gate(app, options),
                              add_save(app, options)};
  if (const auto exit_code = parse_command_line(app, argc, argv)) return *exit_code;
  for (const Command& command : commands) {
    if (!command.app->parsed()) continue;
    const Result<int> exit_code = command.run(options);
    return exit_code.ok() ? exit_code.value() : report_error(kProgram, exit_code.error());
  }
  return report_usage_error(kProgram, "expected a command: perplexity, compare, gate or save");
}

}  // namespace

}  // namespace ds4

int main(int argc, char** argv) { return ds4::run(argc, argv); }
