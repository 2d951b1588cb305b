// The attention half of a layer. R rows of the batch (any mix of sequences), H heads, S streams of width D.
// A layer's ratio decides what a query sees: always the last `window` raw rows and the sink; with ratio 128 also every
// compressed row; with ratio 4 the best compressed rows that the indexer selects.

#include "model/forward.h"
#include "model/schedule.h"

namespace ds4 {

void ForwardPass::run_attention(int32_t il) {
  const LayerWeights& w = model_.weights.layers[static_cast<size_t>(il)];
  const LayerKv& kv = cache_.layout().layers[static_cast<size_t>(il)];
  const Hyperparams& h = model_.hyperparams;
  const Activations& a = activations_;
  Ops& ops = backend_.ops();

  // streams [R, S, D] -> hidden [R, D]
  mix_streams({w.hc_attn_fn, w.hc_attn_scale, w.hc_attn_base}, w.attn_norm);
  // hidden -> query [R, H, head_dim] and this batch's raw rows [R, row_bytes]
  project_queries(il);
  project_window_rows(il);

  // hidden -> compressed rows of the windows that close in this batch, written to their pages
  AttentionArgs attention;
  attention.query = rows(a.query);
  attention.window_rows = rows(a.window_rows);
  attention.sinks = w.attn_sinks;
  attention.layer = kv;
  if (kv.ratio != 0) {
    run_compressor({w.attn_compressor_kv, w.attn_compressor_gate, w.attn_compressor_ape, w.attn_compressor_norm},
                   kv.attention);
  }
  if (kv.ratio == 4) {
    run_compressor(
        {w.indexer_compressor_kv, w.indexer_compressor_gate, w.indexer_compressor_ape, w.indexer_compressor_norm},
        kv.indexer);
    // query bottleneck -> selected [R, top_k], the compressed rows each query attends to
    select_rows(il);
    attention.selected = rows(a.selected);
    attention.n_selected = rows(a.n_selected);
  }

  // one softmax over raw rows, compressed rows and the sink -> [R, H, head_dim]; then take the rotation out of the
  // values
  ops.attention(attention, batch_, cache_.memory(), rows(a.attention_out));
  ops.window_append(rows(a.window_rows), kv, batch_, cache_.memory());
  ops.rope(rows(a.attention_out), batch_.positions, rope_table(il), /*inverse=*/true);

  // [R, H * head_dim] -> per group [R, groups * o_lora] -> [R, D], back into the streams
  const TensorView heads = rows(a.attention_out).reshaped({batch_.n_rows, int64_t{h.n_head} * h.head_dim});
  ops.matmul_grouped(w.attn_output_a, heads, h.n_o_group, rows(a.o_lora));
  ops.matmul(w.attn_output_b, rows(a.o_lora), rows(a.sublayer_out));
  steer(il, attn_scales_);
  ops.hc_expand(rows(a.sublayer_out), split(), streams());
}

void ForwardPass::project_queries(int32_t il) {
  const LayerWeights& w = model_.weights.layers[static_cast<size_t>(il)];
  const Hyperparams& h = model_.hyperparams;
  const TensorView q_lora = rows(activations_.q_lora);
  const TensorView query = rows(activations_.query);
  const TensorView flat = query.reshaped({batch_.n_rows, int64_t{h.n_head} * h.head_dim});
  const TensorView heads = query.reshaped({int64_t{batch_.n_rows} * h.n_head, h.head_dim});
  Ops& ops = backend_.ops();

  ops.matmul(w.attn_q_a, rows(activations_.hidden), q_lora);
  ops.rms_norm(q_lora, w.attn_q_a_norm, h.rms_epsilon, q_lora);
  ops.matmul(w.attn_q_b, q_lora, flat);
  ops.rms_norm(heads, {}, h.rms_epsilon, heads);
  ops.rope(query, batch_.positions, rope_table(il), /*inverse=*/false);
}

void ForwardPass::project_window_rows(int32_t il) {
  const LayerWeights& w = model_.weights.layers[static_cast<size_t>(il)];
  const Hyperparams& h = model_.hyperparams;
  const TensorView kv = rows(activations_.kv);
  Ops& ops = backend_.ops();

  ops.matmul(w.attn_kv, rows(activations_.hidden), kv);
  ops.rms_norm(kv, w.attn_kv_a_norm, h.rms_epsilon, kv);
  ops.rope(kv.reshaped({batch_.n_rows, 1, h.head_dim}), batch_.positions, rope_table(il), /*inverse=*/false);
  ops.kv_pack(kv, cache_.layout().layers[static_cast<size_t>(il)].window_format, rows(activations_.window_rows));
}

void ForwardPass::run_compressor(const CompressorWeights& weights, const CompressorKv& compressor) {
  const Shape shape{batch_.n_rows, int64_t{compressor.n_lanes} * compressor.format.width};
  // Narrower compressors use the front of the buffer.
  const auto narrowed = [&](TensorView view) {
    view.shape = shape;
    return view;
  };
  const TensorView kv = narrowed(activations_.compressor_kv);
  const TensorView score = narrowed(activations_.compressor_score);
  Ops& ops = backend_.ops();

  ops.matmul(weights.kv, rows(activations_.hidden), kv);
  ops.matmul(weights.gate, rows(activations_.hidden), score);
  ops.compress({.kv = kv,
                .score = score,
                .ape = weights.ape,
                .norm = weights.norm,
                .rms_epsilon = model_.hyperparams.rms_epsilon,
                .rope = model_.compressed_rope,
                .compressor = compressor},
               batch_, cache_.memory());
}

void ForwardPass::select_rows(int32_t il) {
  const LayerWeights& w = model_.weights.layers[static_cast<size_t>(il)];
  const Hyperparams& h = model_.hyperparams;
  const TensorView query = rows(activations_.index_query);
  Ops& ops = backend_.ops();

  ops.matmul(w.indexer_q_b, rows(activations_.q_lora),
             query.reshaped({batch_.n_rows, int64_t{h.n_index_head} * h.index_head_dim}));
  ops.rope(query, batch_.positions, rope_table(il), /*inverse=*/false);
  ops.index_round(query);
  ops.matmul(w.indexer_proj, rows(activations_.hidden), rows(activations_.index_weights));
  ops.index_select({.query = query,
                    .weights = rows(activations_.index_weights),
                    .indexer = cache_.layout().layers[static_cast<size_t>(il)].indexer,
                    .top_k = h.index_top_k},
                   batch_, cache_.memory(), rows(activations_.selected), rows(activations_.n_selected));
}

}  // namespace ds4
