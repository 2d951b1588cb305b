// Products with many rows in integers (gemm_tile.cuh): plain, grouped, and gate and up with SwiGLU. 128 outputs by at
// most 128 rows to a block; the last tile of rows runs with as few columns as it has. Blocks of neighbouring index
// share weights and together sweep the activations, which stay in L2. Bytes of a tile and stage: 16 KB of weights as
// codes and 16 KB of activations for 4.2 MFLOP.

#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/gemm_launch.cuh"

namespace ds4::cuda {
namespace {

struct PlainArgs {
  Planes weight;
  TileActivations x;
  float* out;
  int n_rows, n_out, n_units;
  int group_outputs;  // outputs of one group
};

// Before the inputs: the rows of the tile's columns, the last one repeated behind the end.
template <WeightType kType>
__device__ inline void start_tile(uint8_t* shared, int first_row, int n_rows) {
  fill_grid<kType>(shared);
  int32_t* index = index_of(shared);
  for (int i = static_cast<int>(threadIdx.x); i < kTileRows; i += kThreads) index[i] = min(first_row + i, n_rows - 1);
  let_next_start();
  wait_for_inputs();
  __syncthreads();
}

template <WeightType kType>
__global__ void __launch_bounds__(kThreads, 1) plain_kernel(const __grid_constant__ PlainArgs args) {
  extern __shared__ __align__(1024) uint8_t shared[];
  const int first_row = static_cast<int>(blockIdx.x * kTileRows);
  start_tile<kType>(shared, first_row, args.n_rows);
  const int first = static_cast<int>(blockIdx.y) * kTileOutputs;
  const int group = first / args.group_outputs;
  TileOperands in;
  in.codes = args.x.codes + int64_t{group} * args.n_units * 32;
  in.scales =
      args.x.scales + int64_t{group} * (WeightForm<kType>::kIs32 ? args.n_units : args.n_units / 8) * args.n_rows;
  in.sums = args.x.sums + int64_t{group} * args.n_units * 2;
  in.n_rows = args.n_rows;
  in.width = static_cast<int>(args.x.width);
  in.n_units = args.n_units;
  in.index = index_of(shared);
  const auto store = [&]<int kNB>(const LanePlace& lane, const float(&acc)[2][kNB][4]) {
#pragma unroll
    for (int n = 0; n < kNB; ++n) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int row = first_row + lane.column + n * 8 + j;
        if (row >= args.n_rows) continue;
        float* out = args.out + int64_t{row} * args.n_out + first + lane.row;
#pragma unroll
        for (int m = 0; m < 2; ++m) {
#pragma unroll
          for (int h = 0; h < 2; ++h) out[m * 16 + h * 8] = acc[m][n][2 * h + j];
        }
      }
    }
  };
  run_tile<kType, false>(in, {args.weight, args.weight, first}, args.n_rows - first_row, shared, store);
}

struct SwigluArgs {
  Planes gate, up;
  TileActivations x;
  float* out;
  int n_rows, hidden, n_units;
  float clamp;
};

template <WeightType kType>
__global__ void __launch_bounds__(kThreads, 1) swiglu_kernel(const __grid_constant__ SwigluArgs args) {
  extern __shared__ __align__(1024) uint8_t shared[];
  const int first_row = static_cast<int>(blockIdx.x * kTileRows);
  start_tile<kType>(shared, first_row, args.n_rows);
  const int first = static_cast<int>(blockIdx.y) * kTileOutputs / 2;
  TileOperands in;
  in.codes = args.x.codes;
  in.scales = args.x.scales;
  in.sums = args.x.sums;
  in.n_rows = args.n_rows;
  in.width = static_cast<int>(args.x.width);
  in.n_units = args.n_units;
  in.index = index_of(shared);
  const auto store = [&]<int kNB>(const LanePlace& lane, const float(&acc)[2][kNB][4]) {
    const int f = first + paired_row(lane.row);
#pragma unroll
    for (int n = 0; n < kNB; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int row = first_row + lane.column + n * 8 + i % 2;
        if (row < args.n_rows)
          args.out[int64_t{row} * args.hidden + f + i / 2 * 8] = swiglu_value(acc[0][n][i], acc[1][n][i], args.clamp);
      }
    }
  };
  run_tile<kType, true>(in, {args.gate, args.up, first}, args.n_rows - first_row, shared, store);
}

size_t shared_bytes(WeightType type) {
  size_t bytes = 0;
  with_tile_type(type, [&]<WeightType kType>() { bytes = LargestTile<kType>::kSharedBytes; });
  return bytes;
}

}  // namespace

bool has_tile_kernel(WeightType type, int64_t n_out, int64_t n_in) {
  if (n_out % kTileOutputs != 0 || type == WeightType::kF32 || type == WeightType::kF16 || type == WeightType::kBF16)
    return false;
  static const size_t most = [] {
    int device = 0, bytes = 0;
    (void)cudaGetDevice(&device);
    (void)cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
    return static_cast<size_t>(bytes);
  }();
  return n_in % 256 == 0 && shared_bytes(type) <= most;
}

cudaError_t tile_matmul(const TileMatmul& args, cudaStream_t stream) {
  PlainArgs plain;
  plain.weight = args.weight;
  plain.x = args.x;
  plain.out = args.out;
  plain.n_rows = static_cast<int>(args.x.n_rows);
  plain.n_out = static_cast<int>(args.n_out);
  plain.n_units = static_cast<int>(args.n_in / 32);
  plain.group_outputs = static_cast<int>(args.n_out / args.n_groups);
  const dim3 blocks(blocks_for(args.x.n_rows, kTileRows), blocks_for(args.n_out, kTileOutputs));
  cudaError_t error = cudaErrorInvalidValue;
  with_tile_type(args.type, [&]<WeightType kType>() {
    error = launch(plain_kernel<kType>, {blocks, kThreads, LargestTile<kType>::kSharedBytes}, stream, plain);
  });
  return error;
}

cudaError_t tile_swiglu(const TileSwiglu& args, cudaStream_t stream) {
  SwigluArgs swiglu;
  swiglu.gate = args.gate;
  swiglu.up = args.up;
  swiglu.x = args.x;
  swiglu.out = args.out;
  swiglu.n_rows = static_cast<int>(args.x.n_rows);
  swiglu.hidden = static_cast<int>(args.hidden);
  swiglu.n_units = static_cast<int>(args.n_in / 32);
  swiglu.clamp = args.clamp;
  const dim3 blocks(blocks_for(args.x.n_rows, kTileRows), blocks_for(args.hidden, kTileOutputs / 2));
  cudaError_t error = cudaErrorInvalidValue;
  with_tile_type(args.type, [&]<WeightType kType>() {
    error = launch(swiglu_kernel<kType>, {blocks, kThreads, LargestTile<kType>::kSharedBytes}, stream, swiglu);
  });
  return error;
}

}  // namespace ds4::cuda
