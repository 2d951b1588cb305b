#pragma once

// The ops of the CPU backend: loops over rows or outputs on a thread pool, around the kernels of an instruction set.
// Heavy steps have files of their own (cpu_matmul.cc, cpu_experts.cc, cpu_attention.cc, cpu_index.cc).

#include <array>
#include <vector>

#include "backends/cpu/activation_rows.h"
#include "backends/cpu/row_kernels.h"
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
  void steer(const TensorView& x, const TensorView& direction, const TensorView& scales) override;
  void hc_pre(const HcPreArgs& args, const HcSplit& split, const TensorView& out) override;
  void shared_expert(const SharedExpertArgs& args, const TensorView& out) override;

 private:
  // Slots (row, k) of one expert: n_slots of slots_ from first_slot on.
  struct ExpertSlots {
    int32_t expert = 0;
    size_t first_slot = 0;
    size_t n_slots = 0;
  };
  // n_rows rows of a sequence in the batch, from the span's row `first` on.
  struct RowBlock {
    const SequenceSpan* span;
    int32_t first;
    int32_t n_rows;
  };
  const std::vector<RowBlock>& cut_into_blocks(const BatchView& batch, int32_t block_rows);
  // A compressed row that closes in the batch.
  struct ClosingRow {
    const SequenceSpan* span;
    int32_t row;
  };
  // [positions, 2 * frequencies]: every cosine twice, every sine with minus and plus.
  struct RopeAngles {
    std::vector<float> frequencies;
    std::vector<int32_t> positions;
    std::vector<float> cosines, sines;
  };
  const RopeAngles& rope_angles(const RopeTable& table, std::span<const int32_t> positions);
  void compress_row(const CompressArgs& args, int64_t i, const RopeAngles& angles, const KvMemory& kv, float* x) const;
  // cpu_attention.cc
  bool attend_by_ranges(const AttentionArgs& args, const KvMemory& kv, const TensorView& out);
  // cpu_experts.cc
  void group_by_expert(const TensorView& ids);
  template <class Body>
  void for_expert_rows(int64_t n_out, const Body& body);
  const cpu::ActivationRows& rows_for_up(const ExpertsArgs& args) const;
  void expert_products(const ExpertsArgs& args, const ExpertSlots& group, int64_t first, int64_t last);

  ThreadPool pool_;
  const cpu::Kernels& kernels_;
  NumericProfile profile_;
  // Scratch of the ops, kept between calls so that a decode step does not allocate.
  cpu::ActivationRows rows_, gate_rows_, up_rows_;
  std::vector<cpu::Column> columns_;
  std::vector<int32_t> slots_;
  std::vector<ExpertSlots> groups_;
  std::vector<float> mid_, slot_out_;
  std::array<RopeAngles, 4> rope_angles_;  // positions of a step and of its closing rows, for two tables
  size_t next_rope_angles_ = 0;
  std::vector<ClosingRow> closing_;
  std::vector<int32_t> closing_positions_;
  std::vector<float> thread_scratch_;  // a part per thread
  std::vector<RowBlock> blocks_;
  std::vector<float> attention_sums_;  // of ranges of rows
  // Queries of index_select as cpu::IndexQueries has them, which of them have that form, and scores.
  struct IndexScratch {
    std::vector<int8_t> codes;
    std::vector<float> scales, offsets, weights, scores;
    std::vector<uint8_t> has_codes;
  };
  IndexScratch index_;
};

}  // namespace ds4
