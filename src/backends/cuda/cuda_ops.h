#pragma once

// The ops of the CUDA backend: each checks nothing that its contract promises, translates views to device addresses
// and enqueues kernels on one stream. Failures are noted in the DeviceStatus and work after them is skipped.

#include <cuda_runtime_api.h>

#include <vector>

#include "backends/cuda/device_memory.h"
#include "backends/cuda/expert_paging.h"
#include "backends/cuda/kernels/fused_steps.h"
#include "backends/cuda/kernels/gemm.h"
#include "backends/cuda/kernels/gemv.h"
#include "backends/cuda/kernels/kernels.h"
#include "ops/activation_quant.h"
#include "ops/ops.h"

namespace ds4::cuda {

// The positions that launches over a batch are made for: more than its last, a power of two, so that steps in a row
// share one record.
int64_t position_bound(const BatchView& batch);

class CudaOps final : public Ops {
 public:
  CudaOps(cudaStream_t stream, DeviceStatus& status, NumericProfile profile)
      : stream_(stream), status_(status), profile_(profile) {}

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
  // cuda_steps.cc
  void sublayer_input(const SublayerInputArgs& args, const HcSplit& split, const TensorView& out) override;
  void latents(const LatentArgs& args, const BatchView& batch, const KvMemory& kv) override;
  void attend(const AttentionArgs& args, const RopeTable& rope, const BatchView& batch, const KvMemory& kv,
              const TensorView& out) override;

  // cuda_decode.cc
  void shared_expert(const SharedExpertArgs& args, const TensorView& out) override;
  void project(const TensorView& x, std::span<const Product> products) override;
  void queries(const QueryArgs& args, const BatchView& batch) override;
  void attention_output(const AttentionOutputArgs& args, const HcSplit& split, const TensorView& streams) override;
  void ffn(const FfnArgs& args, const HcSplit& split, const TensorView& streams) override;

  // Picks of experts are counted for it; null: nobody wants to know.
  void use_paging(const ExpertPaging* paging) { paging_ = paging; }
  // Uploads what ops on this batch read of its spans.
  void place_rows(const BatchView& batch) { (void)places(batch); }

 private:
  // For 1 to 16 rows (cuda_decode.cc). Those that return a bool do nothing and say so when they have no kernel.
  bool decodes(const TensorView& weight, int64_t n_rows) const;
  bool decode_product(const TensorView& weight, const TensorView& x, int32_t n_groups, const TensorView& out);
  bool decode_shared_up(const SharedExpertArgs& shared, const TensorView* router, const TensorView& logits);
  bool decode_experts(const ExpertsArgs& args, const TensorView& out);
  RoutedUp routed_up_args(const ExpertsArgs& args, float* mid) const;
  RoutedDown routed_down_args(const ExpertsArgs& args, const float* mid, const TensorView& out) const;

  // Codes of activations, kept until the next use of the same.
  struct CodeScratch {
    Scratch codes, scales, sums;
  };
  Activations quantised(const float* x, int64_t n, ActivationForm form, CodeScratch& scratch);

  // For more rows (cuda_tiles.cc), likewise.
  struct TileInput {
    const float* x;
    int64_t n_rows, width;
  };
  TileActivations tile_codes(const TileInput& input, ActivationForm form, CodeScratch& scratch);
  bool has_tiles(const TensorView& weight, int64_t n_rows, int64_t n_out) const;
  bool tile_real_product(const TensorView& weight, const TileInput& input, float* out);
  bool tile_product(const TensorView& weight, const TensorView& x, int32_t n_groups, const TensorView& out);
  void tile_project(const TensorView& x, std::span<const Product> products);
  bool tile_shared_up(const SharedExpertArgs& args);
  bool tile_experts(const ExpertsArgs& args, const TensorView& out);

  const RowPlace* places(const BatchView& batch);
  struct RowRange {
    int64_t first, n;
  };
  void attend_rows(const Attend& attend, const RowRange& rows, bool appends);
  void attend_spans(const Attend& attend, const BatchView& batch);
  void count_picks(const ExpertsArgs& args);
  void note(cudaError_t error, const char* op) { status_.note(error, op); }

  cudaStream_t stream_;
  DeviceStatus& status_;
  NumericProfile profile_;
  const ExpertPaging* paging_ = nullptr;
  CodeScratch codes_, up_codes_, mid_codes_;
  Scratch mid_, scores_, places_;
  Scratch parts_, plan_pairs_, plan_tiles_;
  Scratch prepared_queries_, range_sums_, range_tops_, unpacked_rows_;
  std::vector<SequenceSpan> placed_spans_;  // of places_
};

}  // namespace ds4::cuda
