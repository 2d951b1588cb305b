#pragma once

// Inner loops of the CPU backend, one table of functions per instruction set, chosen once when the backend is made.
// Every table computes the same bits: integer products inside a block are exact, blocks are added in ascending order,
// float sums keep the order of ops/reference/dot.h, and every operation is spelled (fma is fma, nothing is contracted).
// A result therefore depends neither on the instruction set nor on how many columns are computed together.
// Pure functions, any thread; none allocates.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/tensor.h"
#include "ops/activation_quant.h"

namespace ds4::cpu {

enum class Isa : uint8_t { kPortable, kAvx2, kAvx512, kAmx, kNeon };

std::string_view isa_name(Isa isa);
// Sets compiled in that this processor runs, slowest first; never empty.
std::vector<Isa> available_isas();

// n_in values a row, rows row_bytes apart, in any float or block type.
struct WeightMatrix {
  DType type = DType::kF32;
  const std::byte* data = nullptr;
  int64_t row_bytes = 0;
  int64_t n_in = 0;
};

// The rows of a weight from `first_row` on: the outer axes of a stack of matrices count as rows.
WeightMatrix weight_rows(const TensorView& weight, int64_t first_row = 0);

// One activation row in the form its weights want (ops/activation_quant.h), and where its products go.
struct Column {
  const float* values = nullptr;  // [n_in], kReal
  const int8_t* codes = nullptr;  // [n_in]
  const float* scales = nullptr;  // [n_in / 32] kQ8_0, [n_in / 256] kQ8_K
  const int16_t* sums = nullptr;  // of the codes of 32 (kQ8_0) or 16 (kQ8_K) consecutive values
  float* out = nullptr;           // out[o] of weight row o
};

struct RowKernels;  // row_kernels.h

struct Kernels {
  Isa isa;
  void (*quantize_q8_0)(const float* x, int64_t n, int8_t* codes, float* scales, int16_t* sums);
  void (*quantize_q8_k)(const float* x, int64_t n, int8_t* codes, float* scales, int16_t* sums);
  // column.out[o] = <weight row o, column> for o in [first, last) and every column.
  void (*multiply)(const WeightMatrix& weight, ActivationForm form, int64_t first, int64_t last,
                   std::span<const Column> columns);
  float (*dot)(const float* a, const float* b, int64_t n);
  const RowKernels* rows = nullptr;
};

// Precondition: isa is available.
const Kernels& kernels_of(Isa isa);

}  // namespace ds4::cpu
