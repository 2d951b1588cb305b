// Compiled for Cascade Lake and Zen 4 and later: AVX-512 F, BW, DQ, VL and VNNI. Few columns are faster where there are
// VBMI and GFNI too (isa_avx512_vbmi.cc).

#include "backends/cpu/isa.h"

#ifdef __AVX512VNNI__

#include "backends/cpu/attention_kernels.h"
#include "backends/cpu/gemv_x86.h"
#include "backends/cpu/simd_avx512.h"

namespace ds4::cpu {

namespace {

void multiply_with_vbmi(const WeightMatrix& weight, ActivationForm form, int64_t first, int64_t last,
                        std::span<const Column> columns) {
  if (!multiply_few_vbmi(weight, form, first, last, columns)) multiply_x86<Avx512>(weight, form, first, last, columns);
}

}  // namespace

const Kernels* avx512_kernels() {
  static constexpr Kernels kTable = {Isa::kAvx512,         quantize_q8_0<Avx512>, quantize_q8_k<Avx512>,
                                     multiply_x86<Avx512>, dot<Avx512>,           &kRowKernels<Avx512>};
  static constexpr Kernels kVbmiTable = {Isa::kAvx512,       quantize_q8_0<Avx512>, quantize_q8_k<Avx512>,
                                         multiply_with_vbmi, dot<Avx512>,           &kRowKernels<Avx512>};
  const bool runs = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                    __builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("fma") &&
                    __builtin_cpu_supports("f16c");
  if (!runs) return nullptr;
  return has_vbmi() ? &kVbmiTable : &kTable;
}

}  // namespace ds4::cpu

#else

namespace ds4::cpu {

const Kernels* avx512_kernels() { return nullptr; }

}  // namespace ds4::cpu

#endif
