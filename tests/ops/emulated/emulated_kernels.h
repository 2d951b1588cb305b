#pragma once

// Kernels of instruction sets that this processor may lack: the same templates, with each instruction spelled out in
// plain C++. They prove the arithmetic of a set, not that the compiler's instructions are what they are said to be.

#include "backends/cpu/kernels.h"

namespace ds4::test {

// Null where the build cannot hold them: they need an x86-64 with AVX2 for the instructions that are not new.
const cpu::Kernels* emulated_avx512_kernels();
const cpu::Kernels* emulated_vbmi_kernels();  // the former with VBMI and GFNI
const cpu::Kernels* emulated_amx_kernels();

}  // namespace ds4::test
