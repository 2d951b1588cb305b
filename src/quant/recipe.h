#pragma once

// Which type each tensor of a new model file gets. A recipe names one type per group of tensors; `--layers 0-3=TYPE`
// overrides it for the experts of some layers, `--type PATTERN=TYPE` for tensors by name or group. A type whose blocks
// do not divide a tensor's rows is replaced by the next finer one that fits (Q8_0, else F16), and the replacement is
// reported. Used by convert, quantize and synth. Pure functions, any thread.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/tensor.h"
#include "model/weight_table.h"

namespace ds4 {

// Tensors that published files store alike.
enum class WeightGroup : uint8_t {
  kVector,        // gains, scales, offsets, biases, sinks
  kPositionBias,  // of the compressors
  kEmbedding,
  kHyperConnection,  // mixing matrices
  kCompressor,
  kIndexer,
  kRouter,
  kDense,       // attention, shared expert, draft input
  kOutput,      // vocabulary head
  kExpertsIn,   // gate and up
  kExpertsOut,  // down
};
inline constexpr size_t kWeightGroups = static_cast<size_t>(WeightGroup::kExpertsOut) + 1;

// Precondition: not the token table, which is always I32.
WeightGroup weight_group(const WeightSpec& spec);
std::string_view weight_group_name(WeightGroup group);

struct Recipe {
  std::string_view name;
  std::string_view doc;
  uint32_t file_type;  // general.file_type, as llama.cpp numbers mixes
  DType types[kWeightGroups];
  bool fine_end = false;  // Q4_K experts in the last seventh of the layers (37 to 42 of 43) and in the draft layer
};

std::span<const Recipe> recipes();
// Older names are understood too. Error: lists the recipes there are.
Result<const Recipe*> find_recipe(std::string_view name);

struct TypeOverride {
  std::string pattern;  // of GGUF or group names; * stands for any text, ? for one character
  DType type = DType::kF32;
};

// "blk.*.attn_q_b.weight=F16"
Result<TypeOverride> parse_type_override(std::string_view text);

// "0-3,40=Q4_K": the expert tensors of these layers, one override per layer.
Result<std::vector<TypeOverride>> parse_layer_override(std::string_view text);

struct TypePlan {
  std::vector<DType> types;            // one per tensor
  std::vector<std::string> fallbacks;  // one line per tensor that could not have its type
};

// The last override that matches a name counts. Error: overrides that match nothing or that the tensor cannot have.
Result<TypePlan> plan_types(std::span<const ExpectedTensor> tensors, const Recipe& recipe,
                            std::span<const TypeOverride> overrides);

}  // namespace ds4
