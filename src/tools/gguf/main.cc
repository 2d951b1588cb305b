// ds4-gguf: makes, converts and inspects model files. Exit status: 0 done, 1 failed, 2 wrong usage.

#include <CLI/CLI.hpp>

#include "quant/recipe.h"
#include "tools/common/options.h"
#include "tools/gguf/commands.h"

namespace ds4 {

namespace {

constexpr std::string_view kProgram = "ds4-gguf";
constexpr int32_t kMaxThreads = 1024;

// A sub-command and what it does with the options it was given.
struct Command {
  CLI::App* app;
  std::function<Result<void>()> run;
};

std::string recipe_list() {
  std::string text = "Recipes:\n";
  for (const Recipe& recipe : recipes()) text += fmt::format("  {:<9} {}\n", recipe.name, recipe.doc);
  return text;
}

void add_type_options(CLI::App& command, const std::string& recipe_flag, TypeOptions& types) {
  command.add_option(recipe_flag, types.recipe, "types of the tensors, see below")->capture_default_str();
  command
      .add_option("--layers", types.layers,
                  "LAYERS=TYPE: type of the experts of some layers: 0-3,40=Q4_K; may be repeated")
      ->allow_extra_args(false);
  command
      .add_option("--type", types.overrides,
                  "PATTERN=TYPE: type of the tensors whose name or group matches (* and ?); may be repeated, the last "
                  "one counts")
      ->allow_extra_args(false);
  command.footer(recipe_list());
}

void add_convert_options(CLI::App& command, ConvertCommandOptions& options) {
  command.add_option("OUT", options.output_path, "GGUF file to write")->required();
  add_type_options(command, "--recipe", options.types);
  command.add_option("--name", options.name, "name of the model (that of the folder or file)");
  command.add_option("--license", options.license, "its licence");
  command.add_option("--chat-format", options.chat_format,
                     "revision of the prompt format: preview or 0731 (of a folder: preview)");
  command.add_flag("--no-mtp", options.no_mtp, "leave the draft layer of a folder out");
  command.add_flag("--allow-extra", options.allow_extra, "ignore tensors that have no place in the model");
  command.add_flag("--restart", options.restart, "drop what an interrupted run left instead of going on with it");
  add_integer_option(command, "-t,--threads", options.n_threads, {1, kMaxThreads}, "CPU threads (one per core)");
}

Command add_convert(CLI::App& app, ConvertCommandOptions& options) {
  CLI::App* command = app.add_subcommand("convert", "Convert a published checkpoint (safetensors) to GGUF");
  options.types.recipe = "bf16";
  command->add_option("FOLDER", options.source_path, "with config.json, tokenizer.json and safetensors")->required();
  add_convert_options(*command, options);
  return {command, [&options] { return run_convert(options); }};
}

Command add_quantize(CLI::App& app, QuantizeCommandOptions& options) {
  CLI::App* command = app.add_subcommand("quantize", "Make a smaller file of a checkpoint folder or a GGUF file");
  options.types.recipe = "q2";
  command->add_option("IN", options.source_path, "folder as for convert, or a GGUF file")->required();
  add_convert_options(*command, options);
  command->add_option("--imatrix", options.imatrix_path, "importance of the columns, from ds4-gguf imatrix");
  command->add_option("--report", options.report_path, "JSON file to write with the error of every tensor");
  command->add_flag("--dry-run", options.dry_run, "show what would be written, and write nothing");
  command->add_flag("--tensors", options.list_tensors, "list every tensor");
  return {command, [&options] { return run_quantize(options); }};
}

Command add_inspect(CLI::App& app, InspectOptions& options) {
  CLI::App* command = app.add_subcommand("inspect", "Show what is in a file, and whether it would load");
  command->add_option("FILE", options.path, "GGUF file")->required();
  command->add_option("--backend", options.backend, "the backend that would load it: cpu, cuda (no device needed)")
      ->capture_default_str();
  command->add_flag("--tensors", options.all_tensors, "list every tensor");
  return {command, [&options] { return run_inspect(options); }};
}

Command add_synth(CLI::App& app, SynthOptions& options) {
  CLI::App* command = app.add_subcommand("synth", "Write a model whose weights follow from their names (synth-v1)");
  options.types.recipe = "f32";
  command->add_option("SHAPE", options.shape_path, "JSON file with the sizes (hidden, heads, ..., ratios)")->required();
  command->add_option("OUT", options.output_path, "GGUF file to write")->required();
  add_type_options(*command, "--recipe,--types", options.types);
  command->add_flag("--mtp", options.mtp, "add a draft layer");
  return {command, [&options] { return run_synth(options); }};
}

void add_imatrix_format(CLI::App& command, std::string& format) {
  command.add_option("--format", format, "gguf: sums and counts; dat: llama.cpp's older form, means only")
      ->check(CLI::IsMember({"gguf", "dat"}))
      ->capture_default_str();
}

Command add_imatrix(CLI::App& app, ImatrixOptions& options) {
  CLI::App* command = app.add_subcommand("imatrix", "Run a model over text and collect the importance of columns");
  command->add_option("MODEL", options.model_path, "GGUF file, of the highest precision there is")->required();
  command->add_option("--text", options.text_paths, "text, or prompts after lines ===== DS4_IMATRIX_PROMPT")
      ->required()
      ->type_name("FILE...");
  command->add_option("-o,--out", options.output_path, "file to write")->required()->type_name("FILE");
  add_imatrix_format(*command, options.format);
  add_integer_option(*command, "-c,--ctx", options.ctx_tokens, {2, 1 << 20}, "tokens of a chunk (2048)");
  add_integer_option(*command, "--chunk", options.step_tokens, {1, 1 << 16}, "tokens computed at once (256)");
  add_integer_option(*command, "--max-tokens", options.max_tokens, {1, INT32_MAX}, "stop after so many (all)");
  add_integer_option(*command, "--skip", options.skip_chunks, {0, INT32_MAX}, "leave out the first N chunks (0)");
  add_integer_option(*command, "--save-every", options.save_every, {1, INT32_MAX},
                     "write the file every N chunks (32)");
  add_integer_option(*command, "-t,--threads", options.n_threads, {1, kMaxThreads}, "CPU threads (one per core)");
  return {command, [&options] { return run_imatrix(options); }};
}

Command add_imatrix_merge(CLI::App& app, ImatrixMergeOptions& options) {
  CLI::App* command = app.add_subcommand("imatrix-merge", "Add up files that imatrix wrote");
  command->add_option("OUT", options.output_path, "file to write")->required();
  command->add_option("IN", options.input_paths, "files with counts (--format gguf)")->required();
  add_imatrix_format(*command, options.format);
  return {command, [&options] { return run_imatrix_merge(options); }};
}

int run(int argc, char** argv) {
  CLI::App app("Makes, converts and inspects model files of the DeepSeek-V4 architecture.", std::string(kProgram));
  app.require_subcommand(0, 1);
  ConvertCommandOptions convert;
  QuantizeCommandOptions quantize;
  InspectOptions inspect;
  SynthOptions synth;
  ImatrixOptions imatrix;
  ImatrixMergeOptions imatrix_merge;
  const Command commands[] = {add_convert(app, convert), add_quantize(app, quantize),
                              add_inspect(app, inspect), add_synth(app, synth),
                              add_imatrix(app, imatrix), add_imatrix_merge(app, imatrix_merge)};
  if (const auto exit_code = parse_command_line(app, argc, argv)) return *exit_code;
  for (const Command& command : commands) {
    if (!command.app->parsed()) continue;
    auto result = command.run();
    return result.ok() ? 0 : report_error(kProgram, result.error());
  }
  return report_usage_error(kProgram,
                            "expected a command: convert, quantize, inspect, synth, imatrix or imatrix-merge");
}

}  // namespace

}  // namespace ds4

int main(int argc, char** argv) { return ds4::run(argc, argv); }
