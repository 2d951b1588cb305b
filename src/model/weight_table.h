#pragma once

// THE weight table: every tensor a model file may hold, once. It drives binding and validation (weights.h),
// synthetic models (synthetic.h), conversion from checkpoints (quant/convert.h), `ds4-gguf inspect` and
// docs/weights.md. A new tensor is one row here and one member in weights.h. Static data, any thread.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/tensor.h"
#include "model/hyperparams.h"
#include "ops/ops.h"

namespace ds4 {

struct LayerWeights;
struct ModelWeights;

// Symbolic extents; dim_value() gives the number for a model.
enum class Dim : uint8_t {
  kOne,
  kThree,
  kEmbd,
  kVocab,
  kHc,
  kHcMix,
  kHcEmbd,
  kQLora,
  kHead,
  kHeadDim,
  kHeads,
  kOGroupIn,
  kOLora,
  kRatio,
  kCompressor,
  kIndexHead,
  kIndexDim,
  kIndexHeads,
  kIndexCompressor,
  kExpert,
  kExpertUsed,
  kExpertFf,
  kSharedFf,
  kEmbdTwice,
};

// Which layers carry a tensor.
enum class LayerSet : uint8_t { kModel, kAll, kCompressed, kRatio4, kHash, kNotHash, kNextn };

struct WeightSpec {
  std::string_view name;    // GGUF name; layers put "blk.N." in front
  std::string_view native;  // name in the published checkpoint; layers put "layers.N." in front; empty: none
  std::variant<TensorView ModelWeights::*, TensorView LayerWeights::*> member;
  std::vector<Dim> shape;  // outermost first
  LayerSet layers;
  WeightUse use;
  bool required;
  std::string_view doc;
};

std::span<const WeightSpec> weight_table();

int64_t dim_value(Dim dim, const Hyperparams& hyperparams, int32_t layer);
std::string_view dim_name(Dim dim);
Shape weight_shape(const WeightSpec& spec, const Hyperparams& hyperparams, int32_t layer);
// `layer` counts stored layers: the draft layer follows the main ones. Model-wide tensors use layer -1.
bool layer_has_weight(const WeightSpec& spec, const Hyperparams& hyperparams, int32_t layer);
std::string weight_name(const WeightSpec& spec, int32_t layer);

// All tensors of a model of that shape, in file order: model-wide first, then layer by layer.
struct ExpectedTensor {
  const WeightSpec* spec = nullptr;
  int32_t layer = -1;
  std::string name;
  Shape shape;
};
std::vector<ExpectedTensor> expected_tensors(const Hyperparams& hyperparams);

// A markdown table of all weights: docs/weights.md.
std::string weights_markdown();

}  // namespace ds4
