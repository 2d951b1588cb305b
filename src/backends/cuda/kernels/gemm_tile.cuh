#pragma once

// The product of a tile of weight rows with a tile of activation rows in integers, by two kinds of warps. Eight
// producer warps bring stages of kBlockK elements by cp.async and unpack packed weights; eight consumer warps, each 32
// weight rows by 8 * kNB activation rows, keep the tensor cores busy. Named barriers hand stages over.
//
// Rescaling is what limits the rate: one m16n8k32 gives four sums per lane. They start at 1.5 * 2^23 in the integer
// accumulator, so that their bits are a float; then fma(float, factor, -1.5 * 2^23 * factor) is the product with one
// rounding (the last term is exact: factors have at most 19 significant bits) and a second fma takes the activations'
// scale. That is 8 float instructions per mma and no conversion; they run while the next mma do. A row's sums ascend
// over K, whatever the tile.
// Budget of a stage of 128 x 128: 512 mma, 4096 float instructions of warps, 33 KB by cp.async. Products of 4096 rows
// run at 220 to 280 TFLOP/s on an H200; few columns are bound by the latency of kAhead stages.

#include "backends/cuda/kernels/gemm_weights.cuh"
#include "backends/cuda/kernels/launch.cuh"

namespace ds4::cuda {

inline constexpr int kStages = 4;
inline constexpr int kAhead = 2;  // stages on their way while one is unpacked
inline constexpr int kWarpRows = 32;
inline constexpr int kIndexBytes = 1024;  // rows of activations and what else belongs to the columns
inline constexpr int kConsumers = 256;    // threads
inline constexpr int kProducers = 256;

// kWM by kWN consumer warps.
template <WeightType kType, int kWM, int kWN, int kNB>
struct Tile {
  using Form = WeightForm<kType>;
  static constexpr int kRows = kWM * kWarpRows;
  static constexpr int kColumns = kWN * kNB * 8;
  using Space = WeightSpace<kType, kRows>;
  static_assert(kWM * kWN * 32 == kConsumers && 2 * kRows == kProducers);
  // One stage.
  static constexpr int kCodes = Space::kStageBytes;
  static constexpr int kScales = kCodes + kColumns * kBlockK;
  static constexpr int kSums = kScales + kColumns * 4 * (Form::kIs32 ? kUnits : 1);
  static constexpr int kStageBytes = (kSums + (Form::kHasMins ? kColumns * 16 : 0) + 127) / 128 * 128;
  // All of it: what does not depend on the columns lies first.
  static constexpr int kGrid = kIndexBytes;
  static constexpr int kUnpacked = kGrid + Space::kGridBytes;
  static constexpr int kUnpackedBytes = (Space::kUnpackedBytes + 127) / 128 * 128;
  static constexpr int kFirstStage = kUnpacked + kStages * kUnpackedBytes;
  static constexpr int kSharedBytes = kFirstStage + kStages * kStageBytes;
};

// Barriers: a stage is full, a stage is free, and one among the producers. 0 is that of __syncthreads.
__device__ inline void sync_barrier(int barrier, int n_threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(n_threads) : "memory");
}
__device__ inline void arrive_barrier(int barrier, int n_threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(n_threads) : "memory");
}
__device__ inline int full_barrier(int slot) { return 1 + slot; }
__device__ inline int free_barrier(int slot) { return 1 + kStages + slot; }
inline constexpr int kProducerBarrier = 1 + 2 * kStages;

// The operands of a tile. index[column]: row of the activations, in shared memory.
struct TileOperands {
  const int8_t* codes;  // of the group
  const float* scales;
  const __half* sums;
  int n_rows, width;  // of the activations
  int n_units;
  const int32_t* index;
};

template <class TileT, WeightType kType>
__device__ inline void copy_weights(const WeightSource& weights, int n_units, uint32_t stage, int block, int thread) {
  using Form = WeightForm<kType>;
  using Space = typename TileT::Space;
  constexpr int kChunks = Form::kUnitBytes * kUnits / 16;  // of a row
  const uint8_t* source = weights.codes;
  uint32_t destination = stage + thread * 16;
  if constexpr (Form::kIsDirect) {
    const int in_tile = min(32, n_units - (block >> 3) * 32);
    source += (block >> 3) * 1024 + (block & 7) * kUnits * 16 + (thread & 1) * in_tile * 16;
    destination = stage + thread / 8 * kBlockK + (((thread & 7) ^ (thread / 8 & 7)) << 4);
  } else {
    source += block * kChunks * 16;
  }
#pragma unroll
  for (int j = 0; j < TileT::kRows * kChunks / kProducers; ++j)
    copy_async_16(destination + j * kProducers * 16, source + j * weights.code_stride);
  if (thread < TileT::kRows) {
    if constexpr (Form::kScaleBytes == 8) {
      copy_async_8(stage + Space::kScales + thread * 8, weights.meta + block * 8);
    } else {
      copy_async_4(stage + Space::kScales + thread * 4,
                   weights.meta + (kType == WeightType::kIQ2_XXS ? block / 2 : block) * 4);
    }
  } else if constexpr (Form::kSuperBytes != 0) {
    const uint8_t* meta = weights.meta + block / 2 * (kType == WeightType::kIQ2_XXS ? 2 : 4);
    copy_async_4(stage + Space::kSupers + (thread - TileT::kRows) * 4,
                 reinterpret_cast<const uint8_t*>(reinterpret_cast<uintptr_t>(meta) & ~uintptr_t{3}));
  }
}

template <class TileT, WeightType kType>
__device__ inline void copy_activations(const TileOperands& in, uint32_t stage, int block, int thread) {
  using Form = WeightForm<kType>;
  const int8_t* codes = in.codes + block * kBlockK + thread % 8 * 16;
  const uint32_t destination = stage + TileT::kCodes + thread / 8 * kBlockK + (((thread & 7) ^ (thread / 8 & 7)) << 4);
#pragma unroll
  for (int j = 0; j < TileT::kColumns * 8 / kProducers; ++j)
    copy_async_16(destination + j * kProducers * 16,
                  codes + int64_t{in.index[thread / 8 + j * kProducers / 8]} * in.width);
  constexpr int kScaleRows = Form::kIs32 ? kUnits : 1;
  const float* scales = in.scales + int64_t{Form::kIs32 ? block * kUnits : block / 2} * in.n_rows;
#pragma unroll
  for (int j = 0; j < (TileT::kColumns * kScaleRows + kProducers - 1) / kProducers; ++j) {
    const int i = thread + j * kProducers;
    if (i < TileT::kColumns * kScaleRows)
      copy_async_4(stage + TileT::kScales + i * 4,
                   scales + i / TileT::kColumns * in.n_rows + in.index[i % TileT::kColumns]);
  }
  if constexpr (Form::kHasMins) {
    if (thread < TileT::kColumns)
      copy_async_16(stage + TileT::kSums + thread * 16,
                    in.sums + int64_t{in.index[thread]} * (in.width / 16) + block * 8);
  }
}

// The producers' part.
template <WeightType kType, int kWM, int kWN, int kNB>
__device__ inline void produce_tile(const TileOperands& in, const WeightSource& weights, uint8_t* shared, int thread) {
  using TileT = Tile<kType, kWM, kWN, kNB>;
  const auto* grid = reinterpret_cast<const uint32_t*>(shared + TileT::kGrid);
  uint8_t* stages = shared + TileT::kFirstStage;
  const int n_blocks = in.n_units / kUnits;
  for (int block = 0; block < n_blocks + kAhead; ++block) {
    if (block < n_blocks) {
      const int slot = block % kStages;
      if (block >= kStages) sync_barrier(free_barrier(slot), kConsumers + kProducers);
      const uint32_t stage = shared_address(stages) + slot * TileT::kStageBytes;
      copy_weights<TileT, kType>(weights, in.n_units, stage, block, thread);
      copy_activations<TileT, kType>(in, stage, block, thread);
    }
    commit_copies();
    const int arrived = block - kAhead;
    if (arrived < 0) continue;
    wait_copies<kAhead>();
    sync_barrier(kProducerBarrier, kProducers);
    const int slot = arrived % kStages;
    unpack_stage<kType, TileT::kRows>(stages + slot * TileT::kStageBytes,
                                      shared + TileT::kUnpacked + slot * TileT::kUnpackedBytes, grid,
                                      weights.row_parity, arrived, thread);
    arrive_barrier(full_barrier(slot), kConsumers + kProducers);
  }
}

// Where a consumer lane's fragments start in the tiles of weights and activations.
struct LanePlace {
  uint32_t a, b;    // ldmatrix addresses of unit 0, of the first 16 rows and the first 16 columns
  int row, column;  // of its first accumulator, in the tile
};

// acc += rescaled sums of one mma. factors: of the two rows, scales: of the two columns.
__device__ inline void add_scaled(float (&acc)[4], const int (&sums)[4], const float2 (&factors)[2], float2 scales) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float product = fmaf(__int_as_float(sums[i]), factors[i / 2].x, factors[i / 2].y);
    acc[i] = fmaf(product, i % 2 == 0 ? scales.x : scales.y, acc[i]);
  }
}

// The integer sums run over kChain units before they are rescaled. A step is a chain of 16 columns: its mma are issued
// before the sums of the step before are rescaled.
template <class TileT, WeightType kType, int kNB>
__device__ inline void multiply_units(const uint8_t* stage, const uint8_t* unpacked, const LanePlace& lane,
                                      float (&acc)[2][kNB][4]) {
  using Form = WeightForm<kType>;
  constexpr int kChain = Form::kOneFactor ? 2 : 1;
  constexpr int kSteps = kUnits / kChain * (kNB / 2);
  constexpr int kMagics[4] = {kMagicBits, kMagicBits, kMagicBits, kMagicBits};
  const uint32_t a_base = shared_address(Form::kIsDirect ? stage : unpacked) + lane.a;
  const uint32_t b_base = shared_address(stage) + TileT::kCodes + lane.b;
  const auto* scales = reinterpret_cast<const float*>(stage + TileT::kScales) + lane.column;
  const auto* row_factors = reinterpret_cast<const float2*>(unpacked + TileT::Space::kFactors) + lane.row;
  uint32_t a[2][kChain][4];
  float2 factors[2][2][2];
  int sums[2][2][2][4];
#pragma unroll
  for (int step = 0; step <= kSteps; ++step) {
    const int u = step / (kNB / 2) * kChain;
    const int n = step % (kNB / 2) * 2;
    if (step < kSteps) {
      if (n == 0) {
#pragma unroll
        for (int m = 0; m < 2; ++m) {
#pragma unroll
          for (int v = 0; v < kChain; ++v) load_matrices(a[m][v], (a_base ^ ((u + v) << 5)) + m * 16 * kBlockK);
#pragma unroll
          for (int h = 0; h < 2; ++h)
            factors[u / kChain % 2][m][h] = row_factors[m * 16 + h * 8 + (Form::kOneFactor ? 0 : u) * TileT::kRows];
        }
      }
      uint32_t b[kChain][4];
#pragma unroll
      for (int v = 0; v < kChain; ++v) load_matrices(b[v], (b_base ^ ((u + v) << 5)) + n * 8 * kBlockK);
#pragma unroll
      for (int v = 0; v < kChain; ++v) {
#pragma unroll
        for (int j = 0; j < 2; ++j) {
#pragma unroll
          for (int m = 0; m < 2; ++m) {
            int(&d)[4] = sums[step % 2][j][m];
            if (v == 0) {
              mma_s8(d, a[m][v], b[v][2 * j], b[v][2 * j + 1], kMagics);
            } else {
              mma_s8(d, a[m][v], b[v][2 * j], b[v][2 * j + 1], d);
            }
          }
        }
      }
    }
    if (step == 0) continue;
    const int last_u = (step - 1) / (kNB / 2) * kChain;
    const int last_n = (step - 1) % (kNB / 2) * 2;
#pragma unroll
    for (int j = 0; j < 2; ++j) {
      const float2 scale =
          *reinterpret_cast<const float2*>(scales + (Form::kIs32 ? last_u * TileT::kColumns : 0) + (last_n + j) * 8);
#pragma unroll
      for (int m = 0; m < 2; ++m)
        add_scaled(acc[m][last_n + j], sums[(step - 1) % 2][j][m], factors[last_u / kChain % 2][m], scale);
    }
  }
}

// acc -= dmin * scale * (mins . sums of activations), exact up to the scaling.
template <class TileT, int kNB>
__device__ inline void subtract_mins(const uint8_t* stage, const uint8_t* unpacked, const LanePlace& lane,
                                     float (&acc)[2][kNB][4]) {
  using Space = typename TileT::Space;
  const int l = static_cast<int>(threadIdx.x) % 32;
  const uint8_t* mins = unpacked + Space::kMins + lane.row * 16 + (l % 4) * 4;
  const uint8_t* sums = stage + TileT::kSums + (lane.column - 2 * (l % 4) + l / 4) * 16 + (l % 4) * 4;
  const auto* factors = reinterpret_cast<const float*>(unpacked + Space::kMinFactors) + lane.row;
#pragma unroll
  for (int n = 0; n < kNB; ++n) {
    const uint32_t b = *reinterpret_cast<const uint32_t*>(sums + n * 8 * 16);
    const float2 scale = *reinterpret_cast<const float2*>(stage + TileT::kScales + (lane.column + n * 8) * 4);
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      float products[4];
      mma_f16_k8(products, *reinterpret_cast<const uint32_t*>(mins + m * 256),
                 *reinterpret_cast<const uint32_t*>(mins + m * 256 + 128), b);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float product = products[i] * factors[m * 16 + i / 2 * 8];
        acc[m][n][i] = fmaf(-product, i % 2 == 0 ? scale.x : scale.y, acc[m][n][i]);
      }
    }
  }
}

template <int kWM, int kNB>
__device__ inline LanePlace lane_place() {
  const int warp = static_cast<int>(threadIdx.x) / 32;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int first_row = warp % kWM * kWarpRows;
  const int first_column = warp / kWM * kNB * 8;
  const int swizzle = lane & 7;
  LanePlace place;
  place.a = (first_row + (lane & 15)) * kBlockK + (((lane >> 4) ^ swizzle) << 4);
  place.b = (first_column + (lane & 7) + ((lane >> 4) << 3)) * kBlockK + ((((lane >> 3) & 1) ^ swizzle) << 4);
  place.row = first_row + lane / 4;
  place.column = first_column + 2 * (lane % 4);
  return place;
}

// The consumers' part. acc[m][n][i]: weight row place.row + 16 m + 8 (i / 2), column place.column + 8 n + i % 2.
template <WeightType kType, int kWM, int kWN, int kNB>
__device__ inline void consume_tile(int n_units, const uint8_t* shared, const LanePlace& lane,
                                    float (&acc)[2][kNB][4]) {
  using TileT = Tile<kType, kWM, kWN, kNB>;
  const int n_blocks = n_units / kUnits;
  for (int block = 0; block < n_blocks; ++block) {
    const int slot = block % kStages;
    const uint8_t* stage = shared + TileT::kFirstStage + slot * TileT::kStageBytes;
    const uint8_t* unpacked = shared + TileT::kUnpacked + slot * TileT::kUnpackedBytes;
    sync_barrier(full_barrier(slot), kConsumers + kProducers);
    multiply_units<TileT, kType, kNB>(stage, unpacked, lane, acc);
    if constexpr (WeightForm<kType>::kHasMins) subtract_mins<TileT, kNB>(stage, unpacked, lane, acc);
    if (block + kStages < n_blocks) arrive_barrier(free_barrier(slot), kConsumers + kProducers);
  }
}

}  // namespace ds4::cuda
