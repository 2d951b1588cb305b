// Plain C++ for any processor.

#include "backends/cpu/attention_kernels.h"
#include "backends/cpu/generic_kernels.h"
#include "backends/cpu/isa.h"
#include "backends/cpu/panel_kernels.h"
#include "backends/cpu/simd_portable.h"

namespace ds4::cpu {

namespace {

using S = Portable;

void multiply(const WeightMatrix& weight, ActivationForm form, int64_t first, int64_t last,
              std::span<const Column> columns) {
  if (form == ActivationForm::kReal) return multiply_real<S>(weight, first, last, columns);
  switch (weight.type) {
    case DType::kQ8_0: return multiply_panels<S, BlockQ8_0>(weight, first, last, columns);
    case DType::kMXFP4: return multiply_panels<S, BlockMXFP4>(weight, first, last, columns);
    case DType::kQ2_K: return multiply_panels<S, BlockQ2_K>(weight, first, last, columns);
    case DType::kQ4_K: return multiply_panels<S, BlockQ4_K>(weight, first, last, columns);
    case DType::kIQ2_XXS: return multiply_panels<S, BlockIQ2_XXS>(weight, first, last, columns);
    default: __builtin_unreachable();  // other types take real activations
  }
}

}  // namespace

const Kernels* portable_kernels() {
  static constexpr Kernels kTable = {Isa::kPortable, quantize_q8_0<S>, quantize_q8_k<S>,
                                     multiply,       dot<S>,           &kRowKernels<S>};
  return &kTable;
}

}  // namespace ds4::cpu
