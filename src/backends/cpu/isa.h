#pragma once

// One function per instruction set: its kernels, or null where they are not compiled in or the processor lacks them.

#include "backends/cpu/kernels.h"

namespace ds4::cpu {

const Kernels* portable_kernels();
const Kernels* avx2_kernels();
const Kernels* avx512_kernels();
const Kernels* amx_kernels();
const Kernels* neon_kernels();

// What processors with VBMI and GFNI beside the instructions of avx512_kernels do faster. False: nothing was done.
bool has_vbmi();
bool multiply_few_vbmi(const WeightMatrix& weight, ActivationForm form, int64_t first, int64_t last,
                       std::span<const Column> columns);

}  // namespace ds4::cpu
