#pragma once

// float -> block by direct rounding, without importance weights: right and reproducible, not the best
// quality that a format allows. Rows that came from dequantize_row keep their values in F32, F16, BF16, MXFP4.
//   Q8_0    d = max |x| / 127; q = x / d rounded half away from zero with the unrounded d; d stored as F16
//   MXFP4   scale 2^(floor(log2(max |x|)) - 2) (OCP MX), elements to nearest even, saturating at 6
//   Q2_K    per 16: minimum (at most 0) and step = range / 3; 4-bit scale and minimum under F16 d, dmin
//   Q4_K    per 32: minimum (at most 0) and step = range / 15; 6-bit scale and minimum under F16 d, dmin
//   IQ2_XXS per 8: nearest grid entry with an even number of minus signs; per 32: best of the 16 scales

#include <cstddef>
#include <cstdint>

#include "base/tensor.h"

namespace ds4 {

// source [n_elements] f32, finite and within the range of the format's F16 scales; out: row_bytes(type,
// n_elements) bytes, any address. Types as in dequantize_row. Precondition: whole blocks.
// importance [n_elements], not negative, weighs the squared error of every element; null: all equal.
void quantize_row(DType type, const float* source, const float* importance, std::byte* out, int64_t n_elements);
inline void quantize_row(DType type, const float* source, std::byte* out, int64_t n_elements) {
  quantize_row(type, source, nullptr, out, n_elements);
}

}  // namespace ds4
