#pragma once

// What backends can do and what they need, for programs that have no such device or were built without it. Pure
// functions, any thread.

#include <cstdint>
#include <string_view>

#include "base/tensor.h"
#include "ops/ops.h"

namespace ds4 {

// A backend's answer to "can a weight of that type be used so?", under its name.
struct WeightSupport {
  std::string_view backend;
  bool (*supports)(WeightUse use, DType type) = nullptr;
};

WeightSupport cpu_weight_support();
WeightSupport cuda_weight_support();

// Device memory of a weight that has file_bytes in the file: the CUDA backend takes quantised blocks apart into planes
// that are read in aligned pieces.
uint64_t cuda_weight_bytes(DType type, uint64_t file_bytes);

}  // namespace ds4
