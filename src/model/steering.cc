#include "model/steering.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "base/file.h"

namespace ds4 {

static_assert(std::endian::native == std::endian::little, "the file's bytes are taken as they are");

Result<std::unique_ptr<Steering>> Steering::load(const std::string& path, const Hyperparams& hyperparams,
                                                 Backend& backend) {
  const int64_t width = hyperparams.n_embd;
  const int64_t n_values = hyperparams.n_layer * width;
  const uint64_t n_bytes = static_cast<uint64_t>(n_values) * sizeof(float);
  const std::unique_ptr<MappedFile> file = TRY(MappedFile::open(path));
  if (file->size_bytes() != n_bytes) {
    return make_error(ErrorCode::kInvalidArgument,
                      "{}: expected {} bytes, the directions of {} layers with {} F32 values each, found {}", path,
                      n_bytes, hyperparams.n_layer, width, file->size_bytes());
  }
  std::unique_ptr<Steering> steering(new Steering());
  steering->values_.resize(static_cast<size_t>(n_values));
  std::memcpy(steering->values_.data(), file->bytes().data(), n_bytes);
  const std::vector<float>& values = steering->values_;
  const auto bad = std::ranges::find_if(values, [](float value) { return !std::isfinite(value); });
  if (bad != values.end()) {
    const int64_t at = bad - values.begin();
    return make_error(ErrorCode::kInvalidArgument, "{}: value {} of layer {} is not finite", path, at % width,
                      at / width);
  }
  steering->memory_ = TRY(backend.allocate(n_bytes));
  const TensorView all{steering->memory_.get(), 0, DType::kF32, {hyperparams.n_layer, width}};
  backend.upload(std::as_bytes(std::span(values)), all);
  for (int64_t layer = 0; layer < hyperparams.n_layer; ++layer) {
    const std::span<const float> row =
        std::span(values).subspan(static_cast<size_t>(layer * width), static_cast<size_t>(width));
    const bool is_zero = std::ranges::all_of(row, [](float value) { return value == 0.0f; });
    steering->directions_.push_back(is_zero ? TensorView{} : all.rows(layer, 1).reshaped({width}));
  }
  return steering;
}

}  // namespace ds4
