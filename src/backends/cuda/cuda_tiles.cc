// Products for more rows than gemv takes, on tensor cores (kernels/gemm.h). Functions that return a bool do nothing and
// say so when no tile kernel takes the shape, the type or the profile; the plain kernels follow then. A row's result
// does not depend on the others of the batch, as long as there are more than kMaxGemvRows.

#include "backends/cuda/cuda_ops.h"
#include "backends/cuda/device_weight.h"

namespace ds4::cuda {
namespace {

bool many(int64_t n_rows) { return n_rows > kMaxGemvRows; }

Planes planes_of(const TensorView& view) {
  const Weight weight = device_weight(view);
  return {{weight.planes[0], weight.planes[1], weight.planes[2]}};
}

}  // namespace

TileActivations CudaOps::tile_codes(const TileInput& input, ActivationForm form, CodeScratch& scratch) {
  const int64_t n = input.n_rows * input.width;
  const bool is_32 = form == ActivationForm::kQ8_0;
  TileActivations codes;
  codes.codes = scratch.codes.get<int8_t>(n, status_);
  codes.scales = scratch.scales.get<float>(n / 32, status_);
  codes.sums = is_32 ? nullptr : reinterpret_cast<__half*>(scratch.sums.get<uint16_t>(n / 16, status_));
  codes.n_rows = input.n_rows;
  codes.width = input.width;
  if (codes.codes == nullptr || codes.scales == nullptr || (!is_32 && codes.sums == nullptr)) return {};
  note(tile_quantize({input.x, is_32 ? 32 : 256, codes}, stream_), "codes of many rows");
  return codes;
}

// The tile kernels have its sums in this profile; n_out of one group.
bool CudaOps::has_tiles(const TensorView& weight, int64_t n_rows, int64_t n_out) const {
  if (!many(n_rows) || !is_matrix_type(weight.type)) return false;
  return activation_form(weight.type, profile_) != ActivationForm::kReal && device_weight(weight).in_planes &&
         has_tile_kernel(weight_type(weight.type), n_out, weight.shape.back());
}

bool CudaOps::tile_real_product(const TensorView& weight, const TileInput& input, float* out) {
  const int64_t n_out = weight.shape[0];
  const int64_t n_in = weight.shape[1];
  const bool is_real = weight.type == DType::kF32 || weight.type == DType::kF16 || weight.type == DType::kBF16;
  if (!many(input.n_rows) || !is_real || n_in % 32 != 0) return false;
  const int64_t n_parts = real_matmul_parts(n_out, n_in);
  float* parts = n_parts == 1 ? nullptr : parts_.get<float>(n_parts * input.n_rows * n_out, status_);
  if (n_parts > 1 && parts == nullptr) return true;  // noted
  note(real_matmul(
           {weight_type(weight.type), device_data<uint8_t>(weight), input.x, out, parts, input.n_rows, n_out, n_in},
           stream_),
       "product of many rows");
  return true;
}

bool CudaOps::tile_product(const TensorView& weight, const TensorView& x, int32_t n_groups, const TensorView& out) {
  const TileInput input{device_data<float>(x), out.shape[0], x.elements() / out.shape[0]};
  if (n_groups == 1 && tile_real_product(weight, input, device_data<float>(out))) return true;
  if (!has_tiles(weight, input.n_rows, weight.shape[0] / n_groups)) return false;
  const TileActivations codes = tile_codes(input, activation_form(weight.type, profile_), codes_);
  if (codes.codes == nullptr) return true;  // noted
  note(tile_matmul({weight_type(weight.type), planes_of(weight), codes, device_data<float>(out), weight.shape[0],
                    weight.shape[1], n_groups},
                   stream_),
       "product of many rows");
  return true;
}

// As tile_product for each, the codes of x made once.
void CudaOps::tile_project(const TensorView& x, std::span<const Product> products) {
  const TileInput input{device_data<float>(x), x.shape[0], x.shape[1]};
  TileActivations codes;
  ActivationForm form = ActivationForm::kReal;
  for (const Product& product : products) {
    if (!has_tiles(product.weight, input.n_rows, product.weight.shape[0])) {
      matmul(product.weight, x, product.out);  // leaves codes_ alone: floats, or the plain kernels' own
      if (activation_form(product.weight.type, profile_) != ActivationForm::kReal) form = ActivationForm::kReal;
      continue;
    }
    const ActivationForm own = activation_form(product.weight.type, profile_);
    if (own != form) codes = tile_codes(input, own, codes_);
    form = own;
    if (codes.codes == nullptr) return;  // noted
    note(tile_matmul({weight_type(product.weight.type), planes_of(product.weight), codes,
                      device_data<float>(product.out), product.weight.shape[0], product.weight.shape[1], 1},
                     stream_),
         "product of many rows");
  }
}

bool CudaOps::tile_shared_up(const SharedExpertArgs& args) {
  const int64_t hidden = args.gate.shape[0];
  const TileInput input{device_data<float>(args.x), args.x.shape[0], args.x.shape[1]};
  if (args.gate.type != args.up.type || !has_tiles(args.gate, input.n_rows, 2 * hidden)) return false;
  const TileActivations codes = tile_codes(input, activation_form(args.gate.type, profile_), codes_);
  if (codes.codes == nullptr) return true;  // noted
  note(tile_swiglu({weight_type(args.gate.type), planes_of(args.gate), planes_of(args.up), codes,
                    device_data<float>(args.gate_scratch), hidden, args.gate.shape[1], args.clamp},
                   stream_),
       "shared expert: gate and up of many rows");
  return true;
}

bool CudaOps::tile_experts(const ExpertsArgs& args, const TensorView& out) {
  const int64_t n_rows = args.x.shape[0];
  TileExperts experts;
  experts.n_experts = args.gate.shape[0];
  experts.n_used = args.ids.shape[1];
  experts.width = args.x.shape[1];
  experts.hidden = args.gate.shape[1];
  if (args.gate.type != args.up.type || experts.n_experts > kMaxPlannedExperts ||
      !has_tiles(args.gate, n_rows, 2 * experts.hidden) || !has_tiles(args.down, n_rows, experts.width))
    return false;
  const int64_t n_pairs = n_rows * experts.n_used;
  experts.gate_type = weight_type(args.gate.type);
  experts.down_type = weight_type(args.down.type);
  experts.gate = planes_of(args.gate);
  experts.up = planes_of(args.up);
  experts.down = planes_of(args.down);
  experts.weights = device_data<float>(args.weights);
  experts.clamp = args.clamp;
  experts.mid_out = args.mid ? device_data<float>(args.mid) : mid_.get<float>(n_pairs * experts.hidden, status_);
  experts.pairs_out = parts_.get<float>(n_pairs * experts.width, status_);
  experts.plan.pairs = plan_pairs_.get<int32_t>(n_pairs + 1, status_);
  experts.plan.tiles = plan_tiles_.get<ExpertTile>(max_expert_tiles(n_pairs, experts.n_experts), status_);
  if (experts.mid_out == nullptr || experts.pairs_out == nullptr || experts.plan.pairs == nullptr ||
      experts.plan.tiles == nullptr)
    return true;  // noted
  experts.plan.n_tiles = experts.plan.pairs + n_pairs;
  experts.x = tile_codes({device_data<float>(args.x), n_rows, experts.width}, activation_form(args.gate.type, profile_),
                         codes_);
  if (experts.x.codes == nullptr) return true;
  note(plan_experts(device_data<int32_t>(args.ids), n_pairs, experts.n_experts, experts.plan, stream_),
       "experts: the plan");
  note(tile_experts_mid(experts, stream_), "experts: gate and up of many rows");
  experts.mid =
      tile_codes({experts.mid_out, n_pairs, experts.hidden}, activation_form(args.down.type, profile_), mid_codes_);
  if (experts.mid.codes == nullptr) return true;
  note(tile_experts_down(experts, stream_), "experts: down of many rows");
  note(sum_pairs({experts.pairs_out, nullptr, device_data<float>(out), n_rows, experts.n_used, experts.width}, stream_),
       "experts: the sum");
  return true;
}

}  // namespace ds4::cuda
