// ds4-gguf: makes, converts and inspects model files. Exit status: 0 done, 1 failed, 2 wrong usage.

#include <CLI/CLI.hpp>

#include "tools/gguf/commands.h"

namespace ds4 {

namespace {

// A sub-command and what it does with the options it was given.
struct Command {
  CLI::App* app;
  std::function<Result<void>()> run;
};

Command add_synth(CLI::App& app, SynthOptions& options) {
  CLI::App* command = app.add_subcommand("synth", "Write a model whose weights follow from their names (synth-v1)");
  command->add_option("SHAPE", options.shape_path, "JSON file with the sizes (hidden, heads, ..., ratios)")->required();
  command->add_option("OUT", options.output_path, "GGUF file to write")->required();
  command->add_option("--types,--recipe", options.recipe, "Types of the tensors (see convert --help)")
      ->capture_default_str();
  command->add_option("--type", options.type_overrides, "PATTERN=TYPE: the type of tensors by name; may be repeated")
      ->allow_extra_args(false);
  command->add_flag("--mtp", options.mtp, "Add a draft layer");
  return {command, [&options] { return run_synth(options); }};
}

int report(const Result<void>& result) {
  if (result.ok()) return 0;
  fmt::print(stderr, "ds4-gguf: {}\n", result.error().message);
  return error_code_info(result.error().code).exit_code;
}

int run(int argc, char** argv) {
  CLI::App app("Makes, converts and inspects model files of the DeepSeek-V4 architecture.", "ds4-gguf");
  app.require_subcommand(1);
  SynthOptions synth;
  const Command commands[] = {add_synth(app, synth)};
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : error_code_info(ErrorCode::kInvalidArgument).exit_code;
  }
  for (const Command& command : commands) {
    if (command.app->parsed()) return report(command.run());
  }
  return 0;
}

}  // namespace

}  // namespace ds4

int main(int argc, char** argv) { return ds4::run(argc, argv); }
