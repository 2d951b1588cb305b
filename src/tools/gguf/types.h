#pragma once

// From the flags --recipe, --layers and --type to one tensor type per tensor, and the lines that the commands which
// write models print at their end.

#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "quant/recipe.h"
#include "tools/gguf/commands.h"

namespace ds4 {

struct ChosenTypes {
  const Recipe* recipe = nullptr;
  std::vector<TypeOverride> overrides;
};
// Errors name the flag.
Result<ChosenTypes> choose_types(const TypeOptions& options);

void print_fallbacks(const std::vector<std::string>& fallbacks);
// "wrote PATH: 40 tensors, 12.3 MB"
void print_written(const std::string& path, size_t n_tensors);

}  // namespace ds4
