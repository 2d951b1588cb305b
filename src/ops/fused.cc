// Definitions of the fused ops in terms of the plain ones; conformance compares a backend's own kernel with these.

#include "ops/ops.h"

namespace ds4 {

void Ops::hc_pre(const HcPreArgs& args, const HcSplit& split, const TensorView& out) {
  const TensorView flat = args.streams.reshaped(args.normed_scratch.shape);
  rms_norm(flat, {}, args.rms_epsilon, args.normed_scratch);
  matmul(args.fn, args.normed_scratch, args.mix_scratch);
  hc_mix(args.mix_scratch, args.scale, args.base, args.params, split);
  hc_reduce(args.streams, split.pre, out);
}

void Ops::shared_expert(const SharedExpertArgs& args, const TensorView& out) {
  matmul(args.gate, args.x, args.gate_scratch);
  matmul(args.up, args.x, args.up_scratch);
  swiglu(args.gate_scratch, args.up_scratch, args.clamp, args.gate_scratch);
  matmul(args.down, args.gate_scratch, out);
}

void Ops::sublayer_input(const SublayerInputArgs& args, const HcSplit& split, const TensorView& out) {
  hc_pre(args.pre, split, args.mixed);
  rms_norm(args.mixed, args.norm, args.pre.rms_epsilon, out);
}

void Ops::project(const TensorView& x, std::span<const Product> products) {
  for (const Product& product : products) matmul(product.weight, x, product.out);
}

void Ops::latents(const LatentArgs& args, const BatchView& batch, const KvMemory& kv) {
  rms_norm(args.q_lora, args.q_norm, args.rms_epsilon, args.q_lora);
  rms_norm(args.kv, args.kv_norm, args.rms_epsilon, args.kv);
  rope(args.kv.reshaped({batch.n_rows, 1, args.kv.shape.back()}), batch.positions, args.rope, /*inverse=*/false);
  kv_pack(args.kv, args.window_format, args.window_rows);
  for (const CompressArgs& compression : args.compressions) compress(compression, batch, kv);
}

void Ops::queries(const QueryArgs& args, const BatchView& batch) {
  const int64_t rows = batch.n_rows;
  matmul(args.weight, args.x, args.query.reshaped({rows, args.query.shape[1] * args.query.shape[2]}));
  const TensorView heads = args.query.reshaped({rows * args.query.shape[1], args.query.shape[2]});
  rms_norm(heads, {}, args.rms_epsilon, heads);
  rope(args.query, batch.positions, args.rope, /*inverse=*/false);
  if (!args.index_query) return;
  matmul(args.index_weight, args.x, args.index_query.reshaped({rows, args.index_weight.shape[0]}));
  rope(args.index_query, batch.positions, args.rope, /*inverse=*/false);
  index_round(args.index_query);
}

void Ops::attend(const AttentionArgs& args, const RopeTable& rope_table, const BatchView& batch, const KvMemory& kv,
                 const TensorView& out) {
  attention(args, batch, kv, out);
  window_append(args.window_rows, args.layer, batch, kv);
  rope(out, batch.positions, rope_table, /*inverse=*/true);
}

void Ops::attention_output(const AttentionOutputArgs& args, const HcSplit& split, const TensorView& streams) {
  matmul_grouped(args.a, args.heads, args.n_groups, args.lora);
  matmul(args.b, args.lora, args.y);
  if (args.steer.scales) steer(args.y, args.steer.direction, args.steer.scales);
  hc_expand(args.y, split, streams);
}

void Ops::ffn(const FfnArgs& args, const HcSplit& split, const TensorView& streams) {
  matmul(args.router_weight, args.x, args.router.logits);
  router(args.router, args.experts.ids, args.experts.weights);
  experts(args.experts, args.y);
  shared_expert(args.shared, args.shared_out);
  add(args.y, args.shared_out, args.y);
  if (args.steer.scales) steer(args.y, args.steer.direction, args.steer.scales);
  hc_expand(args.y, split, streams);
}

}  // namespace ds4
