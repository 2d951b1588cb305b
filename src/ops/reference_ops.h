#pragma once

// The oracle: every op over host memory, one row after the other, from the templates of ops/reference/. With
// Real = double it is what other backends are tested against, with Real = float it is the canonical arithmetic. No
// threads, no fused kernels, no attention to speed. Values between ops are F32 in either case.

#include "ops/ops.h"

namespace ds4 {

template <class Real>
class ReferenceOps : public Ops {
 public:
  explicit ReferenceOps(NumericProfile profile) : profile_(profile) {}

  void embed(const TensorView& table, const TensorView& tokens, const TensorView& out) override;
  void hc_init(const TensorView& x, const TensorView& streams) override;
  void rms_norm(const TensorView& x, const TensorView& weight, float epsilon, const TensorView& out) override;
  void matmul(const TensorView& weight, const TensorView& x, const TensorView& out) override;
  void matmul_grouped(const TensorView& weight, const TensorView& x, int32_t n_groups, const TensorView& out) override;
  void add(const TensorView& a, const TensorView& b, const TensorView& out) override;
  void hc_mix(const TensorView& mix, const TensorView& scale, const TensorView& base, const HcParams& params,
              const HcSplit& out) override;
  void hc_reduce(const TensorView& streams, const TensorView& weights, const TensorView& out) override;
  void hc_expand(const TensorView& y, const HcSplit& split, const TensorView& streams) override;
  void hc_head_mix(const TensorView& mix, const TensorView& scale, const TensorView& base, float epsilon,
                   const TensorView& weights) override;
  void rope(const TensorView& x, const TensorView& positions, const RopeTable& table, bool inverse) override;
  void kv_pack(const TensorView& x, const KvRowFormat& format, const TensorView& rows) override;
  void compress(const CompressArgs& args, const BatchView& batch, const KvMemory& kv) override;
  void window_append(const TensorView& rows, const LayerKv& layer, const BatchView& batch, const KvMemory& kv) override;
  void index_round(const TensorView& x) override;
  void index_select(const IndexSelectArgs& args, const BatchView& batch, const KvMemory& kv, const TensorView& selected,
                    const TensorView& n_selected) override;
  void attention(const AttentionArgs& args, const BatchView& batch, const KvMemory& kv, const TensorView& out) override;
  void router(const RouterArgs& args, const TensorView& ids, const TensorView& weights) override;
  void swiglu(const TensorView& gate, const TensorView& up, float clamp, const TensorView& out) override;
  void experts(const ExpertsArgs& args, const TensorView& out) override;
  void gather_rows(const TensorView& x, const TensorView& row_ids, const TensorView& out) override;
  void steer(const TensorView& x, const TensorView& direction, const TensorView& scales) override;

 private:
  NumericProfile profile_;
};

extern template class ReferenceOps<float>;
extern template class ReferenceOps<double>;

}  // namespace ds4
