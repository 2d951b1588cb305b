#include "tools/gguf/types.h"

#include "base/file.h"

namespace ds4 {

Result<ChosenTypes> choose_types(const TypeOptions& options) {
  ChosenTypes chosen;
  auto recipe = find_recipe(options.recipe);
  if (!recipe.ok()) return with_context(recipe.take_error(), "--recipe");
  chosen.recipe = recipe.value();
  for (const std::string& text : options.layers) {
    auto parsed = parse_layer_override(text);
    if (!parsed.ok()) return with_context(parsed.take_error(), "--layers");
    for (TypeOverride& override : parsed.value()) chosen.overrides.push_back(std::move(override));
  }
  for (const std::string& text : options.overrides) {
    auto parsed = parse_type_override(text);
    if (!parsed.ok()) return with_context(parsed.take_error(), "--type");
    chosen.overrides.push_back(parsed.take_value());
  }
  return chosen;
}

void print_fallbacks(const std::vector<std::string>& fallbacks) {
  if (fallbacks.empty()) return;
  fmt::print("{} tensors have rows that are not whole blocks of the type asked for:\n", fallbacks.size());
  for (const std::string& line : fallbacks) fmt::print("  {}\n", line);
}

void print_written(const std::string& path, size_t n_tensors) {
  const auto file = File::open_for_reading(path);
  const auto size_bytes = file.ok() ? file.value().size() : Result<uint64_t>(uint64_t{0});
  fmt::print("wrote {}: {} tensors, {:.1f} MB\n", path, n_tensors,
             size_bytes.ok() ? static_cast<double>(size_bytes.value()) / 1e6 : 0.0);
}

}  // namespace ds4
