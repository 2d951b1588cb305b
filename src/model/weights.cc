#include "model/weights.h"

#include "gguf/dequantize.h"
#include "model/weight_table.h"

namespace ds4 {

namespace {

// Vectors are widened at load, so their stored type is our business and not the backend's.
bool is_vector_type(DType type) {
  return type == DType::kF32 || type == DType::kF16 || type == DType::kBF16 || type == DType::kQ8_0;
}

bool accepts(const WeightSpec& spec, DType type, const Backend& backend) {
  if (spec.use == WeightUse::kVector) return is_vector_type(type);
  if (spec.use == WeightUse::kTokenTable) return type == DType::kI32;
  return backend.supports(spec.use, type);
}

std::string accepted_types(const WeightSpec& spec, const Backend& backend) {
  std::string text;
  for (int i = 0; i <= static_cast<int>(DType::kU8); ++i) {
    const auto type = static_cast<DType>(i);
    if (accepts(spec, type, backend)) text += fmt::format("{}{}", text.empty() ? "" : ", ", dtype_name(type));
  }
  return text;
}

// Compares without dimensions of extent 1: writers drop or keep them as they like.
bool same_shape(const Shape& found, const Shape& expected) {
  const auto squeeze = [](const Shape& shape) {
    std::vector<int64_t> extents;
    for (const int64_t extent : shape.extents()) {
      if (extent != 1) extents.push_back(extent);
    }
    return extents;
  };
  return squeeze(found) == squeeze(expected);
}

void check_tensor(const GgufFile& file, const ExpectedTensor& expected, const Backend& backend,
                  std::vector<std::string>& problems) {
  const TensorInfo* info = file.find(expected.name);
  if (info == nullptr) {
    if (expected.spec->required) problems.push_back(fmt::format("tensor {} is missing", expected.name));
    return;
  }
  if (!same_shape(info->shape, expected.shape)) {
    problems.push_back(fmt::format("tensor {}: expected shape {}, found {}", expected.name, expected.shape.to_string(),
                                   info->shape.to_string()));
  }
  if (!info->type || !accepts(*expected.spec, *info->type, backend)) {
    const std::string found =
        info->type ? std::string(dtype_name(*info->type)) : fmt::format("unknown type {}", info->ggml_type);
    problems.push_back(fmt::format("tensor {}: the {} backend accepts {}, found {}", expected.name, backend.name(),
                                   accepted_types(*expected.spec, backend), found));
  }
}

// Expert ids index expert tensors without a check in the kernels, so they are checked here.
void check_token_table(const GgufFile& file, const ExpectedTensor& expected, int32_t n_expert,
                       std::vector<std::string>& problems) {
  const TensorInfo* info = file.find(expected.name);
  if (info == nullptr || info->type != DType::kI32) return;
  const TensorView view = file.view(*info);
  const int32_t* ids = view.i32();
  for (int64_t i = 0; i < view.elements(); ++i) {
    if (ids[i] >= 0 && ids[i] < n_expert) continue;
    problems.push_back(fmt::format("tensor {}: element {}: expected an expert below {}, found {}", expected.name, i,
                                   n_expert, ids[i]));
    return;
  }
}

// Weights: ModelWeights, const or not.
template <class Weights>
auto& member_of(const WeightSpec& spec, Weights& weights, int32_t layer) {
  if (const auto* member = std::get_if<TensorView ModelWeights::*>(&spec.member)) return weights.**member;
  return weights.layers[static_cast<size_t>(layer)].*std::get<TensorView LayerWeights::*>(spec.member);
}

Result<TensorView> widen(const TensorView& host, Backend& backend, std::vector<std::unique_ptr<Buffer>>& storage) {
  std::vector<float> values(static_cast<size_t>(host.elements()));
  dequantize_row(host.type, host.data<std::byte>(), values.data(), host.elements());
  storage.push_back(TRY(backend.allocate(values.size() * sizeof(float))));
  const TensorView view{storage.back().get(), 0, DType::kF32, host.shape};
  backend.upload(std::as_bytes(std::span(values)), view);
  return view;
}

}  // namespace

std::vector<std::string> find_weight_problems(const GgufFile& file, const Hyperparams& hyperparams,
                                              const Backend& backend) {
  std::vector<std::string> problems;
  for (const ExpectedTensor& expected : expected_tensors(hyperparams)) {
    const size_t before = problems.size();
    check_tensor(file, expected, backend, problems);
    if (expected.spec->use == WeightUse::kTokenTable && problems.size() == before) {
      check_token_table(file, expected, hyperparams.n_expert, problems);
    }
  }
  return problems;
}

Result<ModelWeights> ModelWeights::bind(const GgufFile& file, const Hyperparams& hyperparams, Backend& backend) {
  ProblemList problems;
  for (const std::string& problem : find_weight_problems(file, hyperparams, backend)) problems.add("{}", problem);
  TRY(problems.to_result(ErrorCode::kUnsupported, file.path()));

  ModelWeights weights;
  weights.layers.resize(static_cast<size_t>(hyperparams.n_stored_layer()));
  for (const ExpectedTensor& expected : expected_tensors(hyperparams)) {
    const TensorInfo* info = file.find(expected.name);
    if (info == nullptr) continue;  // optional
    TensorView host = file.view(*info);
    host.shape = expected.shape;
    TensorView& member = member_of(*expected.spec, weights, expected.layer);
    const bool widens = expected.spec->use == WeightUse::kVector && host.type != DType::kF32;
    member = widens ? TRY(widen(host, backend, weights.widened)) : TRY(backend.place_weight(host));
  }
  return weights;
}

const TensorView& ModelWeights::view(const WeightSpec& spec, int32_t layer) const {
  return member_of(spec, *this, layer);
}

}  // namespace ds4
