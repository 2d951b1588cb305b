#include "backends/cuda/cuda_ops.h"

#include <algorithm>
#include <bit>
#include <cmath>

#include "backends/cuda/device_weight.h"
#include "backends/cuda/kv_arguments.h"

namespace ds4::cuda {
namespace {

bool operator_equal(const SequenceSpan& a, const SequenceSpan& b) {
  return a.slot == b.slot && a.first_row == b.first_row && a.n_rows == b.n_rows && a.first_position == b.first_position;
}

}  // namespace

int64_t position_bound(const BatchView& batch) {
  constexpr int64_t kLeast = 2048;  // up to here every compressed row of the published model is selected
  int64_t end = kLeast;
  for (const SequenceSpan& span : batch.spans) end = std::max<int64_t>(end, int64_t{span.first_position} + span.n_rows);
  return static_cast<int64_t>(std::bit_ceil(static_cast<uint64_t>(end)));
}

Activations CudaOps::quantised(const float* x, int64_t n, ActivationForm form, CodeScratch& scratch) {
  if (form == ActivationForm::kReal) return {x, nullptr, nullptr};
  auto* codes = scratch.codes.get<int8_t>(n, status_);
  auto* scales = scratch.scales.get<float>(n / 32, status_);
  if (codes == nullptr || scales == nullptr) return {x, nullptr, nullptr};
  note(quantize(x, n, form == ActivationForm::kQ8_0 ? 32 : 256, codes, scales, stream_), "quantize");
  return {x, codes, scales};
}

const RowPlace* CudaOps::places(const BatchView& batch) {
  auto* places = places_.get<RowPlace>(std::max(batch.n_rows, 1), status_);
  if (places == nullptr) return nullptr;
  if (std::ranges::equal(batch.spans, placed_spans_, operator_equal)) return places;
  placed_spans_.assign(batch.spans.begin(), batch.spans.end());
  std::vector<RowPlace> rows;
  for (const SequenceSpan& span : batch.spans) {
    for (int32_t i = 0; i < span.n_rows; ++i) {
      rows.push_back(
          {span.slot, span.first_position + i, span.first_row, span.first_position, span.first_position + span.n_rows});
    }
  }
  // From pageable memory: the bytes were taken when it returns.
  note(cudaMemcpyAsync(places, rows.data(), rows.size() * sizeof(RowPlace), cudaMemcpyHostToDevice, stream_),
       "places of rows");
  return places;
}

void CudaOps::embed(const TensorView& table, const TensorView& tokens, const TensorView& out) {
  if (out.elements() == 0) return;
  note(cuda::embed(
           {device_weight(table), device_data<int32_t>(tokens), device_data<float>(out), out.shape[0], out.shape[1]},
           stream_),
       "embed");
}

void CudaOps::hc_init(const TensorView& x, const TensorView& streams) {
  if (x.elements() == 0) return;
  note(cuda::hc_init(device_data<float>(x), device_data<float>(streams), x.shape[0],
                     static_cast<int32_t>(streams.shape[1]), x.shape[1], stream_),
       "hc_init");
}

void CudaOps::rms_norm(const TensorView& x, const TensorView& weight, float epsilon, const TensorView& out) {
  if (x.elements() == 0) return;
  note(cuda::rms_norm({device_data<float>(x), device_data<float>(weight), epsilon, device_data<float>(out), x.shape[0],
                       x.elements() / x.shape[0]},
                      stream_),
       "rms_norm");
}

void CudaOps::matmul(const TensorView& weight, const TensorView& x, const TensorView& out) {
  matmul_grouped(weight, x, 1, out);
}

void CudaOps::matmul_grouped(const TensorView& weight, const TensorView& x, int32_t n_groups, const TensorView& out) {
  if (out.elements() == 0) return;
  if (decode_product(weight, x, n_groups, out) || tile_product(weight, x, n_groups, out)) return;
  const Activations activations =
      quantised(device_data<float>(x), x.elements(), activation_form(weight.type, profile_), codes_);
  note(cuda::matmul({device_weight(weight), activations, device_data<float>(out), out.shape[0], weight.shape[0],
                     weight.shape[1], n_groups},
                    stream_),
       "matmul");
}

void CudaOps::add(const TensorView& a, const TensorView& b, const TensorView& out) {
  if (out.elements() == 0) return;
  note(cuda::add(device_data<float>(a), device_data<float>(b), device_data<float>(out), out.elements(), stream_),
       "add");
}

void CudaOps::hc_mix(const TensorView& mix, const TensorView& scale, const TensorView& base, const HcParams& params,
                     const HcSplit& out) {
  if (mix.elements() == 0) return;
  CHECK(params.n_streams <= kMaxStreams, "{} streams, at most {}", params.n_streams, kMaxStreams);
  note(cuda::hc_mix({device_data<float>(mix), device_data<float>(scale), device_data<float>(base),
                     device_data<float>(out.pre), device_data<float>(out.post), device_data<float>(out.comb),
                     mix.shape[0], params.n_streams, params.sinkhorn_iterations, params.epsilon},
                    stream_),
       "hc_mix");
}

void CudaOps::hc_reduce(const TensorView& streams, const TensorView& weights, const TensorView& out) {
  if (out.elements() == 0) return;
  note(
      cuda::hc_reduce({device_data<float>(streams), out.shape[0], out.shape[1], static_cast<int32_t>(streams.shape[1])},
                      device_data<float>(weights), device_data<float>(out), stream_),
      "hc_reduce");
}

void CudaOps::hc_expand(const TensorView& y, const HcSplit& split, const TensorView& streams) {
  if (y.elements() == 0) return;
  note(cuda::hc_expand({device_data<float>(streams), y.shape[0], y.shape[1], static_cast<int32_t>(streams.shape[1])},
                       device_data<float>(y), device_data<float>(split.post), device_data<float>(split.comb), stream_),
       "hc_expand");
}

void CudaOps::hc_head_mix(const TensorView& mix, const TensorView& scale, const TensorView& base, float epsilon,
                          const TensorView& weights) {
  if (mix.elements() == 0) return;
  note(cuda::hc_head_mix({device_data<float>(mix), device_data<float>(scale), device_data<float>(base), epsilon,
                          device_data<float>(weights), mix.shape[0], static_cast<int32_t>(mix.shape[1])},
                         stream_),
       "hc_head_mix");
}

void CudaOps::rope(const TensorView& x, const TensorView& positions, const RopeTable& table, bool inverse) {
  if (x.elements() == 0) return;
  note(cuda::rope(
           {device_data<float>(x), device_data<int32_t>(positions), device_data<float>(table.inverse_frequencies),
            x.shape[0], x.shape[1], x.shape[2], static_cast<int32_t>(table.inverse_frequencies.elements()), inverse},
           stream_),
       "rope");
}

void CudaOps::kv_pack(const TensorView& x, const KvRowFormat& format, const TensorView& rows) {
  if (x.elements() == 0) return;
  note(cuda::kv_pack(device_data<float>(x), kv_format(format), device_data<uint8_t>(rows), x.shape[0], stream_),
       "kv_pack");
}

void CudaOps::compress(const CompressArgs& args, const BatchView& batch, const KvMemory& kv) {
  if (batch.n_rows == 0) return;
  const RowPlace* places = this->places(batch);
  if (places != nullptr) note(cuda::compress(compress_arguments(args, batch, kv, places), stream_), "compress");
}

void CudaOps::window_append(const TensorView& rows, const LayerKv& layer, const BatchView& batch, const KvMemory& kv) {
  if (batch.n_rows == 0) return;
  if (const RowPlace* places = this->places(batch); places != nullptr)
    note(cuda::window_append(window(rows, layer), places, batch.n_rows, kv_pages(kv), stream_), "window_append");
}

void CudaOps::index_round(const TensorView& x) {
  if (x.elements() == 0 || profile_ == NumericProfile::kExact) return;
  const auto width = static_cast<int32_t>(x.shape.back());
  note(cuda::index_round(device_data<float>(x), x.elements() / width, width, hadamard_norm(width), stream_),
       "index_round");
}

void CudaOps::attention(const AttentionArgs& args, const BatchView& batch, const KvMemory& kv, const TensorView& out) {
  if (batch.n_rows == 0) return;
  CHECK(args.query.shape[2] <= kMaxHeadWidth, "heads of {}, at most {}", args.query.shape[2], kMaxHeadWidth);
  const RowPlace* places = this->places(batch);
  if (places != nullptr) note(cuda::attention(attention_arguments(args, batch, kv, places, out), stream_), "attention");
}

void CudaOps::router(const RouterArgs& args, const TensorView& ids, const TensorView& weights) {
  if (ids.elements() == 0) return;
  note(cuda::router({device_data<float>(args.logits), device_data<float>(args.bias),
                     device_data<int32_t>(args.token_table), device_data<int32_t>(args.tokens),
                     device_data<int32_t>(ids), device_data<float>(weights), args.weights_scale, ids.shape[0],
                     static_cast<int32_t>(args.logits.shape[1]), static_cast<int32_t>(ids.shape[1])},
                    stream_),
       "router");
}

void CudaOps::swiglu(const TensorView& gate, const TensorView& up, float clamp, const TensorView& out) {
  if (out.elements() == 0) return;
  note(cuda::swiglu(device_data<float>(gate), device_data<float>(up), clamp, device_data<float>(out), out.elements(),
                    stream_),
       "swiglu");
}

void CudaOps::count_picks(const ExpertsArgs& args) {
  uint32_t* picks = paging_ == nullptr ? nullptr : paging_->picks(args.gate.buffer);
  if (picks != nullptr)
    note(cuda::count_picks(device_data<int32_t>(args.ids), args.ids.elements(), picks, stream_), "count_picks");
}

void CudaOps::experts(const ExpertsArgs& args, const TensorView& out) {
  if (out.elements() == 0) return;
  count_picks(args);
  if (decode_experts(args, out) || tile_experts(args, out)) return;
  Experts experts;
  experts.gate = device_weight(args.gate);
  experts.up = device_weight(args.up);
  experts.down = device_weight(args.down);
  experts.ids = device_data<int32_t>(args.ids);
  experts.weights = device_data<float>(args.weights);
  experts.clamp = args.clamp;
  experts.out = device_data<float>(out);
  experts.n_rows = args.x.shape[0];
  experts.n_used = args.ids.shape[1];
  experts.width = args.x.shape[1];
  experts.hidden = args.gate.shape[1];
  const int64_t n_mid = experts.n_rows * experts.n_used * experts.hidden;
  experts.mid = args.mid ? device_data<float>(args.mid) : mid_.get<float>(n_mid, status_);
  if (experts.mid == nullptr) return;

  const auto* x = device_data<float>(args.x);
  const ActivationForm gate_form = activation_form(args.gate.type, profile_);
  const ActivationForm up_form = activation_form(args.up.type, profile_);
  experts.gate_x = quantised(x, args.x.elements(), gate_form, codes_);
  experts.up_x = up_form == gate_form ? experts.gate_x : quantised(x, args.x.elements(), up_form, up_codes_);
  note(experts_mid(experts, stream_), "experts: gate and up");
  experts.mid_x = quantised(experts.mid, n_mid, activation_form(args.down.type, profile_), mid_codes_);
  note(experts_down(experts, stream_), "experts: down");
}

void CudaOps::gather_rows(const TensorView& x, const TensorView& row_ids, const TensorView& out) {
  if (out.elements() == 0) return;
  note(cuda::gather_rows(device_data<float>(x), device_data<int32_t>(row_ids), device_data<float>(out), out.shape[0],
                         out.elements() / out.shape[0], stream_),
       "gather_rows");
}

void CudaOps::steer(const TensorView& x, const TensorView& direction, const TensorView& scales) {
  if (x.elements() == 0) return;
  note(cuda::steer(device_data<float>(x), device_data<float>(direction), device_data<float>(scales), x.shape[0],
                   x.elements() / x.shape[0], stream_),
       "steer");
}

}  // namespace ds4::cuda
