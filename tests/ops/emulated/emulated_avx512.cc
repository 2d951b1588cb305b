#include "ops/emulated/emulated_kernels.h"

#ifdef __AVX2__

#include "ops/emulated/avx512_names.h"

// A name of its own: the library holds the real one.
#define Avx512 EmulatedAvx512
#include "backends/cpu/gemv_x86.h"
#include "backends/cpu/simd_avx512.h"

namespace ds4::test {

const cpu::Kernels* emulated_avx512_kernels() {
  using S = cpu::EmulatedAvx512;
  static constexpr cpu::Kernels kTable = {cpu::Isa::kAvx512,    cpu::quantize_q8_0<S>, cpu::quantize_q8_k<S>,
                                          cpu::multiply_x86<S>, cpu::dot<S>,           cpu::add_scaled<S>};
  const bool runs = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  return runs ? &kTable : nullptr;
}

}  // namespace ds4::test

#else

namespace ds4::test {

const cpu::Kernels* emulated_avx512_kernels() { return nullptr; }

}  // namespace ds4::test

#endif
