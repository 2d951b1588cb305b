#pragma once

// Which model a program loads: the one it was given, else ds4flash.gguf in the current directory, else the small model
// that comes with the source. Main thread.

#include <string>

#include "base/error.h"

namespace ds4 {

// `given` may be empty. Error kNotFound: every place that was tried.
Result<std::string> resolve_model_path(const std::string& given);

}  // namespace ds4
