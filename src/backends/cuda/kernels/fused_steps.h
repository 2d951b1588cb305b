#pragma once

// Fused steps around the weight products, as plain structs and functions like kernels.h. Each takes the shapes that its
// `accepts` function names and is else spelled with the plain kernels. None reads a position from its arguments: those
// are in device memory, so that a captured launch serves later tokens; `*_bound` arguments are upper limits that hold
// for every token of the capture. Pointers are device memory.

#include "backends/cuda/kernels/kernels.h"

namespace ds4::cuda {

// Attention, then the rows into their rings, then the inverse rotation of the result.
struct Attend {
  Attention attention;
  const float* frequencies;
  int32_t n_frequencies;
  int64_t compressed_bound;  // rows that a query takes, at most
  bool appends;              // window rows to their rings
  float* sums;               // [R, ranges, H, width]
  float* tops;               // [R, ranges, H, 2]: largest logit of a range, sum of weights
};
inline constexpr int32_t kRangeRows = 64;
bool accepts(const Attend& args);
int64_t attend_ranges(const Attend& args);  // per query
cudaError_t attend(const Attend& args, cudaStream_t stream);

// The same for consecutive rows of one sequence, all of which see a full window. Its logits and weights are products of
// F16 values. Does not append.
struct AttendPrompt {
  Attend attend;
  RowPlace span;         // first row to be computed; span fields of the whole span
  int64_t first_row;     // in the batch
  int64_t n_rows;        // to be computed
  int64_t n_compressed;  // visible at the end of the span
  uint16_t* rows;        // [prompt_rows()][512] F16
};
bool accepts_prompt(const Attend& args);
int64_t prompt_rows(const AttendPrompt& args);
cudaError_t attend_prompt(const AttendPrompt& args, cudaStream_t stream);

// As index_select, for queries that are on the grid of the indexer's rows. max_visible is a bound and the stride of
// `scores`, a multiple of 4.
bool accepts(const IndexSelect& args);
cudaError_t index_select_rounded(const IndexSelect& args, uint16_t* prepared, cudaStream_t stream);
// Values of `prepared` for n rows; none when rows are few.
int64_t prepared_query_values(int64_t n_rows);
// Rows that `scores` holds at a time.
int64_t index_rows_at_once(int64_t n_rows, int64_t max_visible);

struct SublayerInput {
  const float* streams;  // [R, 4, D]
  const uint16_t* fn;    // [24, 4 * D] F16
  const float *scale, *base;
  const float* norm;  // [D]; null: no norm
  float *pre, *post, *comb;
  float* out;  // [R, D]
  float rms_epsilon, hc_epsilon;
  int32_t iterations;
  int64_t n_rows, width;
};
bool accepts(const SublayerInput& args);
cudaError_t sublayer_input(const SublayerInput& args, cudaStream_t stream);

struct Latents {
  float *q_lora, *kv;
  const float *q_norm, *kv_norm;
  const float* frequencies;
  int32_t n_frequencies;
  int32_t q_width;
  float rms_epsilon;
  KvFormat format;
  uint8_t* window_rows;
  int32_t n_compressions;
  Compress compressions[2];
  const RowPlace* places;
  int64_t n_rows;
};
cudaError_t latents(const Latents& args, cudaStream_t stream);

}  // namespace ds4::cuda
