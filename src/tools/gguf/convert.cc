#include "quant/quantize_model.h"
#include "tools/gguf/commands.h"
#include "tools/gguf/model_input.h"
#include "tools/gguf/progress_bar.h"
#include "tools/gguf/types.h"

namespace ds4 {

Result<void> run_convert(const ConvertCommandOptions& options) {
  ChosenTypes types = TRY(choose_types(options.types));
  ModelInput input = TRY(open_checkpoint_input(options, *types.recipe));
  QuantizeReport report;
  {
    ProgressBar bar;
    report = TRY(quantize_model(*input.model,
                                {.recipe = types.recipe,
                                 .overrides = std::move(types.overrides),
                                 .metadata = std::move(input.metadata),
                                 .threads = options.n_threads,
                                 .restart = options.restart,
                                 .progress = [&bar](const QuantizeProgress& progress) { bar.show(progress); }},
                                options.output_path));
  }
  print_fallbacks(report.plan.fallbacks);
  fmt::print("draft layer: {}\n", input.has_draft_layer ? "yes" : "no");
  print_written(options.output_path, report.plan.tensors.size());
  return {};
}

}  // namespace ds4
