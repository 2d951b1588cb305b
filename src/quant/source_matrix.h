#pragma once

// Matrices of published checkpoints as rows of floats. Sources: F32, F16 and BF16 as they are; FP8, an E4M3 matrix with
// one E8M0 scale per 128 x 128 tile; FP4, bytes of two E2M1 codes (the even element in the low nibble) with one E8M0
// scale per 32 inputs. A scale lies in a tensor of its own, named like the matrix with ".scale" for ".weight".
// Everything is checked when the matrix is looked up, so decoding cannot fail. Views of a Checkpoint; any thread.

#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "quant/safetensors.h"

namespace ds4 {

struct SourceMatrix {
  const SourceTensor* weight = nullptr;
  const SourceTensor* scale = nullptr;  // FP8 and FP4 only
  int64_t n_rows = 0;
  int64_t row_elements = 0;

  bool is_fp4() const { return weight->type == SourceType::kI8 || weight->type == SourceType::kU8; }
};

// Dimensions of extent 1 aside: writers drop or keep them as they like.
bool same_shape(const Shape& a, const Shape& b);

// The matrix of that name when it has the wanted shape (dimensions of extent 1 aside) in a form listed above; otherwise
// a problem is added. `wanted` is the shape of the values; a vector is one row.
std::optional<SourceMatrix> find_source_matrix(const Checkpoint& checkpoint, std::string_view name, const Shape& wanted,
                                               ProblemList& problems);

// out [row_elements]. Precondition: 0 <= row < n_rows.
void decode_row(const SourceMatrix& matrix, int64_t row, std::span<float> out);

// An FP4 row as MXFP4 blocks: the same codes and scales in another order. Precondition: is_fp4(); out holds the row.
void repack_row_as_mxfp4(const SourceMatrix& matrix, int64_t row, std::byte* out);

}  // namespace ds4
