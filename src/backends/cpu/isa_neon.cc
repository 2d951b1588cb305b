// Compiled for ARMv8.2 and later with the dot product instructions.

#ifdef __linux__
#include <sys/auxv.h>
#endif

#include "backends/cpu/isa.h"

#ifdef __ARM_FEATURE_DOTPROD

#include "backends/cpu/attention_kernels.h"
#include "backends/cpu/gemv_neon.h"

namespace ds4::cpu {

const Kernels* neon_kernels() {
  static constexpr Kernels kTable = {Isa::kNeon,    quantize_q8_0<Neon>, quantize_q8_k<Neon>,
                                     multiply_neon, dot<Neon>,           &kRowKernels<Neon>};
#ifdef __linux__
  const bool runs = (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
  const bool runs = true;  // every ARM processor of the other systems has them
#endif
  return runs ? &kTable : nullptr;
}

}  // namespace ds4::cpu

#else

namespace ds4::cpu {

const Kernels* neon_kernels() { return nullptr; }

}  // namespace ds4::cpu

#endif
