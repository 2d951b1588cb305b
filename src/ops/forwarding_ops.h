#pragma once

// An Ops that passes every plain op on to another: the base of what watches or replaces single ops. Fused steps are not
// passed on whole: they run as the plain ops they are made of, so that a subclass sees every matrix product.
// One thread at a time, as Ops.

#include "ops/ops.h"

namespace ds4 {

class ForwardingOps : public Ops {
 public:
  // Must outlive this object.
  explicit ForwardingOps(Ops& inner) : inner_(inner) {}

  void embed(const TensorView& table, const TensorView& tokens, const TensorView& out) override {
    inner_.embed(table, tokens, out);
  }
  void hc_init(const TensorView& x, const TensorView& streams) override { inner_.hc_init(x, streams); }
  void rms_norm(const TensorView& x, const TensorView& weight, float epsilon, const TensorView& out) override {
    inner_.rms_norm(x, weight, epsilon, out);
  }
  void matmul(const TensorView& weight, const TensorView& x, const TensorView& out) override {
    inner_.matmul(weight, x, out);
  }
  void matmul_grouped(const TensorView& weight, const TensorView& x, int32_t n_groups, const TensorView& out) override {
    inner_.matmul_grouped(weight, x, n_groups, out);
  }
  void add(const TensorView& a, const TensorView& b, const TensorView& out) override { inner_.add(a, b, out); }
  void hc_mix(const TensorView& mix, const TensorView& scale, const TensorView& base, const HcParams& params,
              const HcSplit& out) override {
    inner_.hc_mix(mix, scale, base, params, out);
  }
  void hc_reduce(const TensorView& streams, const TensorView& weights, const TensorView& out) override {
    inner_.hc_reduce(streams, weights, out);
  }
  void hc_expand(const TensorView& y, const HcSplit& split, const TensorView& streams) override {
    inner_.hc_expand(y, split, streams);
  }
  void hc_head_mix(const TensorView& mix, const TensorView& scale, const TensorView& base, float epsilon,
                   const TensorView& weights) override {
    inner_.hc_head_mix(mix, scale, base, epsilon, weights);
  }
  void rope(const TensorView& x, const TensorView& positions, const RopeTable& table, bool inverse) override {
    inner_.rope(x, positions, table, inverse);
  }
  void kv_pack(const TensorView& x, const KvRowFormat& format, const TensorView& rows) override {
    inner_.kv_pack(x, format, rows);
  }
  void compress(const CompressArgs& args, const BatchView& batch, const KvMemory& kv) override {
    inner_.compress(args, batch, kv);
  }
  void window_append(const TensorView& rows, const LayerKv& layer, const BatchView& batch,
                     const KvMemory& kv) override {
    inner_.window_append(rows, layer, batch, kv);
  }
  void index_round(const TensorView& x) override { inner_.index_round(x); }
  void index_select(const IndexSelectArgs& args, const BatchView& batch, const KvMemory& kv, const TensorView& selected,
                    const TensorView& n_selected) override {
    inner_.index_select(args, batch, kv, selected, n_selected);
  }
  void attention(const AttentionArgs& args, const BatchView& batch, const KvMemory& kv,
                 const TensorView& out) override {
    inner_.attention(args, batch, kv, out);
  }
  void router(const RouterArgs& args, const TensorView& ids, const TensorView& weights) override {
    inner_.router(args, ids, weights);
  }
  void swiglu(const TensorView& gate, const TensorView& up, float clamp, const TensorView& out) override {
    inner_.swiglu(gate, up, clamp, out);
  }
  void experts(const ExpertsArgs& args, const TensorView& out) override { inner_.experts(args, out); }
  void gather_rows(const TensorView& x, const TensorView& row_ids, const TensorView& out) override {
    inner_.gather_rows(x, row_ids, out);
  }
  void steer(const TensorView& x, const TensorView& direction, const TensorView& scales) override {
    inner_.steer(x, direction, scales);
  }

 private:
  Ops& inner_;
};

}  // namespace ds4
