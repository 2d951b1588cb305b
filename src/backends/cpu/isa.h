#pragma once

// One function per instruction set: its kernels, or null where they are not compiled in or the processor lacks them.

#include "backends/cpu/kernels.h"

namespace ds4::cpu {

const Kernels* portable_kernels();
const Kernels* avx2_kernels();
const Kernels* avx512_kernels();
const Kernels* amx_kernels();
const Kernels* neon_kernels();

}  // namespace ds4::cpu
