#pragma once

// Products of weight matrices in planes (weight_layout.h) with many rows: what gemm_*.cu and experts_gemm.cu launch.

#include <cuda_fp16.h>
#include <cuda_runtime_api.h>

#include <cstdint>

#include "backends/cuda/kernels/kernels.h"

namespace ds4::cuda {

// The planes of a matrix; those that its type lacks are null.
struct Planes {
  const uint8_t* plane[3] = {nullptr, nullptr, nullptr};
};

// Rows of 8-bit codes as the tile kernels read them. Scales lie transposed: [width / block][n_rows].
struct TileActivations {
  int8_t* codes = nullptr;  // [n_rows, width]
  float* scales = nullptr;  // one per 32 or 256 codes
  __half* sums = nullptr;   // [n_rows, width / 16], of 16 codes, exact; blocks of 256 only
  int64_t n_rows = 0, width = 0;
};
struct TileQuantize {
  const float* x;
  int32_t block;  // 32 or 256
  TileActivations out;
};
// width is a multiple of 256
cudaError_t tile_quantize(const TileQuantize& args, cudaStream_t stream);

// Whether the tile kernels compute products of such a matrix (one group of it), on this device.
bool has_tile_kernel(WeightType type, int64_t n_out, int64_t n_in);

struct TileMatmul {
  WeightType type;
  Planes weight;
  TileActivations x;
  float* out;
  int64_t n_out, n_in;  // n_in of one group
  int64_t n_groups;
};
cudaError_t tile_matmul(const TileMatmul& args, cudaStream_t stream);

// out = swiglu(gate * x, up * x); [x.n_rows, hidden]
struct TileSwiglu {
  WeightType type;
  Planes gate, up;
  TileActivations x;
  float* out;
  int64_t hidden, n_in;
  float clamp;
};
cudaError_t tile_swiglu(const TileSwiglu& args, cudaStream_t stream);

// Which (row, slot) pairs meet which expert: pairs sorted by expert, cut into tiles.
struct ExpertTile {
  int32_t expert;
  int32_t first;  // of the sorted pairs
  int32_t count;  // at most kTileRows
  int32_t unused;
};
inline constexpr int64_t kTileRows = 128;
struct ExpertPlan {
  int32_t* pairs = nullptr;     // [n_pairs] row * n_used + slot, by expert, ascending
  ExpertTile* tiles = nullptr;  // [max_expert_tiles]
  int32_t* n_tiles = nullptr;
};
inline constexpr int64_t kMaxPlannedExperts = 512;
inline int64_t max_expert_tiles(int64_t n_pairs, int64_t n_experts) {
  const int64_t bound = n_pairs / kTileRows + n_experts;
  return bound < n_pairs ? bound : n_pairs;
}
cudaError_t plan_experts(const int32_t* ids, int64_t n_pairs, int64_t n_experts, const ExpertPlan& plan,
                         cudaStream_t stream);

struct TileExperts {
  WeightType gate_type, down_type;  // up is of gate_type
  Planes gate, up, down;
  ExpertPlan plan;
  TileActivations x;    // [R, width]
  TileActivations mid;  // [R * n_used, hidden]
  const float* weights;
  float clamp;
  float* mid_out;    // [R * n_used, hidden]
  float* pairs_out;  // [R * n_used, width]
  int64_t n_experts, n_used, width, hidden;
};
cudaError_t tile_experts_mid(const TileExperts& args, cudaStream_t stream);
cudaError_t tile_experts_down(const TileExperts& args, cudaStream_t stream);

// out[r] = sum over k, ascending, of pairs[r][k], then plus extra[r] if there is one. width is a multiple of 4.
struct SumPairs {
  const float *pairs, *extra;
  float* out;
  int64_t n_rows, n_used, width;
};
cudaError_t sum_pairs(const SumPairs& args, cudaStream_t stream);

// F32, F16 or BF16 weights as in the file; n_in is a multiple of 32.
struct RealMatmul {
  WeightType type;
  const uint8_t* weight;
  const float* x;
  float* out;
  float* parts;  // [real_matmul_parts(n_out, n_in), n_rows, n_out], unused if that is 1
  int64_t n_rows, n_out, n_in;
};
int64_t real_matmul_parts(int64_t n_out, int64_t n_in);
cudaError_t real_matmul(const RealMatmul& args, cudaStream_t stream);

}  // namespace ds4::cuda
