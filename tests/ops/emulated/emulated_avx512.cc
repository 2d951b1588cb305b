#include "ops/emulated/emulated_kernels.h"

#ifdef __AVX2__

#include "ops/emulated/avx512_names.h"

// A name of its own: the library holds the real one.
#define Avx512 EmulatedAvx512
#include "backends/cpu/attention_kernels.h"
#include "backends/cpu/gemm_amx.h"
#include "backends/cpu/gemv_avx512.h"

namespace ds4::test {

namespace {

using S = cpu::EmulatedAvx512;

// As isa_avx512.cc and isa_amx.cc have them.
void multiply_with_vbmi(const cpu::WeightMatrix& weight, ActivationForm form, int64_t first, int64_t last,
                        std::span<const cpu::Column> columns) {
  if (!cpu::multiply_few(weight, form, first, last, columns)) cpu::multiply_x86<S>(weight, form, first, last, columns);
}
void multiply_with_tiles(const cpu::WeightMatrix& weight, ActivationForm form, int64_t first, int64_t last,
                         std::span<const cpu::Column> columns) {
  if (columns.size() > cpu::kMostColumnsWithoutTiles || !cpu::multiply_few(weight, form, first, last, columns))
    cpu::multiply_amx(weight, form, first, last, columns);
}

constexpr cpu::Kernels kAvx512Table = {cpu::Isa::kAvx512,    cpu::quantize_q8_0<S>, cpu::quantize_q8_k<S>,
                                       cpu::multiply_x86<S>, cpu::dot<S>,           &cpu::kRowKernels<S>};
constexpr cpu::Kernels kVbmiTable = {cpu::Isa::kAvx512,  cpu::quantize_q8_0<S>, cpu::quantize_q8_k<S>,
                                     multiply_with_vbmi, cpu::dot<S>,           &cpu::kRowKernels<S>};
constexpr cpu::Kernels kAmxTable = {cpu::Isa::kAmx,      cpu::quantize_q8_0<S>, cpu::quantize_q8_k<S>,
                                    multiply_with_tiles, cpu::dot<S>,           &cpu::kRowKernels<S>};

bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

}  // namespace

const cpu::Kernels* emulated_avx512_kernels() { return has_avx2() ? &kAvx512Table : nullptr; }
const cpu::Kernels* emulated_vbmi_kernels() { return has_avx2() ? &kVbmiTable : nullptr; }
const cpu::Kernels* emulated_amx_kernels() { return has_avx2() ? &kAmxTable : nullptr; }

}  // namespace ds4::test

#else

namespace ds4::test {

const cpu::Kernels* emulated_avx512_kernels() { return nullptr; }
const cpu::Kernels* emulated_vbmi_kernels() { return nullptr; }
const cpu::Kernels* emulated_amx_kernels() { return nullptr; }

}  // namespace ds4::test

#endif
