#pragma once
// size-check: templates

// Products with many columns in the int8 tiles of AMX. A tile of sums holds 16 columns times 16 weight rows: rows of a
// tile are columns of the batch, so that a stored row is the vector of the panels (panel_kernels.h) and everything in
// floats is theirs, bit for bit.
// Blocks of 256 stay in tiles as a whole: a code times its integer scale is split into 64 * high + low, each an int8
// plane of weights, and minima are a plane of their own, as if they were codes. Blocks of 32 have a float scale each,
// so their sums leave the tile after every block; that, not the tiles, limits them.

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include "backends/cpu/gemv_x86.h"
#include "backends/cpu/panel_kernels.h"
#include "backends/cpu/simd_avx512.h"

namespace ds4::cpu {

// Unnamed: compiled with flags of its own.
namespace {

inline constexpr int64_t kTileEdge = 16;        // columns, or weight rows, of a tile of sums
inline constexpr int64_t kGemmRows = 64;        // unpacked once for all columns
inline constexpr int64_t kGemmElements = 2048;  // of them, at a time

struct alignas(64) TileConfig {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t n_rows[16] = {};
};
static_assert(sizeof(TileConfig) == 64);

// 0 to 5: sums of one or two groups of columns with two or three planes. 6: 64 elements of activations. 7: of weights.
inline constexpr TileConfig kTiles256 = {.row_bytes = {64, 64, 64, 64, 64, 64, 64, 64},
                                         .n_rows = {16, 16, 16, 16, 16, 16, 16, 16}};
// 0 to 3: sums of four blocks. 4: 32 elements of activations. 5: of weights.
inline constexpr TileConfig kTiles32 = {.row_bytes = {64, 64, 64, 64, 32, 64}, .n_rows = {16, 16, 16, 16, 16, 8}};

// The numbers of tiles are parts of the instructions, so each has its line.
template <int kSum>
void clear_sums() {
  if constexpr (kSum == 0) _tile_zero(0);
  if constexpr (kSum == 1) _tile_zero(1);
  if constexpr (kSum == 2) _tile_zero(2);
  if constexpr (kSum == 3) _tile_zero(3);
  if constexpr (kSum == 4) _tile_zero(4);
  if constexpr (kSum == 5) _tile_zero(5);
}
template <int kSum>
void add_products_256() {
  if constexpr (kSum == 0) _tile_dpbssd(0, 6, 7);
  if constexpr (kSum == 1) _tile_dpbssd(1, 6, 7);
  if constexpr (kSum == 2) _tile_dpbssd(2, 6, 7);
  if constexpr (kSum == 3) _tile_dpbssd(3, 6, 7);
  if constexpr (kSum == 4) _tile_dpbssd(4, 6, 7);
  if constexpr (kSum == 5) _tile_dpbssd(5, 6, 7);
}
template <int kSum>
void add_products_32() {
  if constexpr (kSum == 0) _tile_dpbssd(0, 4, 5);
  if constexpr (kSum == 1) _tile_dpbssd(1, 4, 5);
  if constexpr (kSum == 2) _tile_dpbssd(2, 4, 5);
  if constexpr (kSum == 3) _tile_dpbssd(3, 4, 5);
}
template <int kSum>
void store_sums(void* out) {
  if constexpr (kSum == 0) _tile_stored(0, out, 64);
  if constexpr (kSum == 1) _tile_stored(1, out, 64);
  if constexpr (kSum == 2) _tile_stored(2, out, 64);
  if constexpr (kSum == 3) _tile_stored(3, out, 64);
  if constexpr (kSum == 4) _tile_stored(4, out, 64);
  if constexpr (kSum == 5) _tile_stored(5, out, 64);
}

// g++'s tile loads do not say that they read memory: what was stored must be there before them.
inline void finish_stores() { std::atomic_signal_fence(std::memory_order_seq_cst); }

struct TileSums {
  alignas(64) int32_t at[kTileEdge][kTileEdge];  // [column][weight row]
};

// Codes of up to 16 columns, a fixed distance apart.
struct ColumnGroup {
  const Column* columns;
  int64_t n_columns;
  const int8_t* codes;
  int64_t stride;
};

// Elements [first, first + n) of the columns, where they lie if their distances are equal, else copied to `storage`
// [16][kGemmElements], the last one as often as needed.
inline ColumnGroup group_columns(std::span<const Column> columns, int64_t first, int64_t n, int8_t* storage) {
  const auto n_columns = static_cast<int64_t>(columns.size());
  const auto address = [&](int64_t c) { return reinterpret_cast<intptr_t>(columns[static_cast<size_t>(c)].codes); };
  const int64_t stride = n_columns > 1 ? address(1) - address(0) : 0;
  bool is_even = n_columns == kTileEdge;
  for (int64_t c = 1; is_even && c < n_columns; ++c) is_even = address(c) - address(c - 1) == stride;
  if (is_even) return {columns.data(), n_columns, columns[0].codes + first, stride};
  for (int64_t c = 0; c < kTileEdge; ++c) {
    const Column& column = columns[static_cast<size_t>(c < n_columns ? c : n_columns - 1)];
    std::memcpy(storage + c * kGemmElements, column.codes + first, static_cast<size_t>(n));
  }
  return {columns.data(), n_columns, storage, kGemmElements};
}

// Lanes of weight rows below n_rows.
inline __mmask16 row_mask(int64_t n_rows) { return static_cast<__mmask16>((1u << n_rows) - 1); }

// Blocks of 256.

template <class Block>
struct Planes {
  static constexpr bool kIsSplit = !std::is_same_v<Block, BlockQ2_K>;  // whose codes times scales are at most 45
  static constexpr int kProducts = kIsSplit ? 2 : 1;
  static constexpr int kCount = kProducts + (BlockTraits<Block>::kHasMins ? 1 : 0);
};

template <class Block>
struct alignas(64) TileBlock256 {
  int8_t planes[Planes<Block>::kCount][256 * kTileEdge];  // [64 steps][16 rows][4]
  float d[kTileEdge];
  float dmin[kTileEdge];
};

template <class Block>
void pack_tile_row(const Block& block, int8_t (*planes)[kTileEdge][256], int64_t r) {
  constexpr int kSub = BlockTraits<Block>::kSubElements;
  int8_t codes[256];
  int16_t scales[16];
  int16_t mins[16];
  unpack_codes<Avx512>(block, codes);
  unpack_scales<Avx512>(block, scales, mins);
  for (int i = 0; i < 256; i += 16) {
    for (int k = i; k < i + 16; ++k) {
      const int product = codes[k] * scales[i / kSub];
      if constexpr (Planes<Block>::kIsSplit) {
        const int high = (product + 32) >> 6;
        planes[0][r][k] = static_cast<int8_t>(high);
        planes[1][r][k] = static_cast<int8_t>(product - 64 * high);
      } else {
        planes[0][r][k] = static_cast<int8_t>(product);
      }
      if constexpr (BlockTraits<Block>::kHasMins)
        planes[Planes<Block>::kProducts][r][k] = static_cast<int8_t>(mins[i / 16]);
    }
  }
}

template <class Block>
void pack_tile_block(const std::byte* const* rows, int64_t index, TileBlock256<Block>& out) {
  alignas(64) int8_t planes[Planes<Block>::kCount][kTileEdge][256];
  for (int64_t r = 0; r < kTileEdge; ++r) {
    const auto block = read_block<Block>(rows[r] + index * static_cast<int64_t>(sizeof(Block)));
    pack_tile_row(block, planes, r);
    out.d[r] = block_scale<Avx512>(block);
    if constexpr (BlockTraits<Block>::kHasMins) out.dmin[r] = Avx512::from_f16(block.dmin);
  }
  for (int p = 0; p < Planes<Block>::kCount; ++p) {
    for (int64_t first = 0; first < 256; first += 32) {
      const int8_t* parts[kTileEdge];
      for (int64_t r = 0; r < kTileEdge; ++r) parts[r] = planes[p][r] + first;
      Avx512::interleave_32(parts, out.planes[p] + first * kTileEdge);
    }
  }
}

// One group's products of 64 elements, added to the sums of every plane.
template <class Block, int kGroup>
void add_group(const TileBlock256<Block>& weights, int64_t first, const int8_t* codes, int64_t stride) {
  constexpr int kPlanes = Planes<Block>::kCount;
  _tile_loadd(6, codes, stride);
  _tile_loadd(7, weights.planes[0] + first * kTileEdge, 64);
  add_products_256<kGroup * kPlanes>();
  _tile_loadd(7, weights.planes[1] + first * kTileEdge, 64);
  add_products_256<kGroup * kPlanes + 1>();
  if constexpr (kPlanes == 3) {
    _tile_loadd(7, weights.planes[2] + first * kTileEdge, 64);
    add_products_256<kGroup * kPlanes + 2>();
  }
}

// What a block adds to one column's totals.
template <class Block>
Avx512::F contribution(const TileBlock256<Block>& weights, const TileSums* sums, int64_t c, float column_scale) {
  using S = Avx512;
  const S::F scale = S::set1(column_scale);
  S::I products = S::load_i(sums[0].at[c]);
  if constexpr (Planes<Block>::kIsSplit)
    products = _mm512_add_epi32(_mm512_slli_epi32(products, 6), S::load_i(sums[1].at[c]));
  const S::F part = S::mul(S::mul(scale, S::load(weights.d)), S::to_float(products));
  if constexpr (!BlockTraits<Block>::kHasMins) {
    return part;
  } else {
    const S::I minima = S::load_i(sums[Planes<Block>::kProducts].at[c]);
    return S::sub(part, S::mul(S::mul(scale, S::load(weights.dmin)), S::to_float(minima)));
  }
}

template <class Block, int kGroups>
void multiply_tile_blocks(const TileBlock256<Block>* weights, int64_t n_blocks, const ColumnGroup* groups,
                          int64_t first_block, float (*totals)[kTileEdge]) {
  constexpr int kPlanes = Planes<Block>::kCount;
  TileSums sums[kGroups * kPlanes];
  for (int64_t b = 0; b < n_blocks; ++b) {
    [&]<int... kSum>(std::integer_sequence<int, kSum...>) {
      (clear_sums<kSum>(), ...);
      for (int64_t k = 0; k < 256; k += 64) {
        add_group<Block, 0>(weights[b], k, groups[0].codes + b * 256 + k, groups[0].stride);
        if constexpr (kGroups == 2) add_group<Block, 1>(weights[b], k, groups[1].codes + b * 256 + k, groups[1].stride);
      }
      (store_sums<kSum>(sums[kSum].at), ...);
    }(std::make_integer_sequence<int, kGroups * kPlanes>());
    for (int g = 0; g < kGroups; ++g) {
      for (int64_t c = 0; c < groups[g].n_columns; ++c) {
        float* total = totals[g * kTileEdge + c];
        const float scale = groups[g].columns[c].scales[first_block + b];
        const Avx512::F part = contribution<Block>(weights[b], sums + g * kPlanes, c, scale);
        Avx512::store(total, Avx512::add(Avx512::load(total), part));
      }
    }
  }
}

// Blocks of 32.

struct alignas(64) TileBlock32 {
  int8_t codes[32 * kTileEdge];  // [8 steps][16 rows][4]
  float scales[kTileEdge];
};

template <class Block>
void pack_tile_block(const std::byte* const* rows, int64_t index, TileBlock32& out) {
  alignas(64) int8_t codes[kTileEdge][32];
  const int8_t* parts[kTileEdge];
  for (int64_t r = 0; r < kTileEdge; ++r) {
    const std::byte* data = rows[r] + index * static_cast<int64_t>(sizeof(Block));
    const auto block = read_block<Block>(data);
    out.scales[r] = block_scale<Avx512>(block);
    if constexpr (std::is_same_v<Block, BlockQ8_0>) {
      parts[r] = reinterpret_cast<const int8_t*>(data + offsetof(BlockQ8_0, qs));
    } else {
      unpack_codes<Avx512>(block, codes[r]);
      parts[r] = codes[r];
    }
  }
  Avx512::interleave_32(parts, out.codes);
}

template <int kSum>
void store_block_sums(const int8_t* weights, const int8_t* codes, int64_t stride, TileSums* sums) {
  clear_sums<kSum>();
  _tile_loadd(4, codes, stride);
  _tile_loadd(5, weights, 64);
  add_products_32<kSum>();
  store_sums<kSum>(sums[kSum].at);
}

inline void multiply_tile_blocks(const TileBlock32* weights, int64_t n_blocks, const ColumnGroup& group,
                                 int64_t first_block, float (*totals)[kTileEdge]) {
  using S = Avx512;
  TileSums sums[4];
  for (int64_t b = 0; b < n_blocks; b += 4) {
    const int64_t n = n_blocks - b < 4 ? n_blocks - b : 4;
    const int8_t* codes = group.codes + b * 32;
    store_block_sums<0>(weights[b].codes, codes, group.stride, sums);
    if (n > 1) store_block_sums<1>(weights[b + 1].codes, codes + 32, group.stride, sums);
    if (n > 2) store_block_sums<2>(weights[b + 2].codes, codes + 64, group.stride, sums);
    if (n > 3) store_block_sums<3>(weights[b + 3].codes, codes + 96, group.stride, sums);
    for (int64_t c = 0; c < group.n_columns; ++c) {
      const float* scales = group.columns[c].scales + first_block + b;
      S::F total = S::load(totals[c]);
      for (int64_t j = 0; j < n; ++j) {
        const S::F scale = S::mul(S::load(weights[b + j].scales), S::set1(scales[j]));
        total = S::add(total, S::mul(scale, S::to_float(S::load_i(sums[j].at[c]))));
      }
      S::store(totals[c], total);
    }
  }
}

// Both.

template <class Block>
using TileBlock = std::conditional_t<BlockTraits<Block>::kIs256, TileBlock256<Block>, TileBlock32>;

// Weight rows [first_row, first_row + n_rows) and elements of a segment, in panels of 16 rows.
template <class Block>
struct GemmTile {
  static constexpr int64_t kBlocks = kGemmElements / Block::kElements;

  TileBlock<Block> panels[kGemmRows / kTileEdge][kBlocks];
  int64_t first_row = 0;
  int64_t n_rows = 0;
  int64_t first_block = 0;
  int64_t n_blocks = 0;

  // Rows beyond the last repeat it.
  void pack(const WeightMatrix& weight) {
    for (int64_t p = 0; p * kTileEdge < n_rows; ++p) {
      const std::byte* rows[kTileEdge];
      for (int64_t r = 0; r < kTileEdge; ++r) {
        const int64_t row = p * kTileEdge + r;
        rows[r] = weight.data + (first_row + (row < n_rows ? row : n_rows - 1)) * weight.row_bytes;
      }
      for (int64_t b = 0; b < n_blocks; ++b) pack_tile_block<Block>(rows, first_block + b, panels[p][b]);
    }
  }

  // At most 16 columns a group.
  template <int kGroups>
  void multiply(std::span<const Column> columns) const {
    alignas(64) int8_t storage[kGroups][kTileEdge * kGemmElements];
    ColumnGroup groups[kGroups];
    for (size_t g = 0; g < kGroups; ++g) {
      const std::span<const Column> rest = columns.subspan(g * kTileEdge);
      groups[g] = group_columns(rest.first(rest.size() < kTileEdge ? rest.size() : kTileEdge),
                                first_block * Block::kElements, n_blocks * Block::kElements, storage[g]);
    }
    finish_stores();
    alignas(64) float totals[kGroups * kTileEdge][kTileEdge];
    for (int64_t p = 0; p * kTileEdge < n_rows; ++p) {
      const int64_t row = first_row + p * kTileEdge;
      const __mmask16 mask = row_mask(std::min(kTileEdge, n_rows - p * kTileEdge));
      for (size_t c = 0; c < columns.size(); ++c)
        Avx512::store(totals[c], first_block == 0 ? Avx512::zero() : _mm512_maskz_loadu_ps(mask, columns[c].out + row));
      if constexpr (BlockTraits<Block>::kIs256) {
        multiply_tile_blocks<Block, kGroups>(panels[p], n_blocks, groups, first_block, totals);
      } else {
        multiply_tile_blocks(panels[p], n_blocks, groups[0], first_block, totals);
      }
      for (size_t c = 0; c < columns.size(); ++c)
        _mm512_mask_storeu_ps(columns[c].out + row, mask, Avx512::load(totals[c]));
    }
  }
};

template <class Block>
void multiply_tiles(const WeightMatrix& weight, int64_t first, int64_t last, std::span<const Column> columns) {
  constexpr size_t kGroups = BlockTraits<Block>::kIs256 ? 2 : 1;
  GemmTile<Block> tile;
  _tile_loadconfig(BlockTraits<Block>::kIs256 ? &kTiles256 : &kTiles32);
  const int64_t n_blocks = weight.n_in / Block::kElements;
  for (int64_t row = first; row < last; row += kGemmRows) {
    tile.first_row = row;
    tile.n_rows = std::min(kGemmRows, last - row);
    for (int64_t block = 0; block < n_blocks; block += tile.kBlocks) {
      tile.first_block = block;
      tile.n_blocks = std::min(tile.kBlocks, n_blocks - block);
      tile.pack(weight);
      size_t c = 0;
      for (; c + kTileEdge < columns.size(); c += kGroups * kTileEdge)
        tile.template multiply<kGroups>(columns.subspan(c, std::min(kGroups * kTileEdge, columns.size() - c)));
      if (c < columns.size()) tile.template multiply<1>(columns.subspan(c));
    }
  }
  _tile_release();
}

// Few columns leave most of a tile idle.
inline constexpr size_t kMostColumnsWithoutTiles = 8;

inline void multiply_amx(const WeightMatrix& weight, ActivationForm form, int64_t first, int64_t last,
                         std::span<const Column> columns) {
  if (form == ActivationForm::kReal || columns.size() <= kMostColumnsWithoutTiles)
    return multiply_x86<Avx512>(weight, form, first, last, columns);
  switch (weight.type) {
    case DType::kQ8_0: return multiply_tiles<BlockQ8_0>(weight, first, last, columns);
    case DType::kMXFP4: return multiply_tiles<BlockMXFP4>(weight, first, last, columns);
    case DType::kQ2_K: return multiply_tiles<BlockQ2_K>(weight, first, last, columns);
    case DType::kQ4_K: return multiply_tiles<BlockQ4_K>(weight, first, last, columns);
    case DType::kIQ2_XXS: return multiply_tiles<BlockIQ2_XXS>(weight, first, last, columns);
    default: __builtin_unreachable();  // other types take real activations
  }
}

}  // namespace

}  // namespace ds4::cpu
