#pragma once

// The model's weights as named views in a backend's memory. bind() is one loop over the weight table: it checks
// presence, shape and type of every tensor against the hyper-parameters and the backend before it places a byte,
// and reports all problems together. Vectors (norms, scales, biases, position biases) are widened to F32 here so
// that ops see one type. Views live as long as the GgufFile, the Backend and this object. Read-only after bind().

#include <memory>
#include <vector>

#include "backends/backend.h"
#include "backends/capabilities.h"
#include "base/tensor.h"
#include "gguf/reader.h"
#include "model/hyperparams.h"

namespace ds4 {

struct WeightSpec;

struct LayerWeights {
  TensorView hc_attn_fn, hc_attn_scale, hc_attn_base;
  TensorView attn_norm;
  TensorView attn_q_a, attn_q_a_norm, attn_q_b;
  TensorView attn_kv, attn_kv_a_norm;
  TensorView attn_sinks;
  TensorView attn_output_a, attn_output_b;
  TensorView attn_compressor_kv, attn_compressor_gate, attn_compressor_ape, attn_compressor_norm;
  TensorView indexer_q_b, indexer_proj;
  TensorView indexer_compressor_kv, indexer_compressor_gate, indexer_compressor_ape, indexer_compressor_norm;
  TensorView hc_ffn_fn, hc_ffn_scale, hc_ffn_base;
  TensorView ffn_norm;
  TensorView ffn_gate_inp, exp_probs_bias, ffn_gate_tid2eid;
  TensorView ffn_gate_exps, ffn_up_exps, ffn_down_exps;
  TensorView ffn_gate_shexp, ffn_up_shexp, ffn_down_shexp;
  TensorView nextn_eh_proj, nextn_enorm, nextn_hnorm, nextn_shared_head_norm;
  TensorView nextn_hc_head_fn, nextn_hc_head_base, nextn_hc_head_scale;
};

struct ModelWeights {
  TensorView token_embd, output_norm, output;
  TensorView output_hc_fn, output_hc_base, output_hc_scale;
  std::vector<LayerWeights> layers;              // n_stored_layer: the draft layer, when the file has one, is the last
  std::vector<std::unique_ptr<Buffer>> widened;  // storage of vectors that were not F32 in the file
  std::vector<std::unique_ptr<Buffer>> made;     // and of what the file's generator made

  // `progress` may be empty.
  static Result<ModelWeights> bind(const GgufFile& file, const Hyperparams& hyperparams, Backend& backend,
                                   const WeightProgress& progress = {});
  // The member of a row of the weight table; empty when the file has no such tensor. `layer` as in weight_table.h.
  const TensorView& view(const WeightSpec& spec, int32_t layer) const;
};

// Every reason why `file` would not load on a backend with these capabilities; empty when it would.
// Looks at metadata, the tensor directory and the token tables only.
std::vector<std::string> find_weight_problems(const GgufFile& file, const Hyperparams& hyperparams,
                                              const Backend& backend);
std::vector<std::string> find_weight_problems(const GgufFile& file, const Hyperparams& hyperparams,
                                              const WeightSupport& support);
// One answer: whether a tensor's row of the weight table takes that type.
bool accepts_type(const WeightSpec& spec, DType type, const WeightSupport& support);

// What bind() will take of the backend's own memory.
uint64_t placed_weight_bytes(const GgufFile& file, const Hyperparams& hyperparams, const Backend& backend);
// Of these, the routed experts.
uint64_t placed_expert_bytes(const GgufFile& file, const Hyperparams& hyperparams, const Backend& backend);

}  // namespace ds4
