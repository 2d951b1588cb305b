// Steps of the schedule for 1 to 16 rows, in few launches: the products that share an input are one list, and what
// follows a product is done where its sums are. Every sum is taken as in the plain ops of the same backend, so a fused
// step gives the same bits as its composition. What a kernel does not take falls back to the composition.

#include <cmath>

#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/device_weight.h"
#include "backends/cuda/kernels/gemv.h"

namespace ds4::cuda {
namespace {

constexpr int32_t kStreams = 4;  // of GemvExpand

bool few(int64_t n_rows) { return n_rows >= 1 && n_rows <= kMaxGemvRows; }

Gemv list(const TensorView& x, int64_t n_rows, int32_t n_groups = 1) {
  Gemv args;
  args.x = device_data<float>(x);
  args.n_rows = static_cast<int32_t>(n_rows);
  args.n_in = static_cast<int32_t>(x.elements() / (n_rows * n_groups));
  args.n_groups = n_groups;
  return args;
}

void put(Gemv& args, const TensorView& weight, const TensorView& out, GemvFinish finish = GemvFinish::kStore) {
  args.products[args.n_products++] = {
      device_weight(weight), {}, device_data<float>(out), static_cast<int32_t>(weight.shape[0]), finish};
}

void put_pair(Gemv& args, const SharedExpertArgs& shared) {
  put(args, shared.gate, shared.gate_scratch, GemvFinish::kSwiglu);
  args.products[args.n_products - 1].up = device_weight(shared.up);
  args.clamp = shared.clamp;
}

GemvExpand expansion(const HcSplit& split, const TensorView& streams) {
  return {device_data<float>(streams), device_data<float>(split.post), device_data<float>(split.comb)};
}

}  // namespace

// Whether gemv has the sums of this matrix in this profile.
bool CudaOps::decodes(const TensorView& weight, int64_t n_rows) const {
  if (!few(n_rows) || !is_matrix_type(weight.type)) return false;
  if (activation_form(weight.type, profile_) == ActivationForm::kReal && weight.type != DType::kF16 &&
      weight.type != DType::kBF16)
    return false;
  return gemv_takes(device_weight(weight), weight.shape.back());
}

bool CudaOps::decode_product(const TensorView& weight, const TensorView& x, int32_t n_groups, const TensorView& out) {
  const int64_t n_rows = out.shape[0];
  if (!decodes(weight, n_rows)) return false;
  Gemv args = list(x, n_rows, n_groups);
  put(args, weight, out);
  note(gemv(args, stream_), "gemv");
  return true;
}

void CudaOps::project(const TensorView& x, std::span<const Product> products) {
  const int64_t n_rows = x.shape[0];
  if (n_rows == 0) return;
  if (!few(n_rows)) return tile_project(x, products);
  Gemv args = list(x, n_rows);
  for (const Product& product : products) {
    if (!decodes(product.weight, n_rows) || args.n_products == kMaxProducts) {
      matmul(product.weight, x, product.out);
    } else {
      put(args, product.weight, product.out);
    }
  }
  if (args.n_products > 0) note(gemv(args, stream_), "project");
}

bool CudaOps::decode_shared_up(const SharedExpertArgs& shared, const TensorView* router, const TensorView& logits) {
  const int64_t n_rows = shared.x.shape[0];
  if (shared.gate.type != shared.up.type || !decodes(shared.gate, n_rows)) return false;
  Gemv args = list(shared.x, n_rows);
  if (router != nullptr) {
    if (!decodes(*router, n_rows)) return false;
    put(args, *router, logits);
  }
  put_pair(args, shared);
  note(gemv(args, stream_), "shared expert: gate and up");
  return true;
}

void CudaOps::shared_expert(const SharedExpertArgs& args, const TensorView& out) {
  if (out.elements() == 0) return;
  if (!decode_shared_up(args, nullptr, {}) && !tile_shared_up(args)) return Ops::shared_expert(args, out);
  matmul(args.down, args.gate_scratch, out);
}

void CudaOps::queries(const QueryArgs& args, const BatchView& batch) {
  const int64_t n_rows = batch.n_rows;
  if (!few(n_rows)) return Ops::queries(args, batch);
  matmul(args.weight, args.x, args.query.reshaped({n_rows, args.weight.shape[0]}));
  QueryHeads heads;
  heads.query = device_data<float>(args.query);
  heads.positions = device_data<int32_t>(batch.positions);
  heads.frequencies = device_data<float>(args.rope.inverse_frequencies);
  heads.n_frequencies = static_cast<int32_t>(args.rope.inverse_frequencies.elements());
  heads.n_rows = batch.n_rows;
  heads.n_heads = static_cast<int32_t>(args.query.shape[1]);
  heads.width = static_cast<int32_t>(args.query.shape[2]);
  heads.rms_epsilon = args.rms_epsilon;
  if (args.index_query) {
    matmul(args.index_weight, args.x, args.index_query.reshaped({n_rows, args.index_weight.shape[0]}));
    heads.index_query = device_data<float>(args.index_query);
    heads.n_index_heads = static_cast<int32_t>(args.index_query.shape[1]);
    heads.index_width = static_cast<int32_t>(args.index_query.shape[2]);
    heads.hadamard_norm = static_cast<float>(1.0 / std::sqrt(static_cast<double>(heads.index_width)));
    heads.rounds = profile_ == NumericProfile::kCanonical;
  }
  note(query_heads(heads, stream_), "query heads");
}

void CudaOps::attention_output(const AttentionOutputArgs& args, const HcSplit& split, const TensorView& streams) {
  const int64_t n_rows = streams.shape[0];
  const bool fused = few(n_rows) && streams.shape[1] == kStreams && !args.steer.scales && decodes(args.b, n_rows);
  if (!fused) return Ops::attention_output(args, split, streams);
  matmul_grouped(args.a, args.heads, args.n_groups, args.lora);
  Gemv list_of_b = list(args.lora, n_rows);
  put(list_of_b, args.b, args.y, GemvFinish::kExpand);
  list_of_b.expand = expansion(split, streams);
  note(gemv(list_of_b, stream_), "attention output");
}

RoutedUp CudaOps::routed_up_args(const ExpertsArgs& args, float* mid) const {
  RoutedUp up;
  up.router.ids = device_data<int32_t>(args.ids);
  up.router.weights = device_data<float>(args.weights);
  up.router.n_used = static_cast<int32_t>(args.ids.shape[1]);
  up.gate = device_weight(args.gate);
  up.up = device_weight(args.up);
  up.x = device_data<float>(args.x);
  up.mid = mid;
  up.n_rows = static_cast<int32_t>(args.x.shape[0]);
  up.width = static_cast<int32_t>(args.x.shape[1]);
  up.hidden = static_cast<int32_t>(args.gate.shape[1]);
  up.clamp = args.clamp;
  return up;
}

RoutedDown CudaOps::routed_down_args(const ExpertsArgs& args, const float* mid, const TensorView& out) const {
  RoutedDown down;
  down.down = device_weight(args.down);
  down.ids = device_data<int32_t>(args.ids);
  down.mid = mid;
  down.out = device_data<float>(out);
  down.n_rows = static_cast<int32_t>(args.x.shape[0]);
  down.n_used = static_cast<int32_t>(args.ids.shape[1]);
  down.width = static_cast<int32_t>(args.x.shape[1]);
  down.hidden = static_cast<int32_t>(args.gate.shape[1]);
  return down;
}

bool CudaOps::decode_experts(const ExpertsArgs& args, const TensorView& out) {
  if (!few(args.x.shape[0]) || profile_ != NumericProfile::kCanonical) return false;
  const int64_t n_mid = args.ids.elements() * args.gate.shape[1];
  float* mid = args.mid ? device_data<float>(args.mid) : mid_.get<float>(n_mid, status_);
  if (mid == nullptr) return true;  // noted
  const RoutedUp up = routed_up_args(args, mid);
  const RoutedDown down = routed_down_args(args, mid, out);
  if (!routed_up_takes(up) || !routed_down_takes(down)) return false;
  note(routed_up(up, stream_), "experts: gate and up");
  note(routed_down(down, stream_), "experts: down");
  return true;
}

void CudaOps::ffn(const FfnArgs& args, const HcSplit& split, const TensorView& streams) {
  const int64_t n_rows = streams.shape[0];
  const bool plain_case = few(n_rows) && streams.shape[1] == kStreams && !args.steer.scales &&
                          profile_ == NumericProfile::kCanonical && decodes(args.shared.down, n_rows);
  if (!plain_case) return Ops::ffn(args, split, streams);
  const int64_t n_mid = args.experts.ids.elements() * args.experts.gate.shape[1];
  float* mid = args.experts.mid ? device_data<float>(args.experts.mid) : mid_.get<float>(n_mid, status_);
  if (mid == nullptr) return;
  RoutedUp up = routed_up_args(args.experts, mid);
  up.router.logits = device_data<float>(args.router.logits);
  up.router.bias = device_data<float>(args.router.bias);
  up.router.token_table = device_data<int32_t>(args.router.token_table);
  up.router.tokens = device_data<int32_t>(args.router.tokens);
  up.router.weights_scale = args.router.weights_scale;
  up.router.n_rows = n_rows;
  up.router.n_experts = static_cast<int32_t>(args.router.logits.shape[1]);
  RoutedDown down = routed_down_args(args.experts, mid, args.y);
  down.shared_down = device_weight(args.shared.down);
  down.shared_mid = device_data<float>(args.shared.gate_scratch);
  down.expand = expansion(split, streams);
  const bool same_hidden = args.shared.gate.shape[0] == args.experts.gate.shape[1];
  if (!same_hidden || !routed_up_takes(up) || !routed_down_takes(down) ||
      !decode_shared_up(args.shared, &args.router_weight, args.router.logits))
    return Ops::ffn(args, split, streams);
  note(routed_up(up, stream_), "experts: gate and up");
  count_picks(args.experts);
  note(routed_down(down, stream_), "experts: down");
}

}  // namespace ds4::cuda
