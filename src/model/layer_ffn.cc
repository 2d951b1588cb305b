// The FFN half of a layer: a router picks experts per token (by token id in the first layers), their outputs and the
// shared expert's are added and go back into the streams.

#include "model/forward.h"
#include "model/schedule.h"

namespace ds4 {

void ForwardPass::run_ffn(int32_t il) {
  const LayerWeights& w = model_.weights.layers[static_cast<size_t>(il)];
  const Hyperparams& h = model_.hyperparams;
  const Activations& a = activations_;
  Ops& ops = backend_.ops();

  // streams [R, S, D] -> hidden [R, D]
  mix_streams({w.hc_ffn_fn, w.hc_ffn_scale, w.hc_ffn_base}, w.ffn_norm);

  // hidden -> ids and weights [R, n_expert_used]
  ops.matmul(w.ffn_gate_inp, rows(a.hidden), rows(a.router_logits));
  ops.router({.logits = rows(a.router_logits),
              .bias = w.exp_probs_bias,
              .token_table = w.ffn_gate_tid2eid,
              .tokens = batch_.tokens,
              .weights_scale = h.expert_weights_scale},
             rows(a.expert_ids), rows(a.expert_weights));

  // routed + shared -> [R, D]
  const auto layer = static_cast<size_t>(il);
  ops.experts({.x = rows(a.hidden),
               .gate = w.ffn_gate_exps,
               .up = w.ffn_up_exps,
               .down = w.ffn_down_exps,
               .ids = rows(a.expert_ids),
               .weights = rows(a.expert_weights),
               .clamp = h.swiglu_clamp[layer]},
              rows(a.sublayer_out));
  ops.shared_expert({.x = rows(a.hidden),
                     .gate = w.ffn_gate_shexp,
                     .up = w.ffn_up_shexp,
                     .down = w.ffn_down_shexp,
                     .clamp = h.swiglu_clamp_shared[layer],
                     .gate_scratch = rows(a.shared_gate),
                     .up_scratch = rows(a.shared_up)},
                    rows(a.shared_out));
  ops.add(rows(a.sublayer_out), rows(a.shared_out), rows(a.sublayer_out));
  steer(il, ffn_scales_);
  ops.hc_expand(rows(a.sublayer_out), split(), streams());
}

}  // namespace ds4
