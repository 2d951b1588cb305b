#pragma once

// Block -> float, exact: the definition that every kernel is tested against. All products are exact in
// F32 (at most 22 significant bits); Q2_K and Q4_K round once, in the subtraction of the minimum.

#include <cstddef>
#include <cstdint>

#include "base/tensor.h"

namespace ds4 {

// source: one row of `type` (F32, F16, BF16, Q8_0, Q2_K, Q4_K, IQ2_XXS, MXFP4), any address;
// out [n_elements] f32. Precondition: n_elements is a multiple of the type's block.
void dequantize_row(DType type, const std::byte* source, float* out, int64_t n_elements);

// The types that dequantize_row takes.
bool is_float_type(DType type);

}  // namespace ds4
