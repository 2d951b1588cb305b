#pragma once

// Models described in JSON: the config.json of a published checkpoint, and the shape files of synthetic models (the
// keys of tests/vectors/hf/*.json; others are ignored). Every missing, ill-typed or contradictory value is reported at
// once. Pure functions, any thread.

#include <string_view>

#include "base/error.h"
#include "model/hyperparams.h"
#include "model/synthetic.h"

namespace ds4 {

// `subject` names the source in errors.
Result<SyntheticShape> parse_synthetic_shape(std::string_view json, std::string_view subject);

// n_nextn_layer is what the file announces; whether the checkpoint holds that layer is for its reader to see.
Result<Hyperparams> parse_checkpoint_config(std::string_view json, std::string_view subject);

}  // namespace ds4
