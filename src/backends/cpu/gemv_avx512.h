#pragma once
// size-check: templates

// Products with few columns on AVX-512 with VNNI, VBMI and GFNI. Sixteen weight rows go through a block together: their
// lanes are summed together, and floats have a lane per row, so that blocks are added in their order. Weights are
// unpacked once for up to eight columns; activations are put in the weights' order first, once for many rows.
// The sums are those of gemv_x86.h, bit for bit. Users: isa_avx512_vbmi.cc, and tests with the instructions spelled out
// in plain C++ (tests/ops/emulated).

#include <span>
#include <type_traits>

#include "backends/cpu/gemv_avx512_iq2.h"
#include "backends/cpu/gemv_avx512_types.h"

namespace ds4::cpu {

// Unnamed: compiled with flags of its own.
namespace {

// totals[c] += the products of one block, `offset` bytes into the rows.
template <class Kernel, int kN>
void add_block(const Kernel& kernel, const RowGroup& group, int64_t block, const typename Kernel::X* x,
               const float* const* scales, __m512* totals) {
  const int64_t offset = block * static_cast<int64_t>(sizeof(typename Kernel::Block));
  __m512i sums[kN];
  if constexpr (std::is_same_v<typename Kernel::X, Column256>) {
    multiply_pairs<Kernel, kN>(kernel, group, offset, block, x, sums);
  } else {
    kernel.template multiply<kN>(group, offset, block, x, sums);
  }
  if constexpr (Kernel::kHasMins) {
    __m512i minima[kN];
    Kernel::template multiply_mins<kN>(group, offset, block, x, minima);
    const __m512i factors = Kernel::factors(group, offset);
    const __m512 d = low_halves(factors);
    const __m512 dmin = high_halves(factors);
#pragma GCC unroll 8
    for (int c = 0; c < kN; ++c) {
      const __m512 scale = _mm512_set1_ps(scales[c][block]);
      const __m512 product = _mm512_mul_ps(_mm512_mul_ps(scale, d), _mm512_cvtepi32_ps(sums[c]));
      const __m512 minimum = _mm512_mul_ps(_mm512_mul_ps(scale, dmin), _mm512_cvtepi32_ps(minima[c]));
      totals[c] = _mm512_add_ps(totals[c], _mm512_sub_ps(product, minimum));
    }
  } else {
    const __m512 d = Kernel::scales(group, offset);
#pragma GCC unroll 8
    for (int c = 0; c < kN; ++c) {
      const __m512 factor = _mm512_mul_ps(_mm512_set1_ps(scales[c][block]), d);
      totals[c] = _mm512_add_ps(totals[c], _mm512_mul_ps(factor, _mm512_cvtepi32_ps(sums[c])));
    }
  }
}

template <class Kernel, int kN>
void gemv_wide(const WeightMatrix& weight, int64_t first, int64_t last, const Column* columns) {
  constexpr int64_t kBytes = sizeof(typename Kernel::Block);
  const int64_t n_blocks = weight.n_in / Kernel::Block::kElements;
  const Kernel kernel;
  typename Kernel::X x[kN];
  for (int64_t segment = 0; segment < n_blocks; segment += Kernel::X::kBlocks) {
    const int64_t n = std::min(Kernel::X::kBlocks, n_blocks - segment);
    const float* scales[kN];
    for (int c = 0; c < kN; ++c) {
      x[c].template set<Kernel>(columns[c], segment, n);
      scales[c] = columns[c].scales + segment;
    }
    for (int64_t row = first; row < last; row += kGroupRows) {
      const RowGroup group(weight.data + row * weight.row_bytes + segment * kBytes, weight.row_bytes, last - row);
      __m512 totals[kN];
      for (int c = 0; c < kN; ++c)
        totals[c] = segment == 0 ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(group.mask, columns[c].out + row);
      // Sixteen short streams are nothing that a processor would foresee: the next rows come while these are computed.
      // They are one piece only where a segment is the whole row.
      const std::byte* next = group.rows[0] + kGroupRows * weight.row_bytes;
      for (int64_t block = 0; block < n; ++block) {
        if (n == n_blocks) {
          for (int64_t line = 0; line < kGroupRows * kBytes; line += 64) _mm_prefetch(next + line, _MM_HINT_T1);
          next += kGroupRows * kBytes;
        }
        add_block<Kernel, kN>(kernel, group, block, x, scales, totals);
      }
      for (int c = 0; c < kN; ++c) _mm512_mask_storeu_ps(columns[c].out + row, group.mask, totals[c]);
    }
  }
}

// kN columns at a time as long as there are so many, then half of them.
template <class Kernel, int kN>
void multiply_wide(const WeightMatrix& weight, int64_t first, int64_t last, std::span<const Column> columns) {
  size_t c = 0;
  for (; c + kN <= columns.size(); c += kN) gemv_wide<Kernel, kN>(weight, first, last, columns.data() + c);
  if constexpr (kN > 1) {
    if (c < columns.size()) multiply_wide<Kernel, kN / 2>(weight, first, last, columns.subspan(c));
  }
}

// With more columns than this, panels (panel_kernels.h) are faster, as measured on Emerald Rapids in calls of 32 rows.
constexpr size_t most_few_columns(DType type) {
  switch (type) {
    case DType::kQ8_0: return 8;
    case DType::kMXFP4: return 16;
    case DType::kQ2_K:
    case DType::kQ4_K: return 24;
    case DType::kIQ2_XXS: return 20;
    default: return 0;
  }
}

// False, and nothing done, where panels are faster or the activations real.
inline bool multiply_few(const WeightMatrix& weight, ActivationForm form, int64_t first, int64_t last,
                         std::span<const Column> columns) {
  if (form == ActivationForm::kReal || columns.size() > most_few_columns(weight.type)) return false;
  switch (weight.type) {
    case DType::kQ8_0: multiply_wide<GemvQ8_0, 8>(weight, first, last, columns); return true;
    case DType::kMXFP4: multiply_wide<GemvMXFP4, 8>(weight, first, last, columns); return true;
    case DType::kQ2_K: multiply_wide<GemvQ2_K, 8>(weight, first, last, columns); return true;
    case DType::kQ4_K: multiply_wide<GemvQ4_K, 8>(weight, first, last, columns); return true;
    case DType::kIQ2_XXS: multiply_wide<GemvIQ2_XXS, 8>(weight, first, last, columns); return true;
    default: return false;
  }
}

}  // namespace

}  // namespace ds4::cpu
