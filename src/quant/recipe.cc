#include "quant/recipe.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>

#include "gguf/dequantize.h"

namespace ds4 {

namespace {

using enum DType;

constexpr std::array<std::string_view, kWeightGroups> kGroupNames = {
    "vectors", "position biases", "embedding", "hyper-connections", "compressors", "indexer",
    "router",  "dense",           "output",    "experts gate/up",   "experts down"};

// clang-format off
constexpr std::array kRecipes = {
    //                                                                           vector ape    embed  hc     compr  index  router dense  output gate/up   down
    Recipe{"f32",    "everything F32", 0,                                        {kF32, kF32,  kF32,  kF32,  kF32,  kF32,  kF32,  kF32,  kF32,  kF32,     kF32}},
    Recipe{"bf16",   "as published checkpoints: BF16 matrices, F32 the rest", 32, {kF32, kF32,  kBF16, kF32,  kBF16, kBF16, kBF16, kBF16, kBF16, kBF16,    kBF16}},
    Recipe{"f16",    "F16 matrices, F32 the rest", 1,                            {kF32, kF32,  kF16,  kF32,  kF16,  kF16,  kF16,  kF16,  kF16,  kF16,     kF16}},
    Recipe{"q8",     "Q8_0 large matrices, BF16 small ones, F32 the rest", 7,    {kF32, kF32,  kQ8_0, kF32,  kBF16, kBF16, kBF16, kQ8_0, kQ8_0, kQ8_0,    kQ8_0}},
    Recipe{"stock",  "Q2_K experts, F32 router, Q8_0 the rest", 10,              {kF32, kQ8_0, kQ8_0, kQ8_0, kQ8_0, kQ8_0, kF32,  kQ8_0, kQ8_0, kQ2_K,    kQ2_K}},
    Recipe{"q2",     "IQ2_XXS gate/up, Q2_K down, Q8_0 dense, F16 small", 19,    {kF32, kF16,  kF16,  kF16,  kF16,  kF16,  kF16,  kQ8_0, kQ8_0, kIQ2_XXS, kQ2_K}},
    Recipe{"mixed",  "q2 with Q4_K experts in the last seventh of the layers", 19, {kF32, kF16,  kF16,  kF16,  kF16,  kF16,  kF16,  kQ8_0, kQ8_0, kIQ2_XXS, kQ2_K}, true},
    Recipe{"q2k",    "Q2_K experts, Q8_0 dense, F16 small", 10,                  {kF32, kF16,  kF16,  kF16,  kF16,  kF16,  kF16,  kQ8_0, kQ8_0, kQ2_K,    kQ2_K}},
    Recipe{"q4",     "Q4_K experts, Q8_0 dense, F16 small", 14,                  {kF32, kF16,  kF16,  kF16,  kF16,  kF16,  kF16,  kQ8_0, kQ8_0, kQ4_K,    kQ4_K}},
    Recipe{"dense4", "Q4_K experts and dense, Q8_0 output, F16 small", 14,       {kF32, kF16,  kF16,  kF16,  kF16,  kF16,  kF16,  kQ4_K, kQ8_0, kQ4_K,    kQ4_K}},
    Recipe{"mxfp4",  "MXFP4 experts, Q8_0 dense, F16 small", 38,                 {kF32, kF16,  kF16,  kF16,  kF16,  kF16,  kF16,  kQ8_0, kQ8_0, kMXFP4,   kMXFP4}},
};
// clang-format on

// Names that earlier versions gave to recipes.
constexpr std::pair<std::string_view, std::string_view> kOlderNames[] = {{"q8_0", "q8"}, {"antirez", "q2"}};

constexpr DType kFineEndType = kQ4_K;
constexpr int32_t kMaxLayer = 999;

bool contains(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

bool fits(DType type, const Shape& shape) { return shape.back() % dtype_info(type).block_elements == 0; }

// Linear: on a mismatch only the last star is tried again, one character further.
bool matches_pattern(std::string_view text, std::string_view pattern) {
  size_t t = 0, p = 0, star = std::string_view::npos, star_t = 0;
  while (t < text.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      star_t = t;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t])) {
      ++p;
      ++t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++star_t;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

std::string float_type_names() {
  std::string names;
  for (int i = 0; i <= static_cast<int>(kU8); ++i) {
    const auto type = static_cast<DType>(i);
    if (is_float_type(type)) names += fmt::format("{}{}", names.empty() ? "" : ", ", dtype_name(type));
  }
  return names;
}

std::optional<DType> float_type_from_name(std::string_view name) {
  const auto upper = [](char c) { return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c; };
  for (int i = 0; i <= static_cast<int>(kU8); ++i) {
    const auto type = static_cast<DType>(i);
    if (is_float_type(type) && std::ranges::equal(name, dtype_name(type), {}, upper, upper)) return type;
  }
  return std::nullopt;
}

// Vectors are widened when they are loaded, which covers no type with a larger block.
bool allowed(const WeightSpec& spec, DType type) {
  return spec.use != WeightUse::kVector || type == kF32 || type == kF16 || type == kBF16 || type == kQ8_0;
}

// The first layer of the fine end of a recipe that has one.
int32_t fine_end_of(std::span<const ExpectedTensor> tensors) {
  int32_t n_layer = 0;
  int32_t n_draft_layer = 0;
  for (const ExpectedTensor& tensor : tensors) {
    n_layer = std::max(n_layer, tensor.layer + 1);
    if (tensor.spec->layers == LayerSet::kNextn) n_draft_layer = 1;
  }
  n_layer -= n_draft_layer;
  return n_layer - std::max((n_layer * 6 + 21) / 43, 1);
}

DType recipe_type(const Recipe& recipe, const ExpectedTensor& tensor, int32_t fine_end) {
  const bool fine = recipe.fine_end && tensor.spec->use == WeightUse::kExperts && tensor.layer >= fine_end;
  return fine ? kFineEndType : recipe.types[static_cast<size_t>(weight_group(*tensor.spec))];
}

std::optional<int32_t> parse_layer(std::string_view text) {
  int32_t layer = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), layer);
  const bool good = error == std::errc() && end == text.data() + text.size() && layer >= 0 && layer <= kMaxLayer;
  return good ? std::optional(layer) : std::nullopt;
}

}  // namespace

WeightGroup weight_group(const WeightSpec& spec) {
  switch (spec.use) {
    case WeightUse::kVector:
      return spec.name.ends_with("_ape.weight") ? WeightGroup::kPositionBias : WeightGroup::kVector;
    case WeightUse::kEmbedding: return WeightGroup::kEmbedding;
    case WeightUse::kExperts: return contains(spec.name, "_down_") ? WeightGroup::kExpertsOut : WeightGroup::kExpertsIn;
    case WeightUse::kGroupedMatmul: return WeightGroup::kDense;
    case WeightUse::kTokenTable: break;
    case WeightUse::kMatmul:
      if (contains(spec.name, "hc_")) return WeightGroup::kHyperConnection;
      if (contains(spec.name, "compressor_")) return WeightGroup::kCompressor;
      if (spec.name.starts_with("indexer.")) return WeightGroup::kIndexer;
      if (spec.name == "output.weight") return WeightGroup::kOutput;
      return contains(spec.name, "gate_inp") ? WeightGroup::kRouter : WeightGroup::kDense;
  }
  CHECK(false, "{} has no group", spec.name);
}

std::string_view weight_group_name(WeightGroup group) { return kGroupNames[static_cast<size_t>(group)]; }

std::span<const Recipe> recipes() { return kRecipes; }

Result<const Recipe*> find_recipe(std::string_view name) {
  for (const auto& [older, current] : kOlderNames) {
    if (name == older) name = current;
  }
  std::string names;
  for (const Recipe& recipe : kRecipes) {
    if (recipe.name == name) return &recipe;
    names += fmt::format("{}{}", names.empty() ? "" : ", ", recipe.name);
  }
  return make_error(ErrorCode::kInvalidArgument, "recipe '{}': expected one of {}", name, names);
}

Result<TypeOverride> parse_type_override(std::string_view text) {
  const size_t equals = text.rfind('=');
  const auto type = equals == std::string_view::npos ? std::nullopt : float_type_from_name(text.substr(equals + 1));
  if (!type || equals == 0) {
    return make_error(ErrorCode::kInvalidArgument, "'{}': expected PATTERN=TYPE, where TYPE is one of {}", text,
                      float_type_names());
  }
  return TypeOverride{std::string(text.substr(0, equals)), *type};
}

Result<std::vector<TypeOverride>> parse_layer_override(std::string_view text) {
  const auto malformed = [text] {
    return make_error(ErrorCode::kInvalidArgument,
                      "'{}': expected layers and ranges of layers from 0 to {}, '=', and one of {}: 0-3,40=Q4_K", text,
                      kMaxLayer, float_type_names());
  };
  const size_t equals = text.find('=');
  const auto type = equals == std::string_view::npos ? std::nullopt : float_type_from_name(text.substr(equals + 1));
  if (!type) return malformed();
  std::vector<TypeOverride> overrides;
  for (size_t begin = 0; begin <= equals;) {
    const size_t end = std::min(text.find(',', begin), equals);
    const std::string_view range = text.substr(begin, end - begin);
    const size_t dash = range.find('-');
    const auto first = parse_layer(range.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : parse_layer(range.substr(dash + 1));
    if (!first || !last || *first > *last) return malformed();
    for (int32_t layer = *first; layer <= *last; ++layer) {
      overrides.push_back({fmt::format("blk.{}.ffn_*_exps.weight", layer), *type});
    }
    begin = end + 1;
  }
  return overrides;
}

Result<TypePlan> plan_types(std::span<const ExpectedTensor> tensors, const Recipe& recipe,
                            std::span<const TypeOverride> overrides) {
  TypePlan plan;
  ProblemList problems;
  std::vector<bool> used(overrides.size());
  const int32_t fine_end = fine_end_of(tensors);
  for (const ExpectedTensor& tensor : tensors) {
    if (tensor.spec->use == WeightUse::kTokenTable) {
      plan.types.push_back(kI32);
      continue;
    }
    DType type = recipe_type(recipe, tensor, fine_end);
    const std::string_view group = weight_group_name(weight_group(*tensor.spec));
    for (size_t i = 0; i < overrides.size(); ++i) {
      const std::string& pattern = overrides[i].pattern;
      if (!matches_pattern(tensor.name, pattern) && !matches_pattern(group, pattern)) continue;
      used[i] = true;
      type = overrides[i].type;
    }
    if (!allowed(*tensor.spec, type)) {
      problems.add("{} is a vector: expected F32, F16, BF16 or Q8_0, found {}", tensor.name, dtype_name(type));
    }
    const DType wanted = type;
    for (const DType finer : {kQ8_0, kF16}) {
      if (!fits(type, tensor.shape)) type = finer;
    }
    if (type != wanted) {
      plan.fallbacks.push_back(fmt::format("{} {}: {} instead of {}", tensor.name, tensor.shape.to_string(),
                                           dtype_name(type), dtype_name(wanted)));
    }
    plan.types.push_back(type);
  }
  for (size_t i = 0; i < overrides.size(); ++i) {
    if (!used[i]) problems.add("pattern '{}' matches no tensor that may change its type", overrides[i].pattern);
  }
  TRY(problems.to_result(ErrorCode::kInvalidArgument, "types"));
  return plan;
}

}  // namespace ds4
