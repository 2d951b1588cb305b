// The FFN half of a layer: a router picks experts per token (by token id in the first layers), their outputs and the
// shared expert's are added and go back into the streams.

#include "model/forward.h"
#include "model/schedule.h"

namespace ds4 {

void ForwardPass::run_ffn(int32_t il) {
  const auto layer = static_cast<size_t>(il);
  const LayerWeights& w = model_.weights.layers[layer];
  const Hyperparams& h = model_.hyperparams;
  const Activations& a = activations_;

  // streams [R, S, D] -> hidden [R, D]
  mix_streams({w.hc_ffn_fn, w.hc_ffn_scale, w.hc_ffn_base}, w.ffn_norm);

  // hidden -> ids and weights [R, n_expert_used] -> routed + shared [R, D], back into the streams
  const FfnArgs ffn{.x = rows(a.hidden),
                    .router_weight = w.ffn_gate_inp,
                    .router = {.logits = rows(a.router_logits),
                               .bias = w.exp_probs_bias,
                               .token_table = w.ffn_gate_tid2eid,
                               .tokens = batch_.tokens,
                               .weights_scale = h.expert_weights_scale},
                    .experts = {.x = rows(a.hidden),
                                .gate = w.ffn_gate_exps,
                                .up = w.ffn_up_exps,
                                .down = w.ffn_down_exps,
                                .ids = rows(a.expert_ids),
                                .weights = rows(a.expert_weights),
                                .clamp = h.swiglu_clamp[layer],
                                .mid = {}},
                    .shared = {.x = rows(a.hidden),
                               .gate = w.ffn_gate_shexp,
                               .up = w.ffn_up_shexp,
                               .down = w.ffn_down_shexp,
                               .clamp = h.swiglu_clamp_shared[layer],
                               .gate_scratch = rows(a.shared_gate),
                               .up_scratch = rows(a.shared_up)},
                    .shared_out = rows(a.shared_out),
                    .y = rows(a.sublayer_out),
                    .steer = steering(il, ffn_scales_)};
  backend_.ops().ffn(ffn, split(), streams());
}

}  // namespace ds4
