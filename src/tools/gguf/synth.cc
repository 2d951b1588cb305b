#include "base/control_tokens.h"
#include "base/file.h"
#include "model/synthetic.h"
#include "model/weight_table.h"
#include "quant/model_json.h"
#include "text/vocabulary_metadata.h"
#include "tools/gguf/commands.h"
#include "tools/gguf/types.h"

namespace ds4 {

namespace {

constexpr uint64_t kMaxShapeFileBytes = 1 << 24;
constexpr int32_t kMinVocabulary = static_cast<int32_t>(kControlTokens.size()) + 256;

}  // namespace

Result<void> run_synth(const SynthOptions& options) {
  const ChosenTypes types = TRY(choose_types(options.types));
  const std::string json = TRY(read_file(options.shape_path, kMaxShapeFileBytes));
  SyntheticShape shape = TRY(parse_synthetic_shape(json, options.shape_path));
  shape.mtp = options.mtp;
  auto hyperparams = synthetic_hyperparams(shape);
  if (!hyperparams.ok()) return with_context(hyperparams.take_error(), options.shape_path);
  if (shape.vocab < kMinVocabulary) {
    return make_error(ErrorCode::kUnsupported,
                      "{}: vocab: expected at least {} (control tokens and all bytes), found {}", options.shape_path,
                      kMinVocabulary, shape.vocab);
  }

  const std::vector<ExpectedTensor> tensors = expected_tensors(hyperparams.value());
  TypePlan plan = TRY(plan_types(tensors, *types.recipe, types.overrides));
  SyntheticFile file;
  file.types = std::move(plan.types);
  file.metadata.set_string("general.name", "synth-v1");
  file.metadata.set_u32("general.file_type", types.recipe->file_type);
  store_vocabulary(byte_level_vocabulary(static_cast<size_t>(shape.vocab)), file.metadata);
  TRY(write_synthetic_model(hyperparams.value(), file, options.output_path));
  print_fallbacks(plan.fallbacks);
  print_written(options.output_path, tensors.size());
  return {};
}

}  // namespace ds4
