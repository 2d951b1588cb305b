#pragma once

// An Ops that passes every call on and keeps the time it took, for a table of where a step goes. Matrix products are
// told apart by type and shape, with the weight bytes they read and their multiply-adds; experts are counted as the
// rows really chose them. Where ops are only enqueued, each is waited for, which costs what overlaps otherwise: the
// table says where time goes, not how long a step takes. One thread.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "ops/ops.h"

namespace ds4 {

struct OpProfile {
  std::string name;  // "matmul Q8_0 [32768, 1024]"
  uint64_t calls = 0;
  int64_t us = 0;
  uint64_t weight_bytes = 0;  // read at least
  uint64_t macs = 0;
};

// What is different about ops that run on a device.
struct ProfileTarget {
  std::function<void()> finish;                                           // waits for them; empty: they run at once
  std::function<void(const TensorView&, std::span<std::byte>)> download;  // empty: views are host memory
  bool whole_steps = false;  // fused steps are timed as they are, not as the plain ops they are made of
};

class ProfileOps final : public Ops {
 public:
  // Both must outlive this object.
  ProfileOps(Ops& ops, const Clock& clock, ProfileTarget target = {})
      : ops_(ops), clock_(clock), target_(std::move(target)) {}

  // Most time first.
  std::vector<OpProfile> profile() const;
  // Sum over all calls of experts() of the distinct experts used, and the calls.
  uint64_t distinct_experts() const { return distinct_experts_; }
  uint64_t expert_calls() const { return expert_calls_; }
  void reset();

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
  void hc_pre(const HcPreArgs& args, const HcSplit& split, const TensorView& out) override;
  void shared_expert(const SharedExpertArgs& args, const TensorView& out) override;
  void sublayer_input(const SublayerInputArgs& args, const HcSplit& split, const TensorView& out) override;
  void project(const TensorView& x, std::span<const Product> products) override;
  void latents(const LatentArgs& args, const BatchView& batch, const KvMemory& kv) override;
  void queries(const QueryArgs& args, const BatchView& batch) override;
  void attend(const AttentionArgs& args, const RopeTable& rope, const BatchView& batch, const KvMemory& kv,
              const TensorView& out) override;
  void attention_output(const AttentionOutputArgs& args, const HcSplit& split, const TensorView& streams) override;
  void ffn(const FfnArgs& args, const HcSplit& split, const TensorView& streams) override;

 private:
  struct Work {
    TensorView weight;  // names the entry, with its type and shape; may be empty
    uint64_t weight_bytes = 0;
    uint64_t macs = 0;
    void add(const Work& more) {
      weight_bytes += more.weight_bytes;
      macs += more.macs;
    }
  };
  struct Entry {
    const char* op;
    TensorView weight;
    OpProfile total;
  };
  static Work matrix_work(const TensorView& weight, int64_t n_rows);
  static Work shared_work(const SharedExpertArgs& args);
  // Counts the distinct experts too; ids are known.
  Work expert_work(const ExpertsArgs& args);
  template <class Call>
  void timed(const char* op, const Work& work, const Call& call);
  Entry& entry(const char* op, const TensorView& weight);

  Ops& ops_;
  const Clock& clock_;
  ProfileTarget target_;
  std::vector<Entry> entries_;
  uint64_t distinct_experts_ = 0;
  uint64_t expert_calls_ = 0;
};

}  // namespace ds4
