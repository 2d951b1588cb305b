#pragma once

// From the flags --recipe and --type to one tensor type per tensor; shared by the commands that write models.

#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "quant/recipe.h"

namespace ds4 {

// Errors name the flag.
Result<const Recipe*> recipe_from_flag(std::string_view flag, const std::string& value);
Result<std::vector<TypeOverride>> overrides_from_flags(std::span<const std::string> values);

void print_fallbacks(const std::vector<std::string>& fallbacks);
// "wrote PATH: 12.3 MB"
void print_written(const std::string& path);

}  // namespace ds4
