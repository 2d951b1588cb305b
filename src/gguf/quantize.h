#pragma once

// float -> block, as well as each format allows: the sum of importance * (value - stored)^2 over a row is what counts,
// and per block the codes, scales and minima are searched for with that in view. Results are the same on every machine.
//   F16, BF16  to nearest even
//   Q8_0       without importance the usual rounding: d = max |x| / 127, q = x / d half away from zero with the
//   unrounded
//              d, which is stored as F16; with importance a smaller d where it pays
//   MXFP4      scale 2^(floor(log2(max |x|)) - 2) (OCP MX) or a neighbour, elements to nearest even, saturating at 6
//   Q2_K, Q4_K gguf/quantize_affine.h        IQ2_XXS gguf/quantize_iq2.h
// Rows that came from dequantize_row keep their values in F32, F16, BF16 and MXFP4.

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
