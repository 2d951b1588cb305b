// Reading KV rows: which compressed rows a query takes, and attention over raw rows, compressed rows and the sink.

#include "backends/cuda/kernels/kernels.h"
#include "backends/cuda/kernels/kv_rows.cuh"
#include "backends/cuda/kernels/launch.cuh"

namespace ds4::cuda {
namespace {

constexpr int kScoreWarps = 8;
constexpr int kSelectThreads = 256;
constexpr int kHeads = 8;        // of a block of attention, a warp each
constexpr int kStagedRows = 16;  // unpacked at once
constexpr int kLaneValues = kMaxHeadWidth / kWarp;

__device__ int visible_rows(int position, int ratio) { return ratio == 0 ? 0 : (position + 1) / ratio; }

// A warp per indexer row. Shared memory: a key per warp.
__global__ void index_scores_kernel(IndexSelect args) {
  extern __shared__ float keys[];
  wait_for_inputs();
  let_next_start();
  const int width = args.indexer.format.width;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t row = blockIdx.y;
  const RowPlace place = args.places[row];
  const int n_visible = visible_rows(place.position, args.indexer.ratio);
  const int c = static_cast<int>(blockIdx.x) * kScoreWarps + warp;
  if (n_visible <= args.top_k || c >= n_visible) return;
  float* key = keys + warp * width;
  const uint8_t* stored = compressed_row(args.memory, args.indexer, place.slot, c);
  for (int i = lane; i < width; i += kWarp) key[i] = kv_value(stored, args.indexer.format, i);
  __syncwarp();
  float score = 0.0f;
  for (int h = 0; h < args.n_heads; ++h) {
    const float* query = args.query + (row * args.n_heads + h) * width;
    float sum = 0.0f;
    for (int i = lane; i < width; i += kWarp) sum = fmaf(query[i], key[i], sum);
    sum = warp_sum(sum);
    score += fmaxf(0.0f, sum) * (args.weights[row * args.n_heads + h] * args.weight_scale);
  }
  if (lane == 0) args.scores[row * args.max_visible + c] = score;
}

// Larger scores have larger keys; both zeros are one.
__device__ uint32_t rank_key(float score) {
  const uint32_t bits = __float_as_uint(score + 0.0f);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}

// The k-th largest key of n scores, and how many of its equals belong to the k. By the whole block.
struct Threshold {
  uint32_t key;
  int n_equal;
};
__device__ Threshold find_threshold(const float* scores, int n, int k) {
  __shared__ int counts[256];
  __shared__ uint32_t found_key;
  __shared__ int found_rest;
  uint32_t prefix = 0;
  int rest = k;
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (int i = static_cast<int>(threadIdx.x); i < 256; i += static_cast<int>(blockDim.x)) counts[i] = 0;
    __syncthreads();
    for (int c = static_cast<int>(threadIdx.x); c < n; c += static_cast<int>(blockDim.x)) {
      const uint32_t key = rank_key(scores[c]);
      if (shift == 24 || (key >> (shift + 8)) == (prefix >> (shift + 8))) atomicAdd(&counts[(key >> shift) & 255u], 1);
    }
    __syncthreads();
    if (threadIdx.x == 0) {
      int digit = 255;
      int n_left = rest;
      while (digit > 0 && counts[digit] < n_left) n_left -= counts[digit--];
      found_key = prefix | (static_cast<uint32_t>(digit) << shift);
      found_rest = n_left;
    }
    __syncthreads();
    prefix = found_key;
    rest = found_rest;
    __syncthreads();
  }
  return {prefix, rest};
}

// Number of set flags in the block's threads before this one; `total` of all.
__device__ int count_before(bool flag, int* total) {
  __shared__ int sums[kSelectThreads / kWarp];
  const uint32_t mask = __ballot_sync(0xFFFFFFFFu, flag);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  __syncthreads();
  if (threadIdx.x % kWarp == 0) sums[warp] = __popc(mask);
  __syncthreads();
  int before = __popc(mask & ((1u << (threadIdx.x % kWarp)) - 1u));
  int all = 0;
  for (int w = 0; w < kSelectThreads / kWarp; ++w) {
    if (w < warp) before += sums[w];
    all += sums[w];
  }
  *total = all;
  return before;
}

__global__ void index_select_kernel(IndexSelect args) {
  wait_for_inputs();
  let_next_start();
  const int64_t row = blockIdx.x;
  const int n = visible_rows(args.places[row].position, args.indexer.ratio);
  int32_t* selected = args.selected + row * args.top_k;
  if (threadIdx.x == 0) args.n_selected[row] = min(n, args.top_k);
  if (n <= args.top_k) {
    for (int c = static_cast<int>(threadIdx.x); c < n; c += kSelectThreads) selected[c] = c;
    return;
  }
  const float* scores = args.scores + row * args.max_visible;
  const Threshold threshold = find_threshold(scores, n, args.top_k);
  int n_taken = 0;
  int n_equal = 0;
  for (int first = 0; first < n; first += kSelectThreads) {
    const int c = first + static_cast<int>(threadIdx.x);
    const uint32_t key = c < n ? rank_key(scores[c]) : 0u;
    const bool is_equal = c < n && key == threshold.key;
    int n_new = 0;
    const int equal_before = count_before(is_equal, &n_new) + n_equal;
    n_equal += n_new;
    const bool is_taken = c < n && (key > threshold.key || (is_equal && equal_before < threshold.n_equal));
    const int place = count_before(is_taken, &n_new) + n_taken;
    n_taken += n_new;
    if (is_taken) selected[place] = c;
  }
}

// Shared memory: the rows of one stage as floats.
__global__ void attention_kernel(Attention args) {
  extern __shared__ float staged[];
  wait_for_inputs();
  let_next_start();
  const int width = args.window.format.width;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t row = blockIdx.y;
  const int head = static_cast<int>(blockIdx.x) * kHeads + warp;
  const bool is_head = head < args.n_heads;
  const RowPlace place = args.places[row];
  const int first_raw = max(0, place.position - args.window.size + 1);
  const int n_raw = place.position + 1 - first_raw;
  const int32_t* selected = args.selected == nullptr ? nullptr : args.selected + row * args.top_k;
  const int n_compressed = selected == nullptr ? visible_rows(place.position, args.ratio) : args.n_selected[row];
  const float scale = 1.0f / sqrtf(static_cast<float>(width));

  float query[kLaneValues], sums[kLaneValues];
  const float* source = args.query + (row * args.n_heads + (is_head ? head : 0)) * width;
  for (int j = 0; j < kLaneValues; ++j) {
    const int i = lane + j * kWarp;
    query[j] = i < width ? source[i] : 0.0f;
    sums[j] = 0.0f;
  }
  float top = is_head ? args.sinks[head] : 0.0f;
  float total = 1.0f;
  const int n = n_raw + n_compressed;
  for (int first = 0; first < n; first += kStagedRows) {
    const int n_staged = min(kStagedRows, n - first);
    __syncthreads();
    for (int s = warp; s < n_staged; s += kHeads) {
      const int r = first + s;
      const bool is_raw = r < n_raw;
      const uint8_t* stored = is_raw ? window_row(args.window, place, args.memory, first_raw + r)
                                     : compressed_row(args.memory, args.compressor, place.slot,
                                                      selected == nullptr ? r - n_raw : selected[r - n_raw]);
      const KvFormat& format = is_raw ? args.window.format : args.compressor.format;
      for (int i = lane; i < width; i += kWarp) staged[s * width + i] = kv_value(stored, format, i);
    }
    __syncthreads();
    for (int s = 0; s < n_staged; ++s) {
      const float* key = staged + s * width;
      float logit = 0.0f;
      for (int j = 0; j < kLaneValues; ++j) {
        const int i = lane + j * kWarp;
        if (i < width) logit = fmaf(query[j], key[i], logit);
      }
      logit = warp_sum(logit) * scale;
      const float new_top = fmaxf(top, logit);
      const float keep = expf(top - new_top);
      const float weight = expf(logit - new_top);
      top = new_top;
      total = total * keep + weight;
      for (int j = 0; j < kLaneValues; ++j) {
        const int i = lane + j * kWarp;
        if (i < width) sums[j] = fmaf(weight, key[i], sums[j] * keep);
      }
    }
  }
  if (!is_head) return;
  float* out = args.out + (row * args.n_heads + head) * width;
  for (int j = 0; j < kLaneValues; ++j) {
    const int i = lane + j * kWarp;
    if (i < width) out[i] = sums[j] / total;
  }
}

}  // namespace

cudaError_t index_select(const IndexSelect& args, cudaStream_t stream) {
  const auto n_rows = static_cast<unsigned>(args.n_rows);
  if (args.max_visible > args.top_k) {
    const Grid scores{dim3(blocks_for(args.max_visible, kScoreWarps), n_rows), dim3(kScoreWarps * kWarp),
                      static_cast<size_t>(kScoreWarps * args.indexer.format.width) * 4};
    if (const cudaError_t error = launch(index_scores_kernel, scores, stream, args); error != cudaSuccess) return error;
  }
  return launch(index_select_kernel, Grid{dim3(n_rows), dim3(kSelectThreads)}, stream, args);
}

cudaError_t attention(const Attention& args, cudaStream_t stream) {
  const Grid grid{dim3(blocks_for(args.n_heads, kHeads), static_cast<unsigned>(args.n_rows)), dim3(kHeads * kWarp),
                  static_cast<size_t>(kStagedRows * args.window.format.width) * 4};
  return launch(attention_kernel, grid, stream, args);
}

}  // namespace ds4::cuda
