#include "model/activations.h"

namespace ds4 {

namespace {

struct Placement {
  TensorView* view;
  DType type;
  Shape shape;
};

std::vector<Placement> placements(Activations& a, const Hyperparams& h, const KvLayout& layout,
                                  const ForwardLimits& limits) {
  const int64_t rows = limits.batch_rows;
  const int64_t wanted = limits.logits_rows;
  const int64_t streams = h.n_hc;
  const int64_t width = h.n_embd;
  const int64_t shared_ff = int64_t{h.n_expert_shared} * h.expert_ff;
  using enum DType;
  return {
      {&a.tokens, kI32, {rows}},
      {&a.positions, kI32, {rows}},
      {&a.embedding, kF32, {rows, width}},
      {&a.streams, kF32, {rows, streams, width}},
      {&a.hc_normed, kF32, {rows, streams * width}},
      {&a.hc_mixes, kF32, {rows, h.hc_mix()}},
      {&a.split.pre, kF32, {rows, streams}},
      {&a.split.post, kF32, {rows, streams}},
      {&a.split.comb, kF32, {rows, streams, streams}},
      {&a.mixed, kF32, {rows, width}},
      {&a.hidden, kF32, {rows, width}},
      {&a.q_lora, kF32, {rows, h.q_lora_rank}},
      {&a.query, kF32, {rows, h.n_head, h.head_dim}},
      {&a.kv, kF32, {rows, h.head_dim}},
      {&a.window_rows, kU8, {rows, layout.layers.empty() ? 4 : layout.layers[0].window_format.row_bytes}},
      {&a.compressor_kv, kF32, {rows, 2 * std::max(h.head_dim, h.index_head_dim)}},
      {&a.compressor_score, kF32, {rows, 2 * std::max(h.head_dim, h.index_head_dim)}},
      {&a.index_compressor_kv, kF32, {rows, 2 * h.index_head_dim}},
      {&a.index_compressor_score, kF32, {rows, 2 * h.index_head_dim}},
      {&a.index_query, kF32, {rows, h.n_index_head, h.index_head_dim}},
      {&a.index_weights, kF32, {rows, h.n_index_head}},
      {&a.selected, kI32, {rows, h.index_top_k}},
      {&a.n_selected, kI32, {rows}},
      {&a.attention_out, kF32, {rows, h.n_head, h.head_dim}},
      {&a.o_lora, kF32, {rows, int64_t{h.n_o_group} * h.o_lora_rank}},
      {&a.sublayer_out, kF32, {rows, width}},
      {&a.attn_steering, kF32, {rows}},
      {&a.ffn_steering, kF32, {rows}},
      {&a.router_logits, kF32, {rows, h.n_expert}},
      {&a.expert_ids, kI32, {rows, h.n_expert_used}},
      {&a.expert_weights, kF32, {rows, h.n_expert_used}},
      {&a.shared_gate, kF32, {rows, shared_ff}},
      {&a.shared_up, kF32, {rows, shared_ff}},
      {&a.shared_out, kF32, {rows, width}},
      {&a.wanted_rows, kI32, {wanted}},
      {&a.wanted_streams, kF32, {wanted, streams, width}},
      {&a.wanted_normed, kF32, {wanted, streams * width}},
      {&a.wanted_mix, kF32, {wanted, streams}},
      {&a.wanted_weights, kF32, {wanted, streams}},
      {&a.wanted_hidden, kF32, {wanted, width}},
      {&a.logits, kF32, {wanted, h.n_vocab}},
  };
}

// Gives every view its place in one block of memory; the size of that block.
uint64_t place(std::span<const Placement> all) {
  uint64_t end_bytes = 0;
  for (const Placement& placement : all) {
    *placement.view = {nullptr, end_bytes, placement.type, placement.shape};
    end_bytes = (end_bytes + placement.view->size_bytes() + 63) / 64 * 64;
  }
  return end_bytes;
}

}  // namespace

uint64_t Activations::size_bytes(const Hyperparams& hyperparams, const KvLayout& layout, const ForwardLimits& limits) {
  Activations activations;
  return place(placements(activations, hyperparams, layout, limits));
}

Result<Activations> Activations::create(Backend& backend, const Hyperparams& hyperparams, const KvLayout& layout,
                                        const ForwardLimits& limits) {
  Activations activations;
  const std::vector<Placement> all = placements(activations, hyperparams, layout, limits);
  activations.memory = TRY(backend.allocate(place(all)));
  for (const Placement& placement : all) placement.view->buffer = activations.memory.get();
  return activations;
}

}  // namespace ds4
