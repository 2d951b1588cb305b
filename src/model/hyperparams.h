#pragma once

// Every size and constant of a model, read from GGUF metadata. One field table (hyperparams.cc) names key,
// member, default and accepted range, and drives reading, validation, writing and docs/hyperparams.md. Values are
// checked against ranges and each other, never against one published model. Plain values: copy freely.

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "gguf/metadata.h"

namespace ds4 {

struct Hyperparams {
  int32_t n_layer = 0;        // transformer layers of the main model
  int32_t n_nextn_layer = 0;  // draft (next-token-prediction) layers stored after them in the same file: 0 or 1
  int32_t n_ctx_train = 0;    // tokens
  int32_t n_embd = 0;
  int32_t n_vocab = 0;

  int32_t n_head = 0;
  int32_t head_dim = 0;  // of queries and of the one shared key/value head
  int32_t n_rot = 0;     // rotary tail of a head
  int32_t q_lora_rank = 0;
  int32_t o_lora_rank = 0;  // per output group
  int32_t n_o_group = 0;
  int32_t window = 0;  // raw rows a query sees, itself included
  float rms_epsilon = 0;

  std::vector<int32_t> compress_ratios;  // per layer: 0, 4 or 128
  float rope_base = 0;                   // layers with ratio 0
  float compress_rope_base = 0;          // the others, with YaRN:
  float yarn_factor = 0;
  int32_t yarn_original_ctx = 0;
  float yarn_beta_fast = 0;
  float yarn_beta_slow = 0;

  int32_t n_index_head = 0;
  int32_t index_head_dim = 0;
  int32_t index_top_k = 0;

  int32_t n_expert = 0;
  int32_t n_expert_used = 0;
  int32_t n_expert_shared = 0;
  int32_t expert_ff = 0;  // hidden width of one expert
  float expert_weights_scale = 0;
  int32_t n_hash_layer = 0;                // first layers, routed by token id
  std::vector<float> swiglu_clamp;         // per layer, routed experts; 0 = none
  std::vector<float> swiglu_clamp_shared;  // per layer, shared expert

  int32_t n_hc = 0;  // hyper-connection streams
  int32_t hc_sinkhorn_iterations = 0;
  float hc_epsilon = 0;

  // Rows of hc_*_fn: pre, post and comb weights.
  int32_t hc_mix() const { return 2 * n_hc + n_hc * n_hc; }
  int32_t n_stored_layer() const { return n_layer + n_nextn_layer; }
  int32_t ratio(int32_t layer) const { return layer < n_layer ? compress_ratios[static_cast<size_t>(layer)] : 0; }
  bool is_hash_layer(int32_t layer) const { return layer < n_hash_layer; }

  // Every missing, ill-typed, out-of-range or contradictory key at once.
  static Result<Hyperparams> read(const Metadata& metadata);
  // The keys that read() needs, as published files spell and type them.
  void write(Metadata& metadata) const;
  // Relations between fields; read() calls it. `subject` names the source in the error.
  Result<void> validate(std::string_view subject) const;
};

// A markdown table of all keys: docs/hyperparams.md.
std::string hyperparams_markdown();

}  // namespace ds4
