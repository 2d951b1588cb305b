#include "tools/gguf/types.h"

#include "base/file.h"

namespace ds4 {

Result<const Recipe*> recipe_from_flag(std::string_view flag, const std::string& value) {
  auto recipe = find_recipe(value);
  if (!recipe.ok()) return with_context(recipe.take_error(), flag);
  return recipe;
}

Result<std::vector<TypeOverride>> overrides_from_flags(std::span<const std::string> values) {
  std::vector<TypeOverride> overrides;
  for (const std::string& value : values) {
    auto parsed = parse_type_override(value);
    if (!parsed.ok()) return with_context(parsed.take_error(), "--type");
    overrides.push_back(parsed.take_value());
  }
  return overrides;
}

void print_fallbacks(const std::vector<std::string>& fallbacks) {
  if (fallbacks.empty()) return;
  fmt::print("{} tensors have rows that are not whole blocks of the type asked for:\n", fallbacks.size());
  for (const std::string& line : fallbacks) fmt::print("  {}\n", line);
}

void print_written(const std::string& path) {
  const auto file = File::open_for_reading(path);
  const auto size_bytes = file.ok() ? file.value().size() : Result<uint64_t>(uint64_t{0});
  fmt::print("wrote {}: {:.1f} MB\n", path, size_bytes.ok() ? static_cast<double>(size_bytes.value()) / 1e6 : 0.0);
}

}  // namespace ds4
