// Compiled for Haswell and later: AVX2, FMA, F16C.

#include "backends/cpu/isa.h"

#ifdef __AVX2__

#include "backends/cpu/attention_kernels.h"
#include "backends/cpu/gemv_x86.h"
#include "backends/cpu/simd_avx2.h"

namespace ds4::cpu {

const Kernels* avx2_kernels() {
  static constexpr Kernels kTable = {Isa::kAvx2,         quantize_q8_0<Avx2>, quantize_q8_k<Avx2>,
                                     multiply_x86<Avx2>, dot<Avx2>,           &kRowKernels<Avx2>};
  const bool runs = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  return runs ? &kTable : nullptr;
}

}  // namespace ds4::cpu

#else

namespace ds4::cpu {

const Kernels* avx2_kernels() { return nullptr; }

}  // namespace ds4::cpu

#endif
