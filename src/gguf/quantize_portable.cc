#include "gguf/quantize_affine.h"
#include "gguf/quantize_blocks.h"
#include "gguf/quantize_iq2.h"

namespace ds4 {

namespace {

using Set = Simd<4>;

}  // namespace

const BlockQuantizers* portable_block_quantizers() {
  static constexpr BlockQuantizers kTable = {quantize_affine<Q2KSearch<Set>, BlockQ2_K>,
                                             quantize_affine<Q4KSearch<Set>, BlockQ4_K>, quantize_iq2_xxs<Set>};
  return &kTable;
}

}  // namespace ds4
