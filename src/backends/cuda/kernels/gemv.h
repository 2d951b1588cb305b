#pragma once

// Products of weight matrices with few rows (decode): up to 16 activation rows. Each weight byte is read once; a row's
// sums are taken in one order for every number of rows, grid and companion product. What the kernels do not take stays
// with the plain ones (kernels.h).

#include "backends/cuda/kernels/kernels.h"

namespace ds4::cuda {

inline constexpr int32_t kMaxGemvRows = 16;
inline constexpr int32_t kMaxProducts = 8;

enum class GemvFinish : int32_t {
  kStore,   // out[row][o]
  kSwiglu,  // out[row][o] = swiglu(weight * x, up * x)
  kExpand,  // out[row][o], then hc_expand of it
};

struct GemvProduct {
  Weight weight;
  Weight up;             // of kSwiglu, of the same type
  float* out = nullptr;  // [n_rows, n_out]; of kExpand may be null
  int32_t n_out = 0;
  GemvFinish finish = GemvFinish::kStore;
};

// streams[r][c][d] = y[r][d] * post[r][c] + sum_s comb[r][s][c] * streams[r][s][d]; four streams.
struct GemvExpand {
  float* streams = nullptr;
  const float* post = nullptr;
  const float* comb = nullptr;
};

// All products of one input. With n_groups > 1 there is one product, and its rows of group g meet slice g of x.
struct Gemv {
  const float* x = nullptr;  // [n_rows, n_groups * n_in]
  int32_t n_rows = 0;
  int32_t n_in = 0;  // of one group
  int32_t n_groups = 1;
  int32_t n_products = 0;
  float clamp = 0.0f;  // of kSwiglu
  GemvExpand expand;
  GemvProduct products[kMaxProducts];
};

// Whether gemv() has a kernel for such a matrix. Quantised activations only.
bool gemv_takes(const Weight& weight, int64_t n_in);
// Launches as few kernels as the types and rows allow. Precondition: gemv_takes every weight; 1 to 16 rows.
cudaError_t gemv(const Gemv& args, cudaStream_t stream);

// Gate and up products of the experts that the router picks: mid[row][k] = swiglu(gate x, up x) * weight. Every block
// makes the choice for itself.
struct RoutedUp {
  Router router;  // no logits: its ids and weights are there already, else written
  Weight gate, up;
  const float* x = nullptr;  // [n_rows, width]
  float* mid = nullptr;      // [n_rows, n_used, hidden]
  int32_t n_rows = 0, width = 0, hidden = 0;
  float clamp = 0.0f;
};
bool routed_up_takes(const RoutedUp& args);
cudaError_t routed_up(const RoutedUp& args, cudaStream_t stream);

// out[row] = sum_k down[ids[row][k]] * mid[row][k], ascending k, then + shared_down * shared_mid, then hc_expand.
struct RoutedDown {
  Weight down;
  Weight shared_down;  // Q8_0
  const int32_t* ids = nullptr;
  const float* mid = nullptr;         // [n_rows, n_used, hidden]
  const float* shared_mid = nullptr;  // [n_rows, hidden], or null: no shared expert
  float* out = nullptr;               // [n_rows, width]
  GemvExpand expand;                  // or no streams
  int32_t n_rows = 0, n_used = 0, width = 0, hidden = 0;
};
bool routed_down_takes(const RoutedDown& args);
cudaError_t routed_down(const RoutedDown& args, cudaStream_t stream);

// In place: norm and rotation of every query head, rotation and rounding of every indexer head.
struct QueryHeads {
  float* query = nullptr;        // [n_rows, n_heads, width]
  float* index_query = nullptr;  // [n_rows, n_index_heads, index_width]
  const int32_t* positions = nullptr;
  const float* frequencies = nullptr;
  int32_t n_rows = 0, n_heads = 0, width = 0, n_index_heads = 0, index_width = 0, n_frequencies = 0;
  float rms_epsilon = 0.0f, hadamard_norm = 0.0f;
  bool rounds = false;  // of the indexer
};
cudaError_t query_heads(const QueryHeads& args, cudaStream_t stream);

}  // namespace ds4::cuda
