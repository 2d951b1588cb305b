#include <unistd.h>

#include <filesystem>

#include "base/file.h"
#include "chat/message.h"
#include "quant/convert.h"
#include "quant/model_json.h"
#include "quant/safetensors.h"
#include "tools/gguf/commands.h"
#include "tools/gguf/tokenizer_metadata.h"
#include "tools/gguf/types.h"

namespace ds4 {

namespace {

constexpr uint64_t kMaxConfigBytes = 16 << 20;
constexpr uint32_t kQuantizationVersion = 2;

std::string folder_name(const std::string& folder) {
  const std::filesystem::path path = std::filesystem::path(folder + "/").lexically_normal().parent_path();
  return path.filename().string();
}

// One line that is overwritten; nothing where nobody watches.
void print_progress(size_t index, size_t count, std::string_view name) {
  if (isatty(STDERR_FILENO) != 1) return;
  fmt::print(stderr, "\r\x1b[K[{}/{}] {}{}", index + 1, count, name, index + 1 == count ? "\r\x1b[K" : "");
}

}  // namespace

Result<void> run_convert(const ConvertCommandOptions& options) {
  ChosenTypes types = TRY(choose_types(options.types));
  if (!chat_format_from_name(options.chat_format)) {
    return make_error(ErrorCode::kInvalidArgument, "--chat-format: expected preview or 0731, found '{}'",
                      options.chat_format);
  }
  const std::string config_path = options.source_folder + "/config.json";
  const std::string config_text = TRY(read_file(config_path, kMaxConfigBytes));
  const Hyperparams config = TRY(parse_checkpoint_config(config_text, config_path));
  const Checkpoint checkpoint = TRY(Checkpoint::open(options.source_folder));

  ConvertOptions convert{.recipe = types.recipe,
                         .overrides = std::move(types.overrides),
                         .with_draft_layer = !options.no_mtp,
                         .allow_extra = options.allow_extra,
                         .metadata = {},
                         .threads = options.n_threads,
                         .progress = print_progress};
  Metadata& metadata = convert.metadata;
  metadata.set_string("general.name", options.name.empty() ? folder_name(options.source_folder) : options.name);
  if (!options.license.empty()) metadata.set_string("general.license", options.license);
  metadata.set_u32("general.file_type", types.recipe->file_type);
  metadata.set_u32("general.quantization_version", kQuantizationVersion);
  metadata.set_string("ds4.chat_format", options.chat_format);
  TRY(store_checkpoint_tokenizer(options.source_folder, config.n_vocab, metadata));

  const ConvertReport report = TRY(convert_checkpoint(checkpoint, config, convert, options.output_path));
  print_fallbacks(report.fallbacks);
  fmt::print("draft layer: {}\n", report.has_draft_layer ? "yes" : "no");
  print_written(options.output_path, report.n_tensors);
  return {};
}

}  // namespace ds4
