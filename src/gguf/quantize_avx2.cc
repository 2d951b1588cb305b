// Compiled for Haswell and later, without FMA: the results must not depend on the instruction set.

#include "gguf/quantize_blocks.h"

#ifdef __AVX2__

#include "gguf/quantize_affine.h"
#include "gguf/quantize_iq2.h"

namespace ds4 {

namespace {

using Set = Simd<8>;

}  // namespace

const BlockQuantizers* avx2_block_quantizers() {
  static constexpr BlockQuantizers kTable = {quantize_affine<Q2KSearch<Set>, BlockQ2_K>,
                                             quantize_affine<Q4KSearch<Set>, BlockQ4_K>, quantize_iq2_xxs<Set>};
  return __builtin_cpu_supports("avx2") ? &kTable : nullptr;
}

}  // namespace ds4

#else

namespace ds4 {

const BlockQuantizers* avx2_block_quantizers() { return nullptr; }

}  // namespace ds4

#endif
