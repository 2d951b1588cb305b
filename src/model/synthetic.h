#pragma once

// Models without a checkpoint: every value follows from the tensor's GGUF name by the rule "synth-v1", so that any
// program that knows the rule rebuilds the same model bit for bit and golden logits need no stored weights.
//   z(h, i) = SplitMix64 output i of seed h; h = FNV-1a-64 of the name; i counts elements in memory order
//   u = (z >> 40) * 2^-23 - 1, in [-1, 1); the value is u scaled and shifted as the kind of tensor asks, computed in
//   F64 and rounded once to F32. Expert choices of hash-routed layers and token sequences follow from z as well.
// Used by tests, benchmarks and `ds4-gguf synth`. Pure functions, any thread.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/tensor.h"
#include "gguf/metadata.h"
#include "model/hyperparams.h"

namespace ds4 {

// The sizes that distinguish synthetic models; everything else is as in the published model.
struct SyntheticShape {
  int32_t hidden = 0;
  int32_t heads = 0;
  int32_t head_dim = 0;
  int32_t rope = 0;
  int32_t q_lora = 0;
  int32_t o_groups = 0;
  int32_t o_lora = 0;
  int32_t experts = 0;
  int32_t used = 0;
  int32_t ff = 0;
  int32_t idx_heads = 0;
  int32_t idx_dim = 0;
  int32_t topk = 0;
  int32_t window = 0;
  int32_t vocab = 0;
  int32_t hash = 0;             // hash-routed layers; needs a power of two of experts
  std::vector<int32_t> ratios;  // one per layer
  bool mtp = false;             // a draft layer after them
};

// Reports every size that makes no model.
Result<Hyperparams> synthetic_hyperparams(const SyntheticShape& shape);

// Elements [first, first + out.size()) of tensor `name`, whose rows have row_elements values.
void synthetic_values(std::string_view name, int64_t row_elements, int64_t first, std::span<float> out);
// Rows of a hash-routed layer's table for the tokens from first_token on: out [tokens, n_used].
// Precondition: n_expert is a power of two, out is whole rows.
void synthetic_experts(std::string_view name, int32_t n_expert, int32_t n_used, int64_t first_token,
                       std::span<int32_t> out);
// The token sequence of the golden vectors for `configuration` ("tiny").
std::vector<int32_t> synthetic_tokens(std::string_view configuration, int32_t n_tokens, int32_t n_vocab);

struct SyntheticFile {
  // One per expected_tensors(), where the token tables are I32; empty: F32. Blocks must divide the rows.
  std::vector<DType> types;
  Metadata metadata;  // written after the model's own keys: a vocabulary, a name
};

Result<void> write_synthetic_model(const Hyperparams& hyperparams, const SyntheticFile& file, const std::string& path);

}  // namespace ds4
