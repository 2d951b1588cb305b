// The attention half of a layer. R rows of the batch (any mix of sequences), H heads, S streams of width D.
// A layer's ratio decides what a query sees: always the last `window` raw rows and the sink; with ratio 128 also every
// compressed row; with ratio 4 the best compressed rows that the indexer selects.

#include <array>
#include <cstddef>

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
  // hidden -> query bottleneck, this batch's raw rows [R, row_bytes], and the compressed rows of the windows that close
  // in this batch, written to their pages
  project_hidden(il);
  // query bottleneck -> query [R, H, head_dim]
  make_queries(il);

  AttentionArgs attention;
  attention.query = rows(a.query);
  attention.window_rows = rows(a.window_rows);
  attention.sinks = w.attn_sinks;
  attention.layer = kv;
  if (kv.ratio == 4) {
    // selected [R, top_k]: the compressed rows each query attends to
    select_rows(il);
    attention.selected = rows(a.selected);
    attention.n_selected = rows(a.n_selected);
  }

  // one softmax over raw rows, compressed rows and the sink -> [R, H, head_dim]; then take the rotation out of the
  // values
  ops.attend(attention, rope_table(il), batch_, cache_.memory(), rows(a.attention_out));

  // [R, H * head_dim] -> per group [R, groups * o_lora] -> [R, D], back into the streams
  const AttentionOutputArgs output{
      .heads = rows(a.attention_out).reshaped({batch_.n_rows, int64_t{h.n_head} * h.head_dim}),
      .a = w.attn_output_a,
      .n_groups = h.n_o_group,
      .lora = rows(a.o_lora),
      .b = w.attn_output_b,
      .y = rows(a.sublayer_out),
      .steer = steering(il, attn_scales_)};
  ops.attention_output(output, split(), streams());
}

void ForwardPass::project_hidden(int32_t il) {
  const LayerWeights& w = model_.weights.layers[static_cast<size_t>(il)];
  const LayerKv& kv = cache_.layout().layers[static_cast<size_t>(il)];
  const Activations& a = activations_;
  std::array<CompressArgs, 2> compressions;
  size_t n_compressions = 0;
  std::array<Product, 7> products;
  size_t n_products = 0;
  const auto project = [&](const TensorView& weight, const TensorView& out) { products[n_products++] = {weight, out}; };

  project(w.attn_q_a, rows(a.q_lora));
  project(w.attn_kv, rows(a.kv));
  if (kv.ratio != 0) {
    CompressArgs& args = compressions[n_compressions++];
    args = compression(w.attn_compressor_ape, w.attn_compressor_norm, kv.attention);
    args.kv = compressor_rows(a.compressor_kv, kv.attention);
    args.score = compressor_rows(a.compressor_score, kv.attention);
    project(w.attn_compressor_kv, args.kv);
    project(w.attn_compressor_gate, args.score);
  }
  if (kv.ratio == 4) {
    CompressArgs& args = compressions[n_compressions++];
    args = compression(w.indexer_compressor_ape, w.indexer_compressor_norm, kv.indexer);
    args.kv = compressor_rows(a.index_compressor_kv, kv.indexer);
    args.score = compressor_rows(a.index_compressor_score, kv.indexer);
    project(w.indexer_compressor_kv, args.kv);
    project(w.indexer_compressor_gate, args.score);
    project(w.indexer_proj, rows(a.index_weights));
  }
  Ops& ops = backend_.ops();
  ops.project(rows(a.hidden), std::span(products).first(n_products));
  const LatentArgs latents{.q_lora = rows(a.q_lora),
                           .q_norm = w.attn_q_a_norm,
                           .kv = rows(a.kv),
                           .kv_norm = w.attn_kv_a_norm,
                           .rope = rope_table(il),
                           .rms_epsilon = model_.hyperparams.rms_epsilon,
                           .window_format = kv.window_format,
                           .window_rows = rows(a.window_rows),
                           .compressions = std::span(compressions).first(n_compressions)};
  ops.latents(latents, batch_, cache_.memory());
}

// [R, n_lanes * width] at the front of a buffer for the widest compressor.
TensorView ForwardPass::compressor_rows(TensorView buffer, const CompressorKv& compressor) const {
  buffer.shape = {batch_.n_rows, int64_t{compressor.n_lanes} * compressor.format.width};
  return buffer;
}

CompressArgs ForwardPass::compression(const TensorView& ape, const TensorView& norm,
                                      const CompressorKv& compressor) const {
  CompressArgs args;
  args.ape = ape;
  args.norm = norm;
  args.rms_epsilon = model_.hyperparams.rms_epsilon;
  args.rope = model_.compressed_rope;
  args.compressor = compressor;
  return args;
}

void ForwardPass::make_queries(int32_t il) {
  const LayerWeights& w = model_.weights.layers[static_cast<size_t>(il)];
  const Activations& a = activations_;
  QueryArgs args{.x = rows(a.q_lora),
                 .weight = w.attn_q_b,
                 .query = rows(a.query),
                 .index_weight = {},
                 .index_query = {},
                 .rope = rope_table(il),
                 .rms_epsilon = model_.hyperparams.rms_epsilon};
  if (model_.hyperparams.ratio(il) == 4) {
    args.index_weight = w.indexer_q_b;
    args.index_query = rows(a.index_query);
  }
  backend_.ops().queries(args, batch_);
}

void ForwardPass::select_rows(int32_t il) {
  const Activations& a = activations_;
  backend_.ops().index_select({.query = rows(a.index_query),
                               .weights = rows(a.index_weights),
                               .indexer = cache_.layout().layers[static_cast<size_t>(il)].indexer,
                               .top_k = model_.hyperparams.index_top_k},
                              batch_, cache_.memory(), rows(a.selected), rows(a.n_selected));
}

}  // namespace ds4
