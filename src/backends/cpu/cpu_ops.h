#pragma once

// The ops of the CPU backend: loops over rows or outputs on a thread pool. Heavy steps have files of their own
// (cpu_matmul.cc, cpu_experts.cc, cpu_attention.cc); light ones call the reference's float functions row by row.

#include <vector>

#include "backends/cpu/activation_rows.h"
#include "backends/cpu/kernels.h"
#include "base/thread_pool.h"
#include "ops/ops.h"

namespace ds4 {

class CpuOps : public Ops {
 public:
  CpuOps(const ThreadPoolOptions& threads, const cpu::Kernels& kernels, NumericProfile profile)
      : pool_(threads), kernels_(kernels), profile_(profile) {}

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

 private:
  // Slots (row, k) of one expert: n_slots of slots_ from first_slot on.
  struct ExpertSlots {
    int32_t expert = 0;
    size_t first_slot = 0;
    size_t n_slots = 0;
  };
  // cpu_experts.cc
  void group_by_expert(const TensorView& ids);
  template <class Body>
  void for_expert_rows(int64_t n_out, const Body& body);
  const cpu::ActivationRows& rows_for_up(const ExpertsArgs& args) const;
  void expert_products(const ExpertsArgs& args, const ExpertSlots& group, int64_t first, int64_t last);

  ThreadPool pool_;
  const cpu::Kernels& kernels_;
  NumericProfile profile_;
  // Scratch of matmul and experts, kept between calls so that a decode step does not allocate.
  cpu::ActivationRows rows_, gate_rows_, up_rows_;
  std::vector<cpu::Column> columns_;
  std::vector<int32_t> slots_;
  std::vector<ExpertSlots> groups_;
  std::vector<float> mid_, slot_out_;
};

}  // namespace ds4
