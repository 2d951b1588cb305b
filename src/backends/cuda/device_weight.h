#pragma once

// Weights of the op interface as kernels see them. A placed weight keeps its type and shape; its bytes lie as
// kernels/weight_layout.h says.

#include "backends/cuda/kernels/weight_layout.h"
#include "base/tensor.h"

namespace ds4::cuda {

// Nothing for types that are no weights of matrices.
bool is_matrix_type(DType type);
// Precondition: is_matrix_type.
WeightType weight_type(DType type);
// Of a view of a whole placed weight, of any rank: all but the last axis are rows.
Weight device_weight(const TensorView& view);

}  // namespace ds4::cuda
