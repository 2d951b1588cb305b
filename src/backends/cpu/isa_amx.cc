// Compiled for Sapphire Rapids and later: AMX int8 tiles for many columns, AVX-512 for everything else.

#include "backends/cpu/isa.h"

#if defined(__AMX_INT8__) && defined(__linux__)

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "backends/cpu/attention_kernels.h"
#include "backends/cpu/gemm_amx.h"

namespace ds4::cpu {

namespace {

// Linux hands out the tiles' state on request, to the whole process.
bool has_tiles() {
  constexpr unsigned kTile = 1u << 24;
  constexpr unsigned kInt8 = 1u << 25;
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  unsigned a = 0;
  unsigned b = 0;
  unsigned c = 0;
  unsigned d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (d & kTile) == 0 || (d & kInt8) == 0) return false;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

}  // namespace

const Kernels* amx_kernels() {
  static constexpr Kernels kTable = {Isa::kAmx,   quantize_q8_0<Avx512>, quantize_q8_k<Avx512>, multiply_amx,
                                     dot<Avx512>, add_scaled<Avx512>,    &kRowKernels<Avx512>};
  static const bool runs = avx512_kernels() != nullptr && has_tiles();
  return runs ? &kTable : nullptr;
}

}  // namespace ds4::cpu

#else

namespace ds4::cpu {

const Kernels* amx_kernels() { return nullptr; }

}  // namespace ds4::cpu

#endif
