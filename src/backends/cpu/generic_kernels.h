#pragma once

// The kernels of every instruction set, as templates over a struct S of vector operations (simd_*.h):
//   F, I            kLanes floats, kLanes 32-bit integers
//   kColumns        activation rows that a panel kernel multiplies at once
//   dot_32, ...     products of 8-bit codes of a panel with broadcast codes of activations
//   reduce16        the fixed tree over 16 partial sums
// Weights meet many columns through panels: kLanes weight rows unpacked and interleaved, so that a lane is a weight row
// and sums over blocks run in their order without any reduction across lanes.

#include <cstring>

#include "backends/cpu/block_codes.h"
#include "backends/cpu/kernels.h"
#include "base/float_formats.h"
#include "gguf/dequantize.h"

namespace ds4::cpu {

template <class S>
void quantize_q8_0(const float* x, int64_t n, int8_t* codes, float* scales) {
  constexpr int kVectors = 32 / S::kLanes;
  for (int64_t block = 0; block < n / 32; ++block) {
    typename S::F values[kVectors];
    typename S::F top = S::zero();
    for (int v = 0; v < kVectors; ++v) {
      values[v] = S::load(x + block * 32 + v * S::kLanes);
      top = S::max(top, S::abs(values[v]));
    }
    const float scale = S::reduce_max(top) / 127.0f;
    const float reciprocal = 1.0f / scale;
    const float inverse = reciprocal <= __FLT_MAX__ ? reciprocal : 0.0f;
    scales[block] = scale;
    for (int v = 0; v < kVectors; ++v)
      S::store_codes(S::mul(values[v], S::set1(inverse)), codes + block * 32 + v * S::kLanes);
  }
}

template <class S>
void quantize_q8_k(const float* x, int64_t n, int8_t* codes, float* scales, int16_t* sums) {
  for (int64_t block = 0; block < n / 256; ++block) {
    const float* values = x + block * 256;
    int8_t* block_codes = codes + block * 256;
    typename S::F top = S::zero();
    for (int i = 0; i < 256; i += S::kLanes) top = S::max(top, S::abs(S::load(values + i)));
    const float magnitude = S::reduce_max(top);
    int first = 0;  // of that magnitude; its sign counts
    while (first < 255 && __builtin_fabsf(values[first]) != magnitude) ++first;
    const float reciprocal = -127.0f / values[first];
    const bool is_usable = magnitude > 0.0f && __builtin_fabsf(reciprocal) <= __FLT_MAX__;
    const float inverse = is_usable ? reciprocal : 0.0f;
    scales[block] = is_usable ? 1.0f / inverse : 0.0f;
    for (int i = 0; i < 256; i += S::kLanes)
      S::store_codes(S::mul(S::load(values + i), S::set1(inverse)), block_codes + i);
    for (int t = 0; t < 16; ++t) {
      int sum = 0;
      for (int i = 0; i < 16; ++i) sum += block_codes[16 * t + i];
      sums[block * 16 + t] = static_cast<int16_t>(sum);
    }
  }
}

// Float products.

struct F32Values {
  static constexpr int kBytes = 4;
  template <class S>
  static typename S::F load(const std::byte* p) {
    return S::load(reinterpret_cast<const float*>(p));
  }
  static float at(const std::byte* p) {
    float value;
    std::memcpy(&value, p, sizeof(value));
    return value;
  }
};
struct F16Values {
  static constexpr int kBytes = 2;
  template <class S>
  static typename S::F load(const std::byte* p) {
    return S::load_f16(p);
  }
  static float at(const std::byte* p) {
    uint16_t bits;
    std::memcpy(&bits, p, sizeof(bits));
    return f16_to_f32(bits);
  }
};
struct BF16Values {
  static constexpr int kBytes = 2;
  template <class S>
  static typename S::F load(const std::byte* p) {
    return S::load_bf16(p);
  }
  static float at(const std::byte* p) {
    uint16_t bits;
    std::memcpy(&bits, p, sizeof(bits));
    return bf16_to_f32(bits);
  }
};

// out(r, c, <row r, column c>) for kR weight rows and kC columns: element i goes into partial sum i mod 16.
template <class S, class Values, int kR, int kC, class Out>
void dot_tile(const std::byte* weights, int64_t row_bytes, const float* const* x, int64_t n, const Out& out) {
  constexpr int kVectors = 16 / S::kLanes;
  typename S::F sums[kR][kC][kVectors];
  for (int r = 0; r < kR; ++r) {
    for (int c = 0; c < kC; ++c) {
      for (int v = 0; v < kVectors; ++v) sums[r][c][v] = S::zero();
    }
  }
  const int64_t n_whole = n / 16 * 16;
  for (int64_t i = 0; i < n_whole; i += 16) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      typename S::F w[kR];
#pragma GCC unroll 4
      for (int r = 0; r < kR; ++r)
        w[r] = Values::template load<S>(weights + r * row_bytes + (i + v * S::kLanes) * Values::kBytes);
#pragma GCC unroll 4
      for (int c = 0; c < kC; ++c) {
        const typename S::F values = S::load(x[c] + i + v * S::kLanes);
#pragma GCC unroll 4
        for (int r = 0; r < kR; ++r) sums[r][c][v] = S::fma(w[r], values, sums[r][c][v]);
      }
    }
  }
  for (int r = 0; r < kR; ++r) {
    for (int c = 0; c < kC; ++c) {
      if (n_whole == n) {
        out(r, c, S::reduce16(sums[r][c]));
        continue;
      }
      float lanes[16];
      for (int v = 0; v < kVectors; ++v) S::store(lanes + v * S::kLanes, sums[r][c][v]);
      for (int64_t i = n_whole; i < n; ++i)
        lanes[i - n_whole] =
            __builtin_fmaf(Values::at(weights + r * row_bytes + i * Values::kBytes), x[c][i], lanes[i - n_whole]);
      typename S::F parts[kVectors];
      for (int v = 0; v < kVectors; ++v) parts[v] = S::load(lanes + v * S::kLanes);
      out(r, c, S::reduce16(parts));
    }
  }
}

template <class S, class Values, int kR, int kC>
void multiply_tile(const WeightMatrix& weight, int64_t row, const Column* columns) {
  const float* x[kC];
  for (int c = 0; c < kC; ++c) x[c] = columns[c].values;
  dot_tile<S, Values, kR, kC>(weight.data + row * weight.row_bytes, weight.row_bytes, x, weight.n_in,
                              [&](int r, int c, float value) { columns[c].out[row + r] = value; });
}

template <class S, class Values, int kR>
void multiply_rows(const WeightMatrix& weight, int64_t row, std::span<const Column> columns) {
  const auto n = static_cast<int64_t>(columns.size());
  int64_t c = 0;
  for (; c + 3 <= n; c += 3) multiply_tile<S, Values, kR, 3>(weight, row, columns.data() + c);
  if (n - c == 2) multiply_tile<S, Values, kR, 2>(weight, row, columns.data() + c);
  if (n - c == 1) multiply_tile<S, Values, kR, 1>(weight, row, columns.data() + c);
}

template <class S, class Values>
void multiply_values(const WeightMatrix& weight, int64_t first, int64_t last, std::span<const Column> columns) {
  int64_t row = first;
  for (; row + 2 <= last; row += 2) multiply_rows<S, Values, 2>(weight, row, columns);
  if (row < last) multiply_rows<S, Values, 1>(weight, row, columns);
}

// Block types against F32 activations (exact profile): a block row at a time, dequantised.
template <class S>
void multiply_dequantized(const WeightMatrix& weight, int64_t first, int64_t last, std::span<const Column> columns) {
  constexpr int64_t kSegment = 256;
  const DTypeInfo& info = dtype_info(weight.type);
  alignas(64) float values[kSegment];
  for (int64_t row = first; row < last; ++row) {
    const std::byte* data = weight.data + row * weight.row_bytes;
    for (const Column& column : columns) {
      float lanes[16] = {};
      for (int64_t i = 0; i < weight.n_in; i += kSegment) {
        const int64_t n = weight.n_in - i < kSegment ? weight.n_in - i : kSegment;
        dequantize_row(weight.type, data + i / info.block_elements * info.block_bytes, values, n);
        for (int64_t k = 0; k < n; ++k) lanes[k % 16] = __builtin_fmaf(values[k], column.values[i + k], lanes[k % 16]);
      }
      typename S::F parts[16 / S::kLanes];
      for (int v = 0; v < 16 / S::kLanes; ++v) parts[v] = S::load(lanes + v * S::kLanes);
      column.out[row] = S::reduce16(parts);
    }
  }
}

template <class S>
void multiply_real(const WeightMatrix& weight, int64_t first, int64_t last, std::span<const Column> columns) {
  switch (weight.type) {
    case DType::kF32: return multiply_values<S, F32Values>(weight, first, last, columns);
    case DType::kF16: return multiply_values<S, F16Values>(weight, first, last, columns);
    case DType::kBF16: return multiply_values<S, BF16Values>(weight, first, last, columns);
    default: return multiply_dequantized<S>(weight, first, last, columns);
  }
}

// Panels.

template <class S>
struct alignas(64) PanelBlock32 {
  int8_t codes[32 * S::kLanes];  // [8 steps][kLanes rows][4]
  float scales[S::kLanes];
};

template <class S>
struct alignas(64) PanelBlock256 {
  int8_t codes[256 * S::kLanes];
  int16_t scales[16 * S::kLanes * 2];  // [sub-block][row], twice
  int16_t mins[8 * S::kLanes * 2];     // [pair of 16 elements][row][2]
  float d[S::kLanes];
  float dmin[S::kLanes];
};

template <class S, class Block>
using PanelBlock = std::conditional_t<BlockTraits<Block>::kIs256, PanelBlock256<S>, PanelBlock32<S>>;

template <class Block>
Block read_block(const std::byte* p) {
  Block block;  // rows of a file have no alignment to speak of
  std::memcpy(&block, p, sizeof(block));
  return block;
}

inline float block_scale(const BlockQ8_0& block) { return f16_to_f32(block.d); }
inline float block_scale(const BlockMXFP4& block) { return e8m0_to_f32(block.e) * 0.5f; }
inline float block_scale(const BlockQ2_K& block) { return f16_to_f32(block.d); }
inline float block_scale(const BlockQ4_K& block) { return f16_to_f32(block.d); }
inline float block_scale(const BlockIQ2_XXS& block) { return f16_to_f32(block.d) * 0.125f; }

// Block `index` of kLanes rows; rows beyond the last repeat it.
template <class S, class Block>
void pack_block(const std::byte* const* rows, int64_t index, PanelBlock<S, Block>& panel) {
  using Traits = BlockTraits<Block>;
  alignas(64) int8_t codes[S::kLanes][Block::kElements];
  for (int r = 0; r < S::kLanes; ++r) {
    const Block block = read_block<Block>(rows[r] + index * static_cast<int64_t>(sizeof(Block)));
    unpack_codes<S>(block, codes[r]);
    if constexpr (Traits::kIs256) {
      constexpr int kSubs = 256 / Traits::kSubElements;
      int16_t scales[16];
      int16_t mins[16];
      unpack_scales<S>(block, scales, mins);
      for (int t = 0; t < kSubs; ++t) {
        panel.scales[(t * S::kLanes + r) * 2] = scales[t];
        panel.scales[(t * S::kLanes + r) * 2 + 1] = scales[t];
      }
      panel.d[r] = block_scale(block);
      if constexpr (Traits::kHasMins) {
        panel.dmin[r] = f16_to_f32(block.dmin);
        for (int t = 0; t < 16; ++t) panel.mins[(t / 2 * S::kLanes + r) * 2 + t % 2] = mins[t];
      }
    } else {
      panel.scales[r] = block_scale(block);
    }
  }
  for (int first = 0; first < Block::kElements; first += 32) {
    const int8_t* parts[S::kLanes];
    for (int r = 0; r < S::kLanes; ++r) parts[r] = codes[r] + first;
    S::interleave_32(parts, panel.codes + first * S::kLanes);
  }
}

// What kN columns see of a segment of blocks.
template <class S, int kN>
struct ColumnTile {
  const int8_t* codes[kN];
  const float* scales[kN];
  const int16_t* sums[kN];
};

template <class S, class Block, int kN>
void multiply_panel(const PanelBlock32<S>* panel, int64_t n_blocks, ColumnTile<S, kN> x, typename S::F* totals) {
  for (int64_t b = 0; b < n_blocks; ++b) {
    typename S::I products[kN];
    S::template dot_32<kN>(panel[b].codes, x.codes, products);
    const typename S::F scale = S::load(panel[b].scales);
#pragma GCC unroll 8
    for (int c = 0; c < kN; ++c) {
      totals[c] = S::add(totals[c], S::mul(S::mul(scale, S::set1(x.scales[c][b])), S::to_float(products[c])));
      x.codes[c] += 32;
    }
  }
}

template <class S, class Block, int kN>
void multiply_panel(const PanelBlock256<S>* panel, int64_t n_blocks, ColumnTile<S, kN> x, typename S::F* totals) {
  using Traits = BlockTraits<Block>;
  constexpr int kSub = Traits::kSubElements;
  for (int64_t b = 0; b < n_blocks; ++b) {
    typename S::I products[kN];
    for (int c = 0; c < kN; ++c) products[c] = S::zero_i();
    for (int t = 0; t < 256 / kSub; ++t) {
      const int8_t* codes = panel[b].codes + t * kSub * S::kLanes;
      const typename S::I scale = S::load_i(panel[b].scales + t * S::kLanes * 2);
      if constexpr (Traits::kSigned) {
        S::template dot_signed<kN>(codes, x.codes, scale, products);
      } else {
        S::template dot_small<kSub / 4, kN>(codes, x.codes, scale, products);
      }
      for (int c = 0; c < kN; ++c) x.codes[c] += kSub;
    }
    const typename S::F d = S::load(panel[b].d);
    for (int c = 0; c < kN; ++c) {
      const typename S::F scale = S::set1(x.scales[c][b]);
      typename S::F part = S::mul(S::mul(scale, d), S::to_float(products[c]));
      if constexpr (Traits::kHasMins) {
        typename S::I minima = S::zero_i();
        for (int j = 0; j < 8; ++j)
          minima = S::madd(minima, S::load_i(panel[b].mins + j * S::kLanes * 2), S::broadcast4(x.sums[c] + 2 * j));
        part = S::sub(part, S::mul(S::mul(scale, S::load(panel[b].dmin)), S::to_float(minima)));
        x.sums[c] += 16;
      }
      totals[c] = S::add(totals[c], part);
    }
  }
}

// Rows of a tile are unpacked once for all columns; a segment of them fits the first cache levels.
inline constexpr int64_t kTileRows = 32;
inline constexpr int64_t kSegmentElements = 2048;

template <class S, class Block>
struct PanelTile {
  static constexpr int64_t kBlocks = kSegmentElements / Block::kElements;
  static constexpr int64_t kPanels = kTileRows / S::kLanes;

  PanelBlock<S, Block> panels[kPanels][kBlocks];
  int64_t first_row = 0;
  int64_t n_rows = 0;  // at most kTileRows
  int64_t first_block = 0;
  int64_t n_blocks = 0;

  void pack(const WeightMatrix& weight) {
    for (int64_t p = 0; p * S::kLanes < n_rows; ++p) {
      const std::byte* rows[S::kLanes];
      for (int64_t r = 0; r < S::kLanes; ++r) {
        const int64_t row = p * S::kLanes + r;
        rows[r] = weight.data + (first_row + (row < n_rows ? row : n_rows - 1)) * weight.row_bytes;
      }
      for (int64_t b = 0; b < n_blocks; ++b) pack_block<S, Block>(rows, first_block + b, panels[p][b]);
    }
  }

  template <int kN>
  void multiply(const Column* columns) const {
    ColumnTile<S, kN> x;
    for (int c = 0; c < kN; ++c) {
      x.codes[c] = columns[c].codes + first_block * Block::kElements;
      x.scales[c] = columns[c].scales + first_block;
      x.sums[c] = columns[c].sums + first_block * 16;
    }
    for (int64_t p = 0; p * S::kLanes < n_rows; ++p) {
      const int64_t row = p * S::kLanes;
      const int64_t n_valid = n_rows - row < S::kLanes ? n_rows - row : S::kLanes;
      typename S::F totals[kN];
      for (int c = 0; c < kN; ++c)
        totals[c] = first_block == 0 ? S::zero() : load_rows(columns[c].out + first_row + row, n_valid);
      multiply_panel<S, Block, kN>(panels[p], n_blocks, x, totals);
      for (int c = 0; c < kN; ++c) store_rows(columns[c].out + first_row + row, totals[c], n_valid);
    }
  }

  static typename S::F load_rows(const float* p, int64_t n) {
    if (n == S::kLanes) return S::load(p);
    float lanes[S::kLanes] = {};
    for (int64_t i = 0; i < n; ++i) lanes[i] = p[i];
    return S::load(lanes);
  }
  static void store_rows(float* p, typename S::F x, int64_t n) {
    if (n == S::kLanes) return S::store(p, x);
    float lanes[S::kLanes];
    S::store(lanes, x);
    for (int64_t i = 0; i < n; ++i) p[i] = lanes[i];
  }
};

// body(columns) in groups of kN, then of halves of it.
template <int kN, class Tile>
void multiply_columns(const Tile& tile, std::span<const Column> columns) {
  const auto n = static_cast<int64_t>(columns.size());
  int64_t c = 0;
  for (; c + kN <= n; c += kN) tile.template multiply<kN>(columns.data() + c);
  if constexpr (kN > 1) {
    if (c < n) multiply_columns<kN / 2>(tile, columns.subspan(static_cast<size_t>(c)));
  }
}

template <class S, class Block>
void multiply_panels(const WeightMatrix& weight, int64_t first, int64_t last, std::span<const Column> columns) {
  PanelTile<S, Block> tile;
  const int64_t n_blocks = weight.n_in / Block::kElements;
  for (int64_t row = first; row < last; row += kTileRows) {
    tile.first_row = row;
    tile.n_rows = last - row < kTileRows ? last - row : kTileRows;
    for (int64_t block = 0; block < n_blocks; block += tile.kBlocks) {
      tile.first_block = block;
      tile.n_blocks = n_blocks - block < tile.kBlocks ? n_blocks - block : tile.kBlocks;
      tile.pack(weight);
      multiply_columns<S::kColumns>(tile, columns);
    }
  }
}

template <class S>
float dot(const float* a, const float* b, int64_t n) {
  float result = 0.0f;
  dot_tile<S, F32Values, 1, 1>(reinterpret_cast<const std::byte*>(a), 0, &b, n,
                               [&](int, int, float value) { result = value; });
  return result;
}

template <class S>
void add_scaled(const float* x, float factor, int64_t n, float* sum) {
  const typename S::F f = S::set1(factor);
  int64_t i = 0;
  for (; i + S::kLanes <= n; i += S::kLanes) S::store(sum + i, S::fma(S::load(x + i), f, S::load(sum + i)));
  for (; i < n; ++i) sum[i] = __builtin_fmaf(x[i], factor, sum[i]);
}

}  // namespace ds4::cpu
