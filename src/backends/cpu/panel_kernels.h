#pragma once
// size-check: templates

// Products of block-quantised weights with many columns, through panels: weight rows unpacked and interleaved, so that
// a lane is a weight row and sums over blocks run in their order without any reduction across lanes. A panel is
// kRowVectors vectors of rows, which share every broadcast of an activation. Templates over the vector operations S
// (generic_kernels.h).

#include <cstddef>
#include <cstring>
#include <type_traits>

#include "backends/cpu/block_codes.h"
#include "backends/cpu/kernels.h"

namespace ds4::cpu {

// Rows of a tile are unpacked once for all columns; a segment of them fits the first cache levels.
inline constexpr int64_t kTileRows = 32;
inline constexpr int64_t kSegmentElements = 2048;

template <class S>
inline constexpr int kPanelRows = S::kRowVectors * S::kLanes;

// excess: what columns that were raised by 128 add to a row's products, negated.
template <class S>
struct alignas(64) PanelBlock32 {
  int8_t codes[S::kRowVectors][32 * S::kLanes * S::kPlanes];  // as S::pack_32 leaves them
  float scales[kPanelRows<S>];
  int32_t excess[kPanelRows<S>];
};

template <class S>
struct alignas(64) PanelBlock256 {
  int8_t codes[S::kRowVectors][256 * S::kLanes];
  int16_t scales[S::kRowVectors][16 * S::kLanes];  // [pair of sub-blocks][row][2]
  int16_t mins[S::kRowVectors][16 * S::kLanes];    // [pair of 16 elements][row][2]
  float d[kPanelRows<S>];
  float dmin[kPanelRows<S>];
  int32_t excess[kPanelRows<S>];
};

template <class S, class Block>
using PanelBlock = std::conditional_t<BlockTraits<Block>::kIs256, PanelBlock256<S>, PanelBlock32<S>>;

template <class Block>
Block read_block(const std::byte* p) {
  Block block;  // rows of a file have no alignment to speak of
  std::memcpy(&block, p, sizeof(block));
  return block;
}

template <class S>
float block_scale(const BlockQ8_0& block) {
  return S::from_f16(block.d);
}
template <class S>
float block_scale(const BlockMXFP4& block) {
  return half_e8m0(block.e);
}
template <class S>
float block_scale(const BlockQ2_K& block) {
  return S::from_f16(block.d);
}
template <class S>
float block_scale(const BlockQ4_K& block) {
  return S::from_f16(block.d);
}
template <class S>
float block_scale(const BlockIQ2_XXS& block) {
  return S::from_f16(block.d) * 0.125f;
}

// Block `index` of a panel's rows.
template <class S, class Block>
void pack_block(const std::byte* const* rows, int64_t index, PanelBlock32<S>& panel) {
  alignas(64) int8_t codes[S::kLanes][32];
  for (int v = 0; v < S::kRowVectors; ++v) {
    const int8_t* parts[S::kLanes];
    for (int r = 0; r < S::kLanes; ++r) {
      const std::byte* data = rows[v * S::kLanes + r] + index * static_cast<int64_t>(sizeof(Block));
      const auto& block = *reinterpret_cast<const Block*>(data);  // at an even address where it has halves
      panel.scales[v * S::kLanes + r] = block_scale<S>(block);
      if constexpr (std::is_same_v<Block, BlockQ8_0>) {
        parts[r] = reinterpret_cast<const int8_t*>(data + offsetof(BlockQ8_0, qs));  // codes already
      } else {
        unpack_codes<S>(block, codes[r]);
        parts[r] = codes[r];
      }
    }
    S::pack_32(parts, panel.codes[v]);
    if constexpr (S::kRaisesColumns) S::store_i(panel.excess + v * S::kLanes, S::excess_32(panel.codes[v]));
  }
}

// [kLanes rows][16] -> [pair][row][2]
template <class S>
void interleave_pairs(const int16_t (*rows)[16], int16_t* pairs) {
  const int8_t* parts[S::kLanes];
  for (int r = 0; r < S::kLanes; ++r) parts[r] = reinterpret_cast<const int8_t*>(rows[r]);
  S::interleave_32(parts, reinterpret_cast<int8_t*>(pairs));
}

// The scale of sub-block t, as S's products want it.
template <class S>
typename S::I sub_scale(const int16_t* scales, int t) {
  const typename S::I pairs = S::load_i(scales + t / 2 * S::kLanes * 2);
  return t % 2 == 0 ? S::first_scale(pairs) : S::second_scale(pairs);
}

template <class S>
void store_excess_256(const int8_t* codes, const int16_t* scales, int32_t* excess) {
  typename S::I sum = S::zero_i();
  for (int t = 0; t < 8; ++t)
    sum = S::add_scaled(sum, S::excess_32(codes + t * 32 * S::kLanes), sub_scale<S>(scales, t));
  S::store_i(excess, sum);
}

template <class S, class Block>
void pack_block(const std::byte* const* rows, int64_t index, PanelBlock256<S>& panel) {
  using Traits = BlockTraits<Block>;
  alignas(64) int8_t codes[S::kLanes][256];
  alignas(64) int16_t scales[S::kLanes][16] = {};
  alignas(64) int16_t mins[S::kLanes][16];
  for (int v = 0; v < S::kRowVectors; ++v) {
    for (int r = 0; r < S::kLanes; ++r) {
      // Blocks of this kind lie at even addresses.
      const auto& block =
          *reinterpret_cast<const Block*>(rows[v * S::kLanes + r] + index * static_cast<int64_t>(sizeof(Block)));
      unpack_codes<S>(block, codes[r]);
      unpack_scales<S>(block, scales[r], mins[r]);
      panel.d[v * S::kLanes + r] = block_scale<S>(block);
      if constexpr (Traits::kHasMins) panel.dmin[v * S::kLanes + r] = S::from_f16(block.dmin);
    }
    interleave_pairs<S>(scales, panel.scales[v]);
    if constexpr (Traits::kHasMins) interleave_pairs<S>(mins, panel.mins[v]);
    for (int first = 0; first < 256; first += 32) {
      const int8_t* parts[S::kLanes];
      for (int r = 0; r < S::kLanes; ++r) parts[r] = codes[r] + first;
      S::interleave_32(parts, panel.codes[v] + first * S::kLanes);
    }
    if constexpr (Traits::kSigned && S::kRaisesColumns)
      store_excess_256<S>(panel.codes[v], panel.scales[v], panel.excess + v * S::kLanes);
  }
}

// Codes of columns a fixed distance apart; the sums of 32 of each.
template <int64_t kStride>
struct ColumnCodes {
  const int8_t* first;
  const int16_t* const* sums;
  int64_t block;
  const int8_t* codes(int c) const { return first + c * kStride; }
  int sum(int c) const { return sums[c][block]; }
};

// What kN columns see of a segment of blocks.
template <class S, int kN>
struct ColumnTile {
  static constexpr int64_t kStride = kSegmentElements + 64;  // columns fall into different cache sets
  alignas(64) int8_t codes[kN][kStride];
  const float* scales[kN];
  const int16_t* sums[kN];
};

template <class S, int kN>
struct Totals {
  typename S::F at[S::kRowVectors][kN];
};

template <class S, class Block, int kN>
Totals<S, kN> multiply_panel(const PanelBlock32<S>* panel, int64_t n_blocks, const ColumnTile<S, kN>& x,
                             Totals<S, kN> totals) {
  constexpr int kV = S::kRowVectors;
  for (int64_t b = 0; b < n_blocks; ++b) {
    typename S::I products[kV][kN];
    const int8_t* codes[kV];
    for (int v = 0; v < kV; ++v) codes[v] = panel[b].codes[v];
    S::template dot_32<kV, kN>(codes, panel[b].excess,
                               ColumnCodes<ColumnTile<S, kN>::kStride>{x.codes[0] + b * 32, x.sums, b}, products);
#pragma GCC unroll 2
    for (int v = 0; v < kV; ++v) {
      const typename S::F scale = S::load(panel[b].scales + v * S::kLanes);
#pragma GCC unroll 8
      for (int c = 0; c < kN; ++c) {
        const typename S::F factor = S::mul(scale, S::set1(x.scales[c][b]));
        totals.at[v][c] = S::add(totals.at[v][c], S::mul(factor, S::to_float(products[v][c])));
      }
    }
  }
  return totals;
}

// Inlined, so that the products stay in registers.
template <class S, class Block, int kN>
[[gnu::always_inline]] inline void multiply_block(const PanelBlock256<S>& panel,
                                                  ColumnCodes<ColumnTile<S, kN>::kStride> x,
                                                  typename S::I (*products)[kN]) {
  using Traits = BlockTraits<Block>;
  constexpr int kV = S::kRowVectors;
  constexpr int kSub = Traits::kSubElements;
  for (int v = 0; v < kV; ++v) {
    for (int c = 0; c < kN; ++c) {
      products[v][c] = Traits::kSigned && S::kRaisesColumns ? S::load_i(panel.excess + v * S::kLanes) : S::zero_i();
    }
  }
  for (int t = 0; t < 256 / kSub; ++t) {
    const int8_t* codes[kV];
    typename S::I scales[kV];
    for (int v = 0; v < kV; ++v) {
      codes[v] = panel.codes[v] + t * kSub * S::kLanes;
      scales[v] = sub_scale<S>(panel.scales[v], t);
    }
    if constexpr (Traits::kSigned) {
      S::template dot_signed<kV, kN>(codes, x, scales, products);
    } else {
      S::template dot_small<kSub / 4, kV, kN>(codes, x, scales, products);
    }
    x.first += kSub;
  }
}

template <class S, class Block, int kN>
Totals<S, kN> multiply_panel(const PanelBlock256<S>* panel, int64_t n_blocks, const ColumnTile<S, kN>& x,
                             Totals<S, kN> totals) {
  using Traits = BlockTraits<Block>;
  constexpr int kV = S::kRowVectors;
  for (int64_t b = 0; b < n_blocks; ++b) {
    typename S::I products[kV][kN];
    multiply_block<S, Block, kN>(panel[b], {x.codes[0] + b * 256, x.sums, b}, products);
    for (int v = 0; v < kV; ++v) {
      const typename S::F d = S::load(panel[b].d + v * S::kLanes);
#pragma GCC unroll 8
      for (int c = 0; c < kN; ++c) {
        const typename S::F scale = S::set1(x.scales[c][b]);
        typename S::F part = S::mul(S::mul(scale, d), S::to_float(products[v][c]));
        if constexpr (Traits::kHasMins) {
          typename S::I minima = S::zero_i();
#pragma GCC unroll 8
          for (int j = 0; j < 8; ++j)
            minima = S::madd(minima, S::load_i(panel[b].mins[v] + j * S::kLanes * 2),
                             S::broadcast4(x.sums[c] + b * 16 + 2 * j));
          part = S::sub(part, S::mul(S::mul(scale, S::load(panel[b].dmin + v * S::kLanes)), S::to_float(minima)));
        }
        totals.at[v][c] = S::add(totals.at[v][c], part);
      }
    }
  }
  return totals;
}

template <class S, class Block>
struct PanelTile {
  static constexpr int64_t kBlocks = kSegmentElements / Block::kElements;
  static constexpr int64_t kRows = kPanelRows<S>;
  static constexpr int64_t kPanels = kTileRows / kRows;

  PanelBlock<S, Block> panels[kPanels][kBlocks];
  int64_t first_row = 0;
  int64_t n_rows = 0;  // at most kTileRows
  int64_t first_block = 0;
  int64_t n_blocks = 0;

  void pack(const WeightMatrix& weight) {
    for (int64_t p = 0; p * kRows < n_rows; ++p) {
      const std::byte* rows[kRows];
      for (int64_t r = 0; r < kRows; ++r) {
        const int64_t row = p * kRows + r;
        rows[r] = weight.data + (first_row + (row < n_rows ? row : n_rows - 1)) * weight.row_bytes;
      }
      for (int64_t b = 0; b < n_blocks; ++b) pack_block<S, Block>(rows, first_block + b, panels[p][b]);
    }
  }

  template <int kN>
  void take(const Column* columns, ColumnTile<S, kN>& x) const {
    const int64_t n = n_blocks * Block::kElements;
    for (int c = 0; c < kN; ++c) {
      const int8_t* codes = columns[c].codes + first_block * Block::kElements;
      if constexpr (S::kRaisesColumns && BlockTraits<Block>::kSigned) {
        S::raise(codes, n, x.codes[c]);
      } else {
        for (int64_t i = 0; i < n; i += 32) std::memcpy(x.codes[c] + i, codes + i, 32);
      }
      x.scales[c] = columns[c].scales + first_block;
      x.sums[c] = columns[c].sums + first_block * (BlockTraits<Block>::kIs256 ? 16 : 1);
    }
  }

  template <int kN>
  void multiply(const Column* columns) const {
    ColumnTile<S, kN> x;
    take(columns, x);
    for (int64_t p = 0; p * kRows < n_rows; ++p) {
      Totals<S, kN> totals;
      for (int v = 0; v < S::kRowVectors; ++v) {
        const int64_t row = p * kRows + v * S::kLanes;
        for (int c = 0; c < kN; ++c)
          totals.at[v][c] = first_block == 0 ? S::zero() : load_rows(columns[c].out + first_row + row, n_valid(row));
      }
      totals = multiply_panel<S, Block, kN>(panels[p], n_blocks, x, totals);
      for (int v = 0; v < S::kRowVectors; ++v) {
        const int64_t row = p * kRows + v * S::kLanes;
        for (int c = 0; c < kN; ++c) store_rows(columns[c].out + first_row + row, totals.at[v][c], n_valid(row));
      }
    }
  }

  // Of the vector of rows from `row` of the tile on.
  int64_t n_valid(int64_t row) const {
    const int64_t n = n_rows - row;
    return n < 0 ? 0 : n < S::kLanes ? n : S::kLanes;
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

// In groups of kN, then of fewer.
template <int kN, class Tile>
void multiply_columns(const Tile& tile, std::span<const Column> columns) {
  const auto n = static_cast<int64_t>(columns.size());
  int64_t c = 0;
  for (; c + kN <= n; c += kN) tile.template multiply<kN>(columns.data() + c);
  if constexpr (kN > 1) {
    constexpr int kFewer = kN > 4 ? 4 : kN / 2;
    if (c < n) multiply_columns<kFewer>(tile, columns.subspan(static_cast<size_t>(c)));
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

}  // namespace ds4::cpu
