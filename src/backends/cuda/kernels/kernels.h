#pragma once

// What the CUDA backend launches: plain structs and functions, so that the host side needs no CUDA compiler. Pointers
// are device memory. Every function enqueues on `stream` and returns the launch's error. Contracts: ops/ops.h; each
// result is computed in one fixed order, so it depends on nothing but its inputs.

#include <cuda_runtime_api.h>

#include <cstdint>

#include "backends/cuda/kernels/weight_layout.h"

namespace ds4::cuda {

// Activations as a weight type meets them: floats, or 8-bit codes with a scale for every 32.
struct Activations {
  const float* x = nullptr;
  const int8_t* codes = nullptr;
  const float* scales = nullptr;
};

struct KvFormat {
  int32_t encoding;  // KvEncoding
  int32_t width;
  int32_t n_rot;
  int32_t row_bytes;
};

struct Compressor {
  int32_t ratio;
  int32_t n_lanes;
  int32_t ring_rows;
  KvFormat format;
  uint64_t kv_ring_offset;
  uint64_t score_ring_offset;
  uint64_t page_offset;
};

struct KvPages {
  uint8_t* frontiers;
  int64_t frontier_bytes;
  uint8_t* pages;
  int64_t page_bytes;
  const int32_t* page_table;
  int64_t max_pages;
};

// One row of the batch and the span that it belongs to.
struct RowPlace {
  int32_t slot;
  int32_t position;
  int32_t first_row;       // of the span, in the batch
  int32_t first_position;  // of the span
  int32_t end_position;    // behind the span
};

// Rows [first_row, first_row + n_rows) of a matrix of n_all_rows with planes: as in the file, and where its planes
// start.
struct PlanePart {
  WeightType type;
  uint8_t* file;
  uint8_t* planes;
  int64_t n_all_rows, n_in;
  int64_t first_row, n_rows;
};
cudaError_t repack(const PlanePart& part, cudaStream_t stream);  // planes from file
cudaError_t unpack(const PlanePart& part, cudaStream_t stream);  // file from planes

struct Embed {
  Weight table;
  const int32_t* tokens;
  float* out;
  int64_t n_rows, width;
};
cudaError_t embed(const Embed& args, cudaStream_t stream);

cudaError_t hc_init(const float* x, float* streams, int64_t n_rows, int32_t n_streams, int64_t width,
                    cudaStream_t stream);
struct RmsNorm {
  const float *x, *weight;  // weight may be null
  float epsilon;
  float* out;
  int64_t n_rows, width;
};
cudaError_t rms_norm(const RmsNorm& args, cudaStream_t stream);
cudaError_t add(const float* a, const float* b, float* out, int64_t n, cudaStream_t stream);
cudaError_t swiglu(const float* gate, const float* up, float clamp, float* out, int64_t n, cudaStream_t stream);
cudaError_t gather_rows(const float* x, const int32_t* row_ids, float* out, int64_t n_rows, int64_t width,
                        cudaStream_t stream);
cudaError_t steer(float* x, const float* direction, const float* scales, int64_t n_rows, int64_t width,
                  cudaStream_t stream);
struct Rope {
  float* x;
  const int32_t* positions;
  const float* frequencies;
  int64_t n_rows, n_heads, width;
  int32_t n_frequencies;
  bool inverse;
};
cudaError_t rope(const Rope& args, cudaStream_t stream);

struct HcMix {
  const float *mix, *scale, *base;
  float *pre, *post, *comb;
  int64_t n_rows;
  int32_t n_streams, iterations;
  float epsilon;
};
inline constexpr int32_t kMaxStreams = 8;
cudaError_t hc_mix(const HcMix& args, cudaStream_t stream);
struct HcHeadMix {
  const float *mix, *scale, *base;
  float epsilon;
  float* weights;
  int64_t n_rows;
  int32_t n_streams;
};
cudaError_t hc_head_mix(const HcHeadMix& args, cudaStream_t stream);
struct HcStreams {
  float* streams;
  int64_t n_rows, width;
  int32_t n_streams;
};
cudaError_t hc_reduce(const HcStreams& streams, const float* weights, float* out, cudaStream_t stream);
cudaError_t hc_expand(const HcStreams& streams, const float* y, const float* post, const float* comb,
                      cudaStream_t stream);

// Codes and scales of n values; n is a multiple of the block. block: 32 (Q8_0) or 256 (Q8_K; its scale is written for
// each of its eight groups).
cudaError_t quantize(const float* x, int64_t n, int32_t block, int8_t* codes, float* scales, cudaStream_t stream);

struct Matmul {
  Weight weight;
  Activations x;
  float* out;
  int64_t n_rows, n_out, n_in;  // n_in of one group
  int64_t n_groups;
};
cudaError_t matmul(const Matmul& args, cudaStream_t stream);

struct Experts {
  Weight gate, up, down;
  Activations gate_x, up_x;
  Activations mid_x;  // of mid, for down
  const int32_t* ids;
  const float* weights;
  float clamp;
  float* mid;  // [R, K, F]
  float* out;  // [R, D]
  int64_t n_rows, n_used, width, hidden;
};
cudaError_t experts_mid(const Experts& args, cudaStream_t stream);
cudaError_t experts_down(const Experts& args, cudaStream_t stream);

struct Router {
  const float *logits, *bias;  // bias may be null
  const int32_t *token_table, *tokens;
  int32_t* ids;
  float* weights;
  float weights_scale;
  int64_t n_rows;
  int32_t n_experts, n_used;
};
cudaError_t router(const Router& args, cudaStream_t stream);
// picks[ids[i]] += 1 for n ids.
cudaError_t count_picks(const int32_t* ids, int64_t n, uint32_t* picks, cudaStream_t stream);

cudaError_t kv_pack(const float* x, const KvFormat& format, uint8_t* rows, int64_t n_rows, cudaStream_t stream);
// norm: 1 / sqrt(width) in double, rounded
cudaError_t index_round(float* x, int64_t n_heads, int32_t width, float norm, cudaStream_t stream);

struct Compress {
  const float *kv, *score, *ape, *norm, *frequencies;
  float rms_epsilon;
  float hadamard_norm;
  int32_t n_frequencies;
  Compressor compressor;
  const RowPlace* places;
  int64_t n_rows;
  KvPages memory;
};
cudaError_t compress(const Compress& args, cudaStream_t stream);

struct Window {
  const uint8_t* rows;
  KvFormat format;
  int32_t size;
  uint64_t ring_offset;
};
cudaError_t window_append(const Window& window, const RowPlace* places, int64_t n_rows, const KvPages& memory,
                          cudaStream_t stream);

struct IndexSelect {
  const float *query, *weights;  // [R, HI, width], [R, HI]
  float weight_scale;
  Compressor indexer;
  const RowPlace* places;
  int64_t n_rows;
  int32_t n_heads, top_k;
  int64_t max_visible;  // over the batch
  float* scores;        // [R, max_visible]
  int32_t *selected, *n_selected;
  KvPages memory;
};
cudaError_t index_select(const IndexSelect& args, cudaStream_t stream);

struct Attention {
  const float* query;  // [R, H, width]
  const float* sinks;
  Window window;
  int32_t ratio;
  Compressor compressor;
  const int32_t *selected, *n_selected;  // null: all visible rows
  int32_t top_k;
  const RowPlace* places;
  int64_t n_rows;
  int32_t n_heads;
  float* out;
  KvPages memory;
};
inline constexpr int32_t kMaxHeadWidth = 512;
cudaError_t attention(const Attention& args, cudaStream_t stream);

}  // namespace ds4::cuda
