// Writing KV rows: packing, compression of closed windows, and the rings of open ones.

#include "backends/cuda/kernels/kernels.h"
#include "backends/cuda/kernels/kv_rows.cuh"
#include "backends/cuda/kernels/launch.cuh"

namespace ds4::cuda {
namespace {

constexpr int kThreads = 128;

__global__ void kv_pack_kernel(const float* x, KvFormat format, uint8_t* rows) {
  wait_for_inputs();
  let_next_start();
  extern __shared__ float row[];
  for (int i = static_cast<int>(threadIdx.x); i < format.width; i += static_cast<int>(blockDim.x))
    row[i] = x[int64_t{blockIdx.x} * format.width + i];
  __syncthreads();
  pack_kv_row(row, format, rows + int64_t{blockIdx.x} * format.row_bytes);
}

// A block per head; the packed bytes are kept in shared memory only.
__global__ void index_round_kernel(float* x, KvFormat format, float norm) {
  wait_for_inputs();
  let_next_start();
  extern __shared__ float row[];
  auto* packed = reinterpret_cast<uint8_t*>(row + format.width);
  float* head = x + int64_t{blockIdx.x} * format.width;
  for (int i = static_cast<int>(threadIdx.x); i < format.width; i += static_cast<int>(blockDim.x)) row[i] = head[i];
  hadamard(row, format.width, norm);
  pack_kv_row(row, format, packed);
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < format.width; i += static_cast<int>(blockDim.x))
    head[i] = kv_value(packed, format, i);
}

// Heads of 128, a warp each, four values a lane: the butterfly of hadamard() with the same sums, by shuffles.
constexpr int kWarpHead = 4 * kWarp;

__global__ void index_round_warp_kernel(float4* x, int64_t n_heads, float norm) {
  wait_for_inputs();
  let_next_start();
  const int64_t head = int64_t{blockIdx.x} * (blockDim.x / kWarp) + threadIdx.x / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if (head >= n_heads) return;
  const float4 in = x[head * kWarp + lane];
  const float a = in.x + in.y, b = in.x - in.y, c = in.z + in.w, d = in.z - in.w;
  float values[4] = {a + c, b + d, a - c, b - d};
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const bool is_upper = (lane & distance) != 0;
    for (float& value : values) {
      const float other = __shfl_xor_sync(0xFFFFFFFFu, value, distance);
      value = is_upper ? other - value : value + other;
    }
  }
  float amax = 0.0f;
  for (float& value : values) {
    value *= norm;
    amax = fmaxf(amax, fabsf(value));
  }
  for (int distance = 1; distance < kFp4GroupSize / 4; distance *= 2)
    amax = fmaxf(amax, __shfl_xor_sync(0xFFFFFFFFu, amax, distance));
  const float scale = e8m0(group_scale(amax, 6.0f * 0x1p-126f, 1.0f / 6.0f));
  for (float& value : values) value = e2m1(to_e2m1(value * (1.0f / scale))) * scale;
  x[head * kWarp + lane] = make_float4(values[0], values[1], values[2], values[3]);
}

__device__ const float* ring_row(const uint8_t* frontier, uint64_t offset, const Compressor& compressor, int position) {
  const int64_t width = int64_t{compressor.n_lanes} * compressor.format.width;
  return reinterpret_cast<const float*>(frontier + offset) + (position % compressor.ring_rows) * width;
}

struct Candidate {
  float kv, score;
};

// Channel d of lane `lane` of the token at `position`.
__device__ Candidate candidate(const Compress& args, const RowPlace& place, int position, int lane, int d) {
  const Compressor& compressor = args.compressor;
  const int64_t width = int64_t{compressor.n_lanes} * compressor.format.width;
  const int64_t at = int64_t{lane} * compressor.format.width + d;
  if (position >= place.first_position) {
    const int64_t row = place.first_row + position - place.first_position;
    return {args.kv[row * width + at],
            args.score[row * width + at] + args.ape[(position % compressor.ratio) * width + at]};
  }
  const uint8_t* frontier = frontier_of(args.memory, place.slot);
  return {ring_row(frontier, compressor.kv_ring_offset, compressor, position)[at],
          ring_row(frontier, compressor.score_ring_offset, compressor, position)[at]};
}

// body(candidate) for every token and lane that row `row` pools, in the reference's order.
template <class Body>
__device__ void for_candidates(const Compress& args, const RowPlace& place, int row, int d, const Body& body) {
  const int ratio = args.compressor.ratio;
  const int own_lane = args.compressor.n_lanes - 1;
  for (int i = 0; i < ratio; ++i) {
    const int position = row * ratio + i;
    if (own_lane == 1 && row > 0) body(candidate(args, place, position - ratio, 0, d));
    body(candidate(args, place, position, own_lane, d));
  }
}

__device__ void rope_tail(const Compress& args, float* x, int width, int position) {
  float* tail = x + width - 2 * args.n_frequencies;
  for (int i = static_cast<int>(threadIdx.x); i < args.n_frequencies; i += static_cast<int>(blockDim.x)) {
    float sine = 0.0f, cosine = 0.0f;
    sincosf(static_cast<float>(position) * args.frequencies[i], &sine, &cosine);
    const float a = tail[2 * i];
    const float b = tail[2 * i + 1];
    tail[2 * i] = a * cosine - b * sine;
    tail[2 * i + 1] = a * sine + b * cosine;
  }
}

// A block per row of the batch; those that close no window have nothing to do.
__global__ void compress_kernel(Compress args) {
  wait_for_inputs();
  let_next_start();
  extern __shared__ float x[];
  const RowPlace place = args.places[blockIdx.x];
  const Compressor& compressor = args.compressor;
  if ((place.position + 1) % compressor.ratio != 0) return;
  const int row = (place.position + 1) / compressor.ratio - 1;
  const int width = compressor.format.width;
  double squares = 0;
  for (int d = static_cast<int>(threadIdx.x); d < width; d += static_cast<int>(blockDim.x)) {
    float top = __uint_as_float(0xFF800000u);
    for_candidates(args, place, row, d, [&](const Candidate& c) { top = fmaxf(top, c.score); });
    float weighted = 0.0f, total = 0.0f;
    for_candidates(args, place, row, d, [&](const Candidate& c) {
      const float weight = expf(c.score - top);
      weighted += weight * c.kv;
      total += weight;
    });
    x[d] = weighted / total;
    squares += static_cast<double>(x[d]) * static_cast<double>(x[d]);
  }
  const auto mean = static_cast<float>(block_sum(squares) / static_cast<double>(width));
  const float r = 1.0f / sqrtf(mean + args.rms_epsilon);
  for (int d = static_cast<int>(threadIdx.x); d < width; d += static_cast<int>(blockDim.x))
    x[d] = x[d] * r * args.norm[d];
  __syncthreads();
  rope_tail(args, x, width, row * compressor.ratio);
  __syncthreads();
  if (compressor.format.encoding == kRowFp4) hadamard(x, width, args.hadamard_norm);
  pack_kv_row(x, compressor.format, compressed_row(args.memory, compressor, place.slot, row));
}

// After every row was pooled.
__global__ void rings_kernel(Compress args) {
  wait_for_inputs();
  let_next_start();
  const RowPlace place = args.places[blockIdx.x];
  const Compressor& compressor = args.compressor;
  if (place.position < place.end_position - compressor.ring_rows) return;
  const int64_t width = int64_t{compressor.n_lanes} * compressor.format.width;
  uint8_t* frontier = frontier_of(args.memory, place.slot);
  const int64_t ring = (place.position % compressor.ring_rows) * width;
  float* kv = reinterpret_cast<float*>(frontier + compressor.kv_ring_offset) + ring;
  float* score = reinterpret_cast<float*>(frontier + compressor.score_ring_offset) + ring;
  const int64_t row = blockIdx.x;
  for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
    kv[i] = args.kv[row * width + i];
    score[i] = args.score[row * width + i] + args.ape[(place.position % compressor.ratio) * width + i];
  }
}

__global__ void window_append_kernel(Window window, const RowPlace* places, KvPages memory) {
  wait_for_inputs();
  let_next_start();
  const RowPlace place = places[blockIdx.x];
  if (place.position < place.end_position - window.size) return;
  const int64_t row_bytes = window.format.row_bytes;
  uint8_t* ring = frontier_of(memory, place.slot) + window.ring_offset + (place.position % window.size) * row_bytes;
  for (int64_t i = threadIdx.x; i < row_bytes; i += blockDim.x) ring[i] = window.rows[blockIdx.x * row_bytes + i];
}

}  // namespace

cudaError_t kv_pack(const float* x, const KvFormat& format, uint8_t* rows, int64_t n_rows, cudaStream_t stream) {
  const Grid grid{dim3(static_cast<unsigned>(n_rows)), dim3(kThreads), static_cast<size_t>(format.width) * 4};
  return launch(kv_pack_kernel, grid, stream, x, format, rows);
}

cudaError_t index_round(float* x, int64_t n_heads, int32_t width, float norm, cudaStream_t stream) {
  if (width == kWarpHead && reinterpret_cast<uintptr_t>(x) % 16 == 0) {
    const Grid grid{dim3(blocks_for(n_heads, kThreads / kWarp)), dim3(kThreads)};
    return launch(index_round_warp_kernel, grid, stream, reinterpret_cast<float4*>(x), n_heads, norm);
  }
  const KvFormat format{kRowFp4, width, 0, width / 2 + width / kFp4GroupSize};
  const size_t shared = static_cast<size_t>(width) * 4 + static_cast<size_t>(format.row_bytes);
  const Grid grid{dim3(static_cast<unsigned>(n_heads)), dim3(kThreads), shared};
  return launch(index_round_kernel, grid, stream, x, format, norm);
}

cudaError_t compress(const Compress& args, cudaStream_t stream) {
  const Grid grid{dim3(static_cast<unsigned>(args.n_rows)), dim3(kThreads),
                  static_cast<size_t>(args.compressor.format.width) * 4};
  if (const cudaError_t error = launch(compress_kernel, grid, stream, args); error != cudaSuccess) return error;
  return launch(rings_kernel, Grid{grid.blocks, grid.threads}, stream, args);
}

cudaError_t window_append(const Window& window, const RowPlace* places, int64_t n_rows, const KvPages& memory,
                          cudaStream_t stream) {
  const Grid grid{dim3(static_cast<unsigned>(n_rows)), dim3(kThreads)};
  return launch(window_append_kernel, grid, stream, window, places, memory);
}

}  // namespace ds4::cuda
