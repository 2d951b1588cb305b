#pragma once

// Products with few columns on ARM: a block of a weight row is unpacked once for all columns and nothing is
// interleaved. The sums are those of the panels (generic_kernels.h), bit for bit.

#include "backends/cpu/generic_kernels.h"
#include "backends/cpu/panel_kernels.h"
#include "backends/cpu/simd_neon.h"

namespace ds4::cpu {

// Unnamed: compiled with flags of its own.
namespace {

template <class Block>
float contribution(const Block& block, const int8_t* codes, const Column& column, int64_t b) {
  const int8_t* x = column.codes + b * Block::kElements;
  int32x4_t products = vdupq_n_s32(0);
  if constexpr (!BlockTraits<Block>::kIs256) {
    for (int i = 0; i < 32; i += 16)
      products = vdotq_s32(products, Neon::load_codes(codes + i), Neon::load_codes(x + i));
    const float scale = block_scale<Neon>(block) * column.scales[b];
    return scale * static_cast<float>(vaddvq_s32(products));
  } else {
    constexpr int kSub = BlockTraits<Block>::kSubElements;
    int16_t scales[16];
    int16_t mins[16];
    unpack_scales<Neon>(block, scales, mins);
#pragma GCC unroll 4
    for (int i = 0; i < 256; i += kSub) {
      int32x4_t parts = vdupq_n_s32(0);
      for (int k = i; k < i + kSub; k += 16)
        parts = vdotq_s32(parts, Neon::load_codes(codes + k), Neon::load_codes(x + k));
      products = vmlaq_n_s32(products, parts, scales[i / kSub]);
    }
    const float scale = column.scales[b];
    const float product = (scale * block_scale<Neon>(block)) * static_cast<float>(vaddvq_s32(products));
    if constexpr (BlockTraits<Block>::kHasMins) {
      int32x4_t minima = vdupq_n_s32(0);
      for (int t = 0; t < 16; t += 4)
        minima = vmlal_s16(minima, vld1_s16(mins + t), vld1_s16(column.sums + b * 16 + t));
      return product - (scale * Neon::from_f16(block.dmin)) * static_cast<float>(vaddvq_s32(minima));
    } else {
      return product;
    }
  }
}

template <class Block, int kN>
void gemv(const WeightMatrix& weight, int64_t first, int64_t last, const Column* columns) {
  const int64_t n_blocks = weight.n_in / Block::kElements;
  for (int64_t row = first; row < last; ++row) {
    const std::byte* data = weight.data + row * weight.row_bytes;
    float totals[kN] = {};
    for (int64_t b = 0; b < n_blocks; ++b) {
      const Block block = read_block<Block>(data + b * static_cast<int64_t>(sizeof(Block)));
      alignas(16) int8_t unpacked[Block::kElements];
      const int8_t* codes = unpacked;
      if constexpr (std::is_same_v<Block, BlockQ8_0>) {
        codes = block.qs;
      } else {
        unpack_codes<Neon>(block, unpacked);
      }
#pragma GCC unroll 4
      for (int c = 0; c < kN; ++c) totals[c] += contribution(block, codes, columns[c], b);
    }
    for (int c = 0; c < kN; ++c) columns[c].out[row] = totals[c];
  }
}

template <class Block>
void multiply_blocks(const WeightMatrix& weight, int64_t first, int64_t last, std::span<const Column> columns) {
  switch (columns.size()) {
    case 0: return;
    case 1: return gemv<Block, 1>(weight, first, last, columns.data());
    case 2: return gemv<Block, 2>(weight, first, last, columns.data());
    case 3: return gemv<Block, 3>(weight, first, last, columns.data());
    default: return multiply_panels<Neon, Block>(weight, first, last, columns);  // worth the interleaving
  }
}

void multiply_neon(const WeightMatrix& weight, ActivationForm form, int64_t first, int64_t last,
                   std::span<const Column> columns) {
  if (form == ActivationForm::kReal) return multiply_real<Neon>(weight, first, last, columns);
  switch (weight.type) {
    case DType::kQ8_0: return multiply_blocks<BlockQ8_0>(weight, first, last, columns);
    case DType::kMXFP4: return multiply_blocks<BlockMXFP4>(weight, first, last, columns);
    case DType::kQ2_K: return multiply_blocks<BlockQ2_K>(weight, first, last, columns);
    case DType::kQ4_K: return multiply_blocks<BlockQ4_K>(weight, first, last, columns);
    case DType::kIQ2_XXS: return multiply_blocks<BlockIQ2_XXS>(weight, first, last, columns);
    default: __builtin_unreachable();  // other types take real activations
  }
}

}  // namespace

}  // namespace ds4::cpu
