// Compiled for Ice Lake and Zen 4 and later: products with few columns, for isa_avx512.cc and isa_amx.cc. The templates
// that those share stay out of this file: the linker keeps one copy of each, which must run without VBMI.

#include "backends/cpu/isa.h"

#if defined(__AVX512VNNI__) && defined(__AVX512VBMI__) && defined(__GFNI__)

#include "backends/cpu/gemv_avx512.h"

namespace ds4::cpu {

bool has_vbmi() { return __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("gfni"); }

bool multiply_few_vbmi(const WeightMatrix& weight, ActivationForm form, int64_t first, int64_t last,
                       std::span<const Column> columns) {
  return multiply_few(weight, form, first, last, columns);
}

}  // namespace ds4::cpu

#else

namespace ds4::cpu {

bool has_vbmi() { return false; }
bool multiply_few_vbmi(const WeightMatrix&, ActivationForm, int64_t, int64_t, std::span<const Column>) { return false; }

}  // namespace ds4::cpu

#endif
