#include "model/weights.h"

#include "gguf/dequantize.h"
#include "model/weight_table.h"

namespace ds4 {

namespace {

// Vectors are widened at load, so their stored type is our business and not the backend's.
bool is_vector_type(DType type) {
  return type == DType::kF32 || type == DType::kF16 || type == DType::kBF16 || type == DType::kQ8_0;
}

// The types that a use takes, by a backend's name.
struct Accepted {
  std::string_view backend;
  std::function<bool(WeightUse, DType)> supports;
};

bool accepts(const WeightSpec& spec, DType type, const Accepted& accepted) {
  if (spec.use == WeightUse::kVector) return is_vector_type(type);
  if (spec.use == WeightUse::kTokenTable) return type == DType::kI32;
  return accepted.supports(spec.use, type);
}

std::string accepted_types(const WeightSpec& spec, const Accepted& accepted) {
  std::string text;
  for (int i = 0; i <= static_cast<int>(DType::kU8); ++i) {
    const auto type = static_cast<DType>(i);
    if (accepts(spec, type, accepted)) text += fmt::format("{}{}", text.empty() ? "" : ", ", dtype_name(type));
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

void check_tensor(const GgufFile& file, const ExpectedTensor& expected, const Accepted& accepted,
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
  if (!info->type || !accepts(*expected.spec, *info->type, accepted)) {
    const std::string found =
        info->type ? std::string(dtype_name(*info->type)) : fmt::format("unknown type {}", info->ggml_type);
    problems.push_back(fmt::format("tensor {}: the {} backend accepts {}, found {}", expected.name, accepted.backend,
                                   accepted_types(*expected.spec, accepted), found));
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

std::vector<std::string> find_problems(const GgufFile& file, const Hyperparams& hyperparams, const Accepted& accepted) {
  std::vector<std::string> problems;
  for (const ExpectedTensor& expected : expected_tensors(hyperparams)) {
    const size_t before = problems.size();
    check_tensor(file, expected, accepted, problems);
    if (expected.spec->use == WeightUse::kTokenTable && problems.size() == before) {
      check_token_table(file, expected, hyperparams.n_expert, problems);
    }
  }
  return problems;
}

bool widens(const WeightSpec& spec, DType type) { return spec.use == WeightUse::kVector && type != DType::kF32; }

}  // namespace

std::vector<std::string> find_weight_problems(const GgufFile& file, const Hyperparams& hyperparams,
                                              const Backend& backend) {
  return find_problems(file, hyperparams,
                       {backend.name(), [&backend](WeightUse use, DType type) { return backend.supports(use, type); }});
}

std::vector<std::string> find_weight_problems(const GgufFile& file, const Hyperparams& hyperparams,
                                              const WeightSupport& support) {
  return find_problems(file, hyperparams, {support.backend, support.supports});
}

bool accepts_type(const WeightSpec& spec, DType type, const WeightSupport& support) {
  return accepts(spec, type, {support.backend, support.supports});
}

namespace {

template <class Wanted>
uint64_t placed_bytes(const GgufFile& file, const Hyperparams& hyperparams, const Backend& backend,
                      const Wanted& wanted) {
  uint64_t bytes = 0;
  for (const ExpectedTensor& expected : expected_tensors(hyperparams)) {
    const TensorInfo* info = file.find(expected.name);
    if (info != nullptr && info->type && wanted(*expected.spec))
      bytes += backend.placed_bytes(*info->type, info->size_bytes);
  }
  return bytes;
}

}  // namespace

uint64_t placed_weight_bytes(const GgufFile& file, const Hyperparams& hyperparams, const Backend& backend) {
  return placed_bytes(file, hyperparams, backend, [](const WeightSpec&) { return true; });
}

uint64_t placed_expert_bytes(const GgufFile& file, const Hyperparams& hyperparams, const Backend& backend) {
  return placed_bytes(file, hyperparams, backend,
                      [](const WeightSpec& spec) { return spec.use == WeightUse::kExperts; });
}

Result<ModelWeights> ModelWeights::bind(const GgufFile& file, const Hyperparams& hyperparams, Backend& backend,
                                        const WeightProgress& progress) {
  ProblemList problems;
  for (const std::string& problem : find_weight_problems(file, hyperparams, backend)) problems.add("{}", problem);
  TRY(problems.to_result(ErrorCode::kUnsupported, file.path()));

  ModelWeights weights;
  weights.layers.resize(static_cast<size_t>(hyperparams.n_stored_layer()));
  std::vector<WeightToPlace> to_place;
  std::vector<TensorView*> members;
  for (const ExpectedTensor& expected : expected_tensors(hyperparams)) {
    const TensorInfo* info = file.find(expected.name);
    if (info == nullptr) continue;  // optional
    TensorView host = file.view(*info);
    host.shape = expected.shape;
    TensorView& member = member_of(*expected.spec, weights, expected.layer);
    if (widens(*expected.spec, host.type)) {
      member = TRY(widen(host, backend, weights.widened));
    } else {
      to_place.push_back({.tensor = info, .host = host});
      members.push_back(&member);
    }
  }
  PlacedWeights placed = TRY(backend.place_weights(file, to_place, progress));
  for (size_t i = 0; i < members.size(); ++i) *members[i] = placed.views[i];
  weights.made = std::move(placed.buffers);
  return weights;
}

const TensorView& ModelWeights::view(const WeightSpec& spec, int32_t layer) const {
  return member_of(spec, *this, layer);
}

}  // namespace ds4
