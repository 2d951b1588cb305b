#include "tools/common/model_path.h"

#include <fmt/ranges.h>

#include <filesystem>
#include <system_error>
#include <vector>

#include "base/file.h"

namespace ds4 {
namespace {

constexpr const char* kEmbeddedModel = "ds4-mini.gguf";

std::vector<std::string> default_paths() {
  namespace fs = std::filesystem;
  std::vector<std::string> paths{"ds4flash.gguf"};
  std::error_code failed;
  const fs::path program = fs::read_symlink("/proc/self/exe", failed);
  if (!failed) {
    const fs::path folder = program.parent_path();
    // Installed (PREFIX/bin, PREFIX/share/ds4) and as built (SOURCE/build/NAME/bin, SOURCE/models).
    paths.push_back((folder.parent_path() / "share" / "ds4" / kEmbeddedModel).string());
    paths.push_back((folder.parent_path().parent_path().parent_path() / "models" / kEmbeddedModel).string());
  }
  // A build directory outside the source tree.
  paths.push_back((fs::path(DS4_MODELS_DIR) / kEmbeddedModel).string());
  return paths;
}

}  // namespace

Result<std::string> resolve_model_path(const std::string& given) {
  if (!given.empty()) return given;
  const std::vector<std::string> paths = default_paths();
  for (const std::string& path : paths) {
    if (file_exists(path)) return path;
  }
  return make_error(ErrorCode::kNotFound, "no model: give one with -m FILE; looked for {}", fmt::join(paths, ", "));
}

}  // namespace ds4
