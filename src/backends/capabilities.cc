#include "backends/capabilities.h"

#include "gguf/dequantize.h"

namespace ds4 {

namespace {

// Both backends have every float type as a matrix; vectors are widened when a model is loaded.
bool supports(WeightUse use, DType type) {
  switch (use) {
    case WeightUse::kVector: return type == DType::kF32;
    case WeightUse::kTokenTable: return type == DType::kI32;
    case WeightUse::kMatmul:
    case WeightUse::kGroupedMatmul:
    case WeightUse::kExperts:
    case WeightUse::kEmbedding: return is_float_type(type);
  }
  return false;
}

// Planes begin at multiples of this, and a weight has at most three.
constexpr uint64_t kPlaneSlackBytes = 3 * 256;

}  // namespace

WeightSupport cpu_weight_support() { return {"cpu", supports}; }
WeightSupport cuda_weight_support() { return {"cuda", supports}; }

uint64_t cuda_weight_bytes(DType type, uint64_t file_bytes) {
  uint64_t percent = 0;  // more than in the file
  switch (type) {
    case DType::kIQ2_XXS: percent = 7; break;  // explicit signs and a scale as 4 bytes for 8 nibbles
    case DType::kQ4_K: percent = 3; break;     // scales and minima as bytes
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kQ8_0:
    case DType::kQ2_K:
    case DType::kMXFP4:
    case DType::kI32:
    case DType::kU8: break;
  }
  return file_bytes + (file_bytes * percent + 99) / 100 + kPlaneSlackBytes;
}

}  // namespace ds4
