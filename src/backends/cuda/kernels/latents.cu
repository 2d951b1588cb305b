// What a layer makes of the first projections of its input: the query bottleneck's norm, the raw row of each token, and
// the compressed rows whose windows close. A block per row and duty. Of few rows a compression's block takes the whole
// span of its row, because it ends by overwriting the rings that the span's windows read; of many rows the rings have a
// launch of their own. Bytes: what the projections wrote, and 8 or 128 tokens of the rings when a window closes.

#include "backends/cuda/kernels/fused_steps.h"
#include "backends/cuda/kernels/kv_rows.cuh"
#include "backends/cuda/kernels/launch.cuh"

namespace ds4::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int64_t kFewRows = 64;
enum Duty : int { kQuery = 0, kKeyValue = 1, kCompressions = 2 };

__device__ float norm_factor(const float* x, int width, float epsilon) {
  double sum = 0;
  for (int i = static_cast<int>(threadIdx.x); i < width; i += kThreads) {
    const double value = x[i];
    sum += value * value;
  }
  const auto mean = static_cast<float>(block_sum(sum) / static_cast<double>(width));
  return 1.0f / sqrtf(mean + epsilon);
}

__device__ void rotate(float* tail, const float* frequencies, int n_frequencies, int position) {
  for (int i = static_cast<int>(threadIdx.x); i < n_frequencies; i += kThreads) {
    float sine = 0.0f, cosine = 0.0f;
    sincosf(static_cast<float>(position) * frequencies[i], &sine, &cosine);
    const float a = tail[2 * i];
    const float b = tail[2 * i + 1];
    tail[2 * i] = a * cosine - b * sine;
    tail[2 * i + 1] = a * sine + b * cosine;
  }
}

__device__ void norm_query(const Latents& args, int64_t row, float* shared) {
  float* x = args.q_lora + row * args.q_width;
  for (int i = static_cast<int>(threadIdx.x); i < args.q_width; i += kThreads) shared[i] = x[i];
  __syncthreads();
  const float r = norm_factor(shared, args.q_width, args.rms_epsilon);
  for (int i = static_cast<int>(threadIdx.x); i < args.q_width; i += kThreads) x[i] = shared[i] * r * args.q_norm[i];
}

__device__ void make_raw_row(const Latents& args, int64_t row, float* shared) {
  const int width = args.format.width;
  float* x = args.kv + row * width;
  for (int i = static_cast<int>(threadIdx.x); i < width; i += kThreads) shared[i] = x[i];
  __syncthreads();
  const float r = norm_factor(shared, width, args.rms_epsilon);
  for (int i = static_cast<int>(threadIdx.x); i < width; i += kThreads) shared[i] = shared[i] * r * args.kv_norm[i];
  __syncthreads();
  rotate(shared + width - 2 * args.n_frequencies, args.frequencies, args.n_frequencies, args.places[row].position);
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < width; i += kThreads) x[i] = shared[i];
  pack_kv_row(shared, args.format, args.window_rows + row * args.format.row_bytes);
}

// Channel d of the tokens that compressed row `row` pools, in the reference's order: of two lanes the previous window's
// token by lane A, then the own one by lane B.
struct PooledTokens {
  const Compress& args;
  const RowPlace& place;
  int row, n;
  bool has_previous;
  const float *own_kv, *own_score, *previous_kv, *previous_score;  // in the rings

  __device__ PooledTokens(const Compress& args, const RowPlace& place, int row) : args(args), place(place), row(row) {
    const Compressor& c = args.compressor;
    has_previous = c.n_lanes == 2 && row > 0;
    n = has_previous ? 2 * c.ratio : c.ratio;
    const uint8_t* frontier = frontier_of(args.memory, place.slot);
    const int64_t width = int64_t{c.n_lanes} * c.format.width;
    const int64_t own = int64_t{row * c.ratio % c.ring_rows} * width + (c.n_lanes - 1) * c.format.width;
    const int64_t previous = has_previous ? int64_t{(row - 1) * c.ratio % c.ring_rows} * width : 0;
    own_kv = reinterpret_cast<const float*>(frontier + c.kv_ring_offset) + own;
    own_score = reinterpret_cast<const float*>(frontier + c.score_ring_offset) + own;
    previous_kv = reinterpret_cast<const float*>(frontier + c.kv_ring_offset) + previous;
    previous_score = reinterpret_cast<const float*>(frontier + c.score_ring_offset) + previous;
  }

  __device__ float2 kv_and_score(int i, int d) const {
    const Compressor& c = args.compressor;
    const int width = c.n_lanes * c.format.width;
    const bool is_previous = has_previous && i % 2 == 0;
    const int j = has_previous ? i / 2 : i;
    const int position = (is_previous ? row - 1 : row) * c.ratio + j;
    if (position >= place.first_position) {
      const int64_t at = int64_t{place.first_row + position - place.first_position} * width;
      const int channel = (is_previous ? 0 : c.n_lanes - 1) * c.format.width + d;
      return make_float2(args.kv[at + channel], args.score[at + channel] + args.ape[j * width + channel]);
    }
    const int64_t at = int64_t{j} * width + d;
    return is_previous ? make_float2(previous_kv[at], previous_score[at]) : make_float2(own_kv[at], own_score[at]);
  }
};

// By softmax of each channel's scores, kBatch tokens at once so that their loads are in flight together.
template <int kBatch>
__device__ void pool(const Compress& args, const RowPlace& place, int row, float* x) {
  const PooledTokens window(args, place, row);
  for (int d = static_cast<int>(threadIdx.x); d < args.compressor.format.width; d += kThreads) {
    float top = __uint_as_float(0xFF800000u);
    float weighted = 0.0f, total = 0.0f;
    for (int first = 0; first < window.n; first += kBatch) {
      float2 tokens[kBatch];
      float new_top = top;
#pragma unroll
      for (int i = 0; i < kBatch; ++i) tokens[i] = window.kv_and_score(min(first + i, window.n - 1), d);
#pragma unroll
      for (int i = 0; i < kBatch; ++i) new_top = fmaxf(new_top, tokens[i].y);
      const float keep = expf(top - new_top);
      weighted *= keep;
      total *= keep;
      top = new_top;
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const float weight = first + i < window.n ? expf(tokens[i].y - top) : 0.0f;
        weighted += weight * tokens[i].x;
        total += weight;
      }
    }
    x[d] = weighted / total;
  }
  __syncthreads();
}

__device__ void make_compressed_row(const Compress& args, const RowPlace& place, int row, float* x) {
  const Compressor& compressor = args.compressor;
  const int width = compressor.format.width;
  if (compressor.n_lanes == 2) {
    pool<8>(args, place, row, x);
  } else {
    pool<16>(args, place, row, x);
  }
  const float r = norm_factor(x, width, args.rms_epsilon);
  for (int d = static_cast<int>(threadIdx.x); d < width; d += kThreads) x[d] = x[d] * r * args.norm[d];
  __syncthreads();
  rotate(x + width - 2 * args.n_frequencies, args.frequencies, args.n_frequencies, row * compressor.ratio);
  __syncthreads();
  if (compressor.format.encoding == kRowFp4) hadamard(x, width, args.hadamard_norm);
  pack_kv_row(x, compressor.format, compressed_row(args.memory, compressor, place.slot, row));
  __syncthreads();
}

__device__ void store_in_ring(const Compress& args, const RowPlace& place, int64_t row, int position) {
  const Compressor& compressor = args.compressor;
  const int width = compressor.n_lanes * compressor.format.width;
  uint8_t* frontier = frontier_of(args.memory, place.slot);
  const int64_t ring = int64_t{position % compressor.ring_rows} * width;
  float* kv = reinterpret_cast<float*>(frontier + compressor.kv_ring_offset) + ring;
  float* score = reinterpret_cast<float*>(frontier + compressor.score_ring_offset) + ring;
  const float* bias = args.ape + position % compressor.ratio * width;
  for (int d = static_cast<int>(threadIdx.x); d < width; d += kThreads) {
    kv[d] = args.kv[row * width + d];
    score[d] = args.score[row * width + d] + bias[d];
  }
}

// All rows that close in the span of the block's row, then the rings.
__device__ void compress_span(const Compress& args, const RowPlace& place, float* x) {
  if (place.position != place.first_position) return;
  const int ratio = args.compressor.ratio;
  if (place.end_position - place.first_position == 1) {
    // What the token replaces in its ring is one window older than what its own pools.
    store_in_ring(args, place, place.first_row, place.position);
    if (place.end_position % ratio == 0) make_compressed_row(args, place, place.position / ratio, x);
    return;
  }
  for (int row = place.first_position / ratio; row < place.end_position / ratio; ++row)
    make_compressed_row(args, place, row, x);
  __syncthreads();
  const int first = max(place.first_position, place.end_position - args.compressor.ring_rows);
  for (int position = first; position < place.end_position; ++position)
    store_in_ring(args, place, place.first_row + position - place.first_position, position);
}

template <bool kBySpan>
__global__ void __launch_bounds__(kThreads, kBySpan ? 1 : 3) latents_kernel(Latents args) {
  extern __shared__ float shared[];
  wait_for_inputs();
  let_next_start();
  const int64_t row = blockIdx.x;
  const int duty = static_cast<int>(blockIdx.y);
  if (duty == kQuery) return norm_query(args, row, shared);
  if (duty == kKeyValue) return make_raw_row(args, row, shared);
  const Compress& compress = args.compressions[duty - kCompressions];
  const RowPlace place = args.places[row];
  const int ratio = compress.compressor.ratio;
  if constexpr (kBySpan) return compress_span(compress, place, shared);
  if ((place.position + 1) % ratio == 0) make_compressed_row(compress, place, (place.position + 1) / ratio - 1, shared);
}

__global__ void __launch_bounds__(kThreads) rings_kernel(Latents args) {
  wait_for_inputs();
  let_next_start();
  const Compress& compress = args.compressions[blockIdx.y];
  const RowPlace place = args.places[blockIdx.x];
  if (place.position < place.end_position - compress.compressor.ring_rows) return;
  store_in_ring(compress, place, blockIdx.x, place.position);
}

}  // namespace

cudaError_t latents(const Latents& args, cudaStream_t stream) {
  int32_t width = args.format.width > args.q_width ? args.format.width : args.q_width;
  for (int32_t i = 0; i < args.n_compressions; ++i) {
    const int32_t other = args.compressions[i].compressor.format.width;
    width = other > width ? other : width;
  }
  const auto n_rows = static_cast<unsigned>(args.n_rows);
  const bool by_span = args.n_rows <= kFewRows;
  const auto n_duties = static_cast<unsigned>(kCompressions + args.n_compressions);
  const Grid grid{dim3(n_rows, n_duties), dim3(kThreads), static_cast<size_t>(width) * sizeof(float)};
  const cudaError_t error =
      by_span ? launch(latents_kernel<true>, grid, stream, args) : launch(latents_kernel<false>, grid, stream, args);
  if (error != cudaSuccess || by_span || args.n_compressions == 0) return error;
  return launch(rings_kernel, Grid{dim3(n_rows, static_cast<unsigned>(args.n_compressions)), dim3(kThreads)}, stream,
                args);
}

}  // namespace ds4::cuda
