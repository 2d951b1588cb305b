#include "backends/cuda/device_weight.h"

#include "backends/cuda/device_memory.h"

namespace ds4::cuda {

bool is_matrix_type(DType type) { return type != DType::kI32 && type != DType::kU8; }

WeightType weight_type(DType type) {
  switch (type) {
    case DType::kF32: return WeightType::kF32;
    case DType::kF16: return WeightType::kF16;
    case DType::kBF16: return WeightType::kBF16;
    case DType::kQ8_0: return WeightType::kQ8_0;
    case DType::kQ2_K: return WeightType::kQ2_K;
    case DType::kQ4_K: return WeightType::kQ4_K;
    case DType::kIQ2_XXS: return WeightType::kIQ2_XXS;
    case DType::kMXFP4: return WeightType::kMXFP4;
    case DType::kI32:
    case DType::kU8: break;
  }
  CHECK(false, "{} is no weight", dtype_name(type));
}

Weight device_weight(const TensorView& view) {
  CHECK(view.offset_bytes == 0, "a part of a weight has no layout");
  const int64_t n_in = view.shape.back();
  return weight_at(weight_type(view.type), device_data<uint8_t>(view), n_in == 0 ? 0 : view.elements() / n_in, n_in);
}

}  // namespace ds4::cuda
