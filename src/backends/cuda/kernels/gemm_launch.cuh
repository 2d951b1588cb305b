#pragma once

// What the kernels over gemm_tile.cuh share: the shape of their blocks, and the choice of type and of columns.

#include "backends/cuda/kernels/gemm_tile.cuh"

namespace ds4::cuda {

// 4 by 2 warps: 128 weight rows, and 16 columns for each of kNB.
inline constexpr int kWM = 4;
inline constexpr int kWN = 2;
inline constexpr int kThreads = kConsumers + kProducers;
inline constexpr int kTileOutputs = kWM * kWarpRows;
template <WeightType kType>
using LargestTile = Tile<kType, kWM, kWN, 8>;
static_assert(LargestTile<WeightType::kQ8_0>::kColumns == kTileRows);

// At the start of shared memory: the row of activations of each column, and the pair of (row, slot).
__device__ inline int32_t* index_of(uint8_t* shared) { return reinterpret_cast<int32_t*>(shared); }
__device__ inline int32_t* pairs_of(uint8_t* shared) { return index_of(shared) + kTileRows; }
static_assert(2 * kTileRows * 4 <= kIndexBytes);

template <WeightType kType>
__device__ inline void fill_grid(uint8_t* shared) {
  if constexpr (kType == WeightType::kIQ2_XXS) {
    auto* grid = reinterpret_cast<uint32_t*>(shared + LargestTile<kType>::kGrid);
    for (uint32_t i = threadIdx.x; i < 256; i += kThreads) grid[i] = iq2xxs_selectors(i);
  }
}

// Registers move from the producers to the consumers (compute capability 9.0); together as many as at the start.
__device__ inline void shrink_registers() {
#if __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("setmaxnreg.dec.sync.aligned.u32 56;");
#endif
}
__device__ inline void grow_registers() {
#if __CUDA_ARCH_FEAT_SM90_ALL
  asm volatile("setmaxnreg.inc.sync.aligned.u32 200;");
#endif
}

// body.operator()<kNB>() for the smallest tile that holds that many columns.
template <class Body>
__device__ inline void with_columns(int n_columns, const Body& body) {
  if (n_columns > 96) {
    body.template operator()<8>();
  } else if (n_columns > 64) {
    body.template operator()<6>();
  } else if (n_columns > 32) {
    body.template operator()<4>();
  } else {
    body.template operator()<2>();
  }
}

struct TileMatrices {
  Planes one, other;  // other: of a paired tile
  int first;          // output of the tile
};

// Runs a tile of n_columns columns by both kinds of warps; store.operator()<kNB>(lane, acc) takes the sums.
template <WeightType kType, bool kPaired, class Store>
__device__ inline void run_tile(const TileOperands& in, const TileMatrices& weights, int n_columns, uint8_t* shared,
                                const Store& store) {
  const int thread = static_cast<int>(threadIdx.x);
  if (thread >= kConsumers) {
    shrink_registers();
    const WeightSource source = weight_source<kType, kTileOutputs, kPaired>(weights.one, weights.other, weights.first,
                                                                            in.n_units, thread - kConsumers);
    with_columns(n_columns,
                 [&]<int kNB>() { produce_tile<kType, kWM, kWN, kNB>(in, source, shared, thread - kConsumers); });
  } else {
    grow_registers();
    with_columns(n_columns, [&]<int kNB>() {
      float acc[2][kNB][4] = {};
      const LanePlace lane = lane_place<kWM, kNB>();
      consume_tile<kType, kWM, kWN, kNB>(in.n_units, shared, lane, acc);
      store.template operator()<kNB>(lane, acc);
    });
  }
}

// The output of a paired tile that a row of its gate half belongs to.
__device__ inline int paired_row(int row) { return ((row >> 5) << 4) + (row & 15); }

template <class Body>
void with_tile_type(WeightType type, const Body& body) {
  switch (type) {
    case WeightType::kQ8_0: return body.template operator()<WeightType::kQ8_0>();
    case WeightType::kQ2_K: return body.template operator()<WeightType::kQ2_K>();
    case WeightType::kQ4_K: return body.template operator()<WeightType::kQ4_K>();
    case WeightType::kIQ2_XXS: return body.template operator()<WeightType::kIQ2_XXS>();
    case WeightType::kMXFP4: return body.template operator()<WeightType::kMXFP4>();
    case WeightType::kF32:
    case WeightType::kF16:
    case WeightType::kBF16: break;
  }
}

}  // namespace ds4::cuda
