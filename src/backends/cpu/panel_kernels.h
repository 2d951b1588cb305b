#pragma once

// Products of block-quantised weights with many columns, through panels: kLanes weight rows unpacked and interleaved,
// so that a lane is a weight row and sums over blocks run in their order without any reduction across lanes. Templates
// over the vector operations S (generic_kernels.h).

#include <cstddef>
#include <cstring>
#include <type_traits>

#include "backends/cpu/block_codes.h"
#include "backends/cpu/kernels.h"

namespace ds4::cpu {

template <class S>
struct alignas(64) PanelBlock32 {
  int8_t codes[32 * S::kLanes * S::kPlanes];  // as S::pack_32 leaves them
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

// Block `index` of kLanes rows.
template <class S, class Block>
void pack_block(const std::byte* const* rows, int64_t index, PanelBlock32<S>& panel) {
  alignas(64) int8_t codes[S::kLanes][32];
  const int8_t* parts[S::kLanes];
  for (int r = 0; r < S::kLanes; ++r) {
    const std::byte* data = rows[r] + index * static_cast<int64_t>(sizeof(Block));
    const Block block = read_block<Block>(data);
    panel.scales[r] = block_scale<S>(block);
    if constexpr (std::is_same_v<Block, BlockQ8_0>) {
      parts[r] = reinterpret_cast<const int8_t*>(data + offsetof(BlockQ8_0, qs));  // codes already
    } else {
      unpack_codes<S>(block, codes[r]);
      parts[r] = codes[r];
    }
  }
  S::pack_32(parts, panel.codes);
}

template <class S, class Block>
void pack_block(const std::byte* const* rows, int64_t index, PanelBlock256<S>& panel) {
  using Traits = BlockTraits<Block>;
  alignas(64) int8_t codes[S::kLanes][256];
  for (int r = 0; r < S::kLanes; ++r) {
    const Block block = read_block<Block>(rows[r] + index * static_cast<int64_t>(sizeof(Block)));
    unpack_codes<S>(block, codes[r]);
    int16_t scales[16];
    int16_t mins[16];
    unpack_scales<S>(block, scales, mins);
    for (int t = 0; t < 256 / Traits::kSubElements; ++t) {
      panel.scales[(t * S::kLanes + r) * 2] = scales[t];
      panel.scales[(t * S::kLanes + r) * 2 + 1] = scales[t];
    }
    panel.d[r] = block_scale<S>(block);
    if constexpr (Traits::kHasMins) {
      panel.dmin[r] = S::from_f16(block.dmin);
      for (int t = 0; t < 16; ++t) panel.mins[(t / 2 * S::kLanes + r) * 2 + t % 2] = mins[t];
    }
  }
  for (int first = 0; first < 256; first += 32) {
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
    S::template dot_32<kN>(panel[b].codes, x.codes, x.sums, products);
    const typename S::F scale = S::load(panel[b].scales);
#pragma GCC unroll 8
    for (int c = 0; c < kN; ++c) {
      totals[c] = S::add(totals[c], S::mul(S::mul(scale, S::set1(x.scales[c][b])), S::to_float(products[c])));
      x.codes[c] += 32;
      ++x.sums[c];
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
      x.sums[c] = columns[c].sums + first_block * (BlockTraits<Block>::kIs256 ? 16 : 1);
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

}  // namespace ds4::cpu
