#include "quant/convert.h"

namespace ds4 {

Result<ConvertReport> convert_checkpoint(const Checkpoint& checkpoint, const Hyperparams& config,
                                         const ConvertOptions& options, const std::string& path) {
  const CheckpointSource source = TRY(open_checkpoint_source(checkpoint, config, options));
  return ConvertReport{TRY(quantize_model(*source.model, options, path)), source.has_draft_layer};
}

}  // namespace ds4
