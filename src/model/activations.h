#pragma once

// The intermediate tensors of one step, allocated once for the largest batch. Each member is sized for
// ForwardLimits::batch_rows; a step uses the leading rows through first(). Members whose lives do not overlap may
// one day share memory; today none do. Owned by ForwardPass.

#include <cstdint>
#include <memory>
#include <vector>

#include "backends/backend.h"
#include "model/hyperparams.h"
#include "model/kv_layout.h"

namespace ds4 {

struct ForwardLimits {
  int32_t batch_rows = 512;  // tokens of one step
  int32_t logits_rows = 64;  // wanted logits of one step
};

struct Activations {
  TensorView tokens, positions;                            // [R] i32
  TensorView embedding;                                    // [R, D]
  TensorView streams;                                      // [R, S, D]
  TensorView hc_normed, hc_mixes;                          // [R, S*D], [R, 2S + S*S]
  HcSplit split;                                           // [R, S], [R, S], [R, S, S]
  TensorView mixed, hidden;                                // [R, D] before and after the sub-layer's norm
  TensorView q_lora, query;                                // [R, q_lora_rank], [R, n_head, head_dim]
  TensorView kv;                                           // [R, head_dim]
  TensorView window_rows;                                  // [R, row_bytes] u8
  TensorView compressor_kv, compressor_score;              // [R, 2 head_dim]; narrower compressors use a prefix
  TensorView index_compressor_kv, index_compressor_score;  // [R, 2 index_head_dim], likewise
  TensorView index_query, index_weights;                   // [R, n_index_head, index_head_dim], [R, n_index_head]
  TensorView selected, n_selected;                         // [R, index_top_k] i32, [R] i32
  TensorView attention_out, o_lora;                        // [R, n_head, head_dim], [R, n_o_group * o_lora_rank]
  TensorView sublayer_out;                                 // [R, D]
  TensorView attn_steering, ffn_steering;                  // [R]
  TensorView router_logits;                                // [R, n_expert]
  TensorView expert_ids, expert_weights;                   // [R, n_expert_used]
  TensorView shared_gate, shared_up, shared_out;           // [R, shared ff] twice, [R, D]
  TensorView wanted_rows;                                  // [L] i32
  TensorView wanted_streams, wanted_normed;                // [L, S, D], [L, S*D]
  TensorView wanted_mix, wanted_weights;                   // [L, S]
  TensorView wanted_hidden, logits;                        // [L, D], [L, n_vocab]

  std::unique_ptr<Buffer> memory;

  // What create() will allocate.
  static uint64_t size_bytes(const Hyperparams& hyperparams, const KvLayout& layout, const ForwardLimits& limits);
  static Result<Activations> create(Backend& backend, const Hyperparams& hyperparams, const KvLayout& layout,
                                    const ForwardLimits& limits);
};

}  // namespace ds4
