// Compiled for Sapphire Rapids and later: AMX int8 tiles for many columns, AVX-512 for everything else.

#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "backends/cpu/isa.h"

#if defined(__AMX_INT8__) && defined(__linux__)

#include "backends/cpu/attention_kernels.h"
#include "backends/cpu/gemm_amx.h"

namespace ds4::cpu {

namespace {

// Linux hands out the tiles' state on request, to the whole process.
bool has_tiles() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  if (!__builtin_cpu_supports("amx-tile") || !__builtin_cpu_supports("amx-int8")) return false;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

// Every processor with tiles has VBMI; a virtual machine may hide it.
void multiply(const WeightMatrix& weight, ActivationForm form, int64_t first, int64_t last,
              std::span<const Column> columns) {
  if (columns.size() > kMostColumnsWithoutTiles || !multiply_few_vbmi(weight, form, first, last, columns))
    multiply_amx(weight, form, first, last, columns);
}

}  // namespace

const Kernels* amx_kernels() {
  static constexpr Kernels kTable = {Isa::kAmx, quantize_q8_0<Avx512>, quantize_q8_k<Avx512>,
                                     multiply,  dot<Avx512>,           &kRowKernels<Avx512>};
  static const bool runs = avx512_kernels() != nullptr && has_vbmi() && has_tiles();
  return runs ? &kTable : nullptr;
}

}  // namespace ds4::cpu

#else

namespace ds4::cpu {

const Kernels* amx_kernels() { return nullptr; }

}  // namespace ds4::cpu

#endif
