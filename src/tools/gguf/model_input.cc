#include "tools/gguf/model_input.h"

#include <filesystem>

#include "base/file.h"
#include "chat/message.h"
#include "quant/checkpoint_source.h"
#include "quant/gguf_source.h"
#include "quant/model_json.h"
#include "tools/gguf/tokenizer_metadata.h"

namespace ds4 {

namespace {

constexpr uint64_t kMaxConfigBytes = 16 << 20;
constexpr uint32_t kQuantizationVersion = 2;
constexpr std::string_view kNameKey = "general.name";
constexpr std::string_view kChatFormatKey = "ds4.chat_format";

std::string folder_name(const std::string& folder) {
  const std::filesystem::path path = std::filesystem::path(folder + "/").lexically_normal().parent_path();
  return path.filename().string();
}

Result<void> set_flags(const ConvertCommandOptions& options, const Recipe& recipe, Metadata& metadata) {
  if (!options.chat_format.empty() && !chat_format_from_name(options.chat_format)) {
    return make_error(ErrorCode::kInvalidArgument, "--chat-format: expected preview or 0731, found '{}'",
                      options.chat_format);
  }
  if (!options.name.empty()) metadata.set_string(kNameKey, options.name);
  if (!options.license.empty()) metadata.set_string("general.license", options.license);
  metadata.set_u32("general.file_type", recipe.file_type);
  metadata.set_u32("general.quantization_version", kQuantizationVersion);
  if (!options.chat_format.empty()) metadata.set_string(kChatFormatKey, options.chat_format);
  return {};
}

}  // namespace

Result<ModelInput> open_checkpoint_input(const ConvertCommandOptions& options, const Recipe& recipe) {
  ModelInput input;
  input.metadata.set_string(kNameKey, folder_name(options.source_path));
  TRY(set_flags(options, recipe, input.metadata));
  if (options.chat_format.empty()) input.metadata.set_string(kChatFormatKey, "preview");
  const std::string config_path = options.source_path + "/config.json";
  const std::string config_text = TRY(read_file(config_path, kMaxConfigBytes));
  const Hyperparams config = TRY(parse_checkpoint_config(config_text, config_path));
  input.checkpoint = std::make_unique<Checkpoint>(TRY(Checkpoint::open(options.source_path)));
  TRY(store_checkpoint_tokenizer(options.source_path, config.n_vocab, input.metadata));
  CheckpointSource source = TRY(open_checkpoint_source(
      *input.checkpoint, config, {.with_draft_layer = !options.no_mtp, .allow_extra = options.allow_extra}));
  input.model = std::move(source.model);
  input.has_draft_layer = source.has_draft_layer;
  return input;
}

Result<ModelInput> open_model_input(const ConvertCommandOptions& options, const Recipe& recipe) {
  std::error_code ignored;
  if (std::filesystem::is_directory(options.source_path, ignored)) return open_checkpoint_input(options, recipe);
  if (options.no_mtp) {
    return make_error(ErrorCode::kInvalidArgument, "--no-mtp: expected a checkpoint folder, found '{}'",
                      options.source_path);
  }
  ModelInput input;
  TRY(set_flags(options, recipe, input.metadata));
  input.file = TRY(GgufFile::open(options.source_path));
  input.model = TRY(open_gguf_source(*input.file, {.allow_extra = options.allow_extra}));
  return input;
}

}  // namespace ds4
