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

}  // namespace ds4
