#pragma once

// The stored form of KV rows (ops/kv_view.h), exact and scalar: packing is where the canonical profile rounds, and
// every backend must produce these bytes. Layout of a row, padded with zeros to row_bytes:
//   kF32  width floats
//   kFp8  E4M3 codes of the first width - n_rot values, one E8M0 scale per kFp8Group of them (the last group may be
//         short), the n_rot tail as F16
//   kFp4  E2M1 codes, two a byte, low nibble first, then one E8M0 scale per kFp4Group
// Source: docs/numerics.md 4.5, 4.6. Pure functions, any thread.

#include <cstddef>

#include "ops/kv_view.h"

namespace ds4 {

void pack_kv_row(const float* x, const KvRowFormat& format, std::byte* row);
void unpack_kv_row(const std::byte* row, const KvRowFormat& format, float* x);

// Orthonormal Walsh-Hadamard transform in natural order, in place; n a power of two.
void hadamard(float* x, int32_t n);

}  // namespace ds4
