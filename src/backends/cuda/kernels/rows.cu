// Ops that work on the values of rows: lookups, norms, rotary angles, gates.

#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/kernels.h"
#include "backends/cuda/kernels/launch.cuh"
#include "backends/cuda/kernels/weight_types.cuh"

#include <initializer_list>

namespace ds4::cuda {
namespace {

constexpr int kThreads = 256;

// Threads cover a row; blockIdx.y is a further part of it, so that few rows use more multiprocessors.
__device__ int64_t first_in_row() { return int64_t{blockIdx.y} * blockDim.x + threadIdx.x; }
__device__ int64_t step_in_row() { return int64_t{gridDim.y} * blockDim.x; }

template <WeightType kType>
__global__ void embed_kernel(Embed args) {
  wait_for_inputs();
  let_next_start();
  const int64_t row = blockIdx.x;
  const WeightRow source = weight_row(args.table, args.tokens[row]);
  for (int64_t i = first_in_row(); i < args.width; i += step_in_row())
    args.out[row * args.width + i] = weight_value<kType>(source, i);
}

template <class T>
__global__ void hc_init_kernel(const T* x, T* streams, int32_t n_streams, int64_t width) {
  wait_for_inputs();
  let_next_start();
  const int64_t row = blockIdx.x;
  for (int64_t i = first_in_row(); i < width; i += step_in_row()) {
    const T value = x[row * width + i];
    for (int32_t s = 0; s < n_streams; ++s) streams[(row * n_streams + s) * width + i] = value;
  }
}

__global__ void rms_norm_kernel(const float* x, const float* weight, float epsilon, float* out, int64_t width) {
  wait_for_inputs();
  let_next_start();
  const float* source = x + blockIdx.x * width;
  double sum = 0;
  for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
    const double value = source[i];
    sum += value * value;
  }
  const auto mean = static_cast<float>(block_sum(sum) / static_cast<double>(width));
  const float r = 1.0f / sqrtf(mean + epsilon);
  for (int64_t i = threadIdx.x; i < width; i += blockDim.x) {
    const float normed = source[i] * r;
    out[blockIdx.x * width + i] = weight == nullptr ? normed : normed * weight[i];
  }
}

// Four values a thread and step, of rows that fit into registers: read once.
constexpr int kHeldFours = 4;
constexpr int64_t kMostHeld = int64_t{4} * kHeldFours * kThreads;

__device__ float4 times(const float4& a, const float4& b) {
  return make_float4(a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w);
}

__global__ void rms_norm_held_kernel(const float4* x, const float4* weight, float epsilon, float4* out, int width) {
  wait_for_inputs();
  let_next_start();
  const float4* source = x + int64_t{blockIdx.x} * width;
  float4 held[kHeldFours];
  double sum = 0;
#pragma unroll
  for (int j = 0; j < kHeldFours; ++j) {
    const int i = static_cast<int>(threadIdx.x) + j * static_cast<int>(blockDim.x);
    held[j] = i < width ? source[i] : make_float4(0, 0, 0, 0);
    const double a = held[j].x, b = held[j].y, c = held[j].z, d = held[j].w;
    sum += (a * a + b * b) + (c * c + d * d);
  }
  const auto mean = static_cast<float>(block_sum(sum) / (4.0 * static_cast<double>(width)));
  const float r = 1.0f / sqrtf(mean + epsilon);
#pragma unroll
  for (int j = 0; j < kHeldFours; ++j) {
    const int i = static_cast<int>(threadIdx.x) + j * static_cast<int>(blockDim.x);
    if (i >= width) continue;
    const float4 normed = times(held[j], make_float4(r, r, r, r));
    out[int64_t{blockIdx.x} * width + i] = weight == nullptr ? normed : times(normed, weight[i]);
  }
}

// A warp per row of at most 1024 values.
constexpr int kWarpFours = 8;
constexpr int64_t kMostOfWarp = int64_t{4} * kWarpFours * kWarp;

__global__ void rms_norm_warp_kernel(const float4* x, const float4* weight, float epsilon, float4* out, int64_t n_rows,
                                     int width) {
  wait_for_inputs();
  let_next_start();
  const int64_t row = int64_t{blockIdx.x} * (kThreads / kWarp) + threadIdx.x / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  if (row >= n_rows) return;
  float4 held[kWarpFours];
  double sum = 0;
#pragma unroll
  for (int j = 0; j < kWarpFours; ++j) {
    const int i = lane + j * kWarp;
    held[j] = i < width ? x[row * width + i] : make_float4(0, 0, 0, 0);
  }
#pragma unroll
  for (int j = 0; j < kWarpFours; ++j) {
    const double a = held[j].x, b = held[j].y, c = held[j].z, d = held[j].w;
    if (lane + j * kWarp < width) sum += (a * a + b * b) + (c * c + d * d);
  }
  const auto mean = static_cast<float>(warp_sum(sum) / (4.0 * static_cast<double>(width)));
  const float r = 1.0f / sqrtf(mean + epsilon);
#pragma unroll
  for (int j = 0; j < kWarpFours; ++j) {
    const int i = lane + j * kWarp;
    if (i >= width) continue;
    const float4 normed = times(held[j], make_float4(r, r, r, r));
    out[row * width + i] = weight == nullptr ? normed : times(normed, weight[i]);
  }
}

template <int kWide>
__global__ void add_kernel(const float* a, const float* b, float* out, int64_t n) {
  wait_for_inputs();
  let_next_start();
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= n) return;
  if constexpr (kWide == 4) {
    const float4 x = reinterpret_cast<const float4*>(a)[i];
    const float4 y = reinterpret_cast<const float4*>(b)[i];
    reinterpret_cast<float4*>(out)[i] = make_float4(x.x + y.x, x.y + y.y, x.z + y.z, x.w + y.w);
  } else {
    out[i] = a[i] + b[i];
  }
}

template <int kWide>
__global__ void swiglu_kernel(const float* gate, const float* up, float clamp, float* out, int64_t n) {
  wait_for_inputs();
  let_next_start();
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i >= n) return;
  if constexpr (kWide == 4) {
    const float4 x = reinterpret_cast<const float4*>(gate)[i];
    const float4 y = reinterpret_cast<const float4*>(up)[i];
    reinterpret_cast<float4*>(out)[i] = make_float4(swiglu_value(x.x, y.x, clamp), swiglu_value(x.y, y.y, clamp),
                                                    swiglu_value(x.z, y.z, clamp), swiglu_value(x.w, y.w, clamp));
  } else {
    out[i] = swiglu_value(gate[i], up[i], clamp);
  }
}

template <class T>
__global__ void gather_kernel(const T* x, const int32_t* row_ids, T* out, int64_t width) {
  wait_for_inputs();
  let_next_start();
  const int64_t row = blockIdx.x;
  const int64_t source = row_ids[row];
  for (int64_t i = first_in_row(); i < width; i += step_in_row()) out[row * width + i] = x[source * width + i];
}

__global__ void steer_kernel(float* x, const float* direction, const float* scales, int64_t width) {
  wait_for_inputs();
  let_next_start();
  float* row = x + blockIdx.x * width;
  const float scale = scales[blockIdx.x];
  if (scale == 0.0f) return;
  float sum = 0.0f;
  for (int64_t i = threadIdx.x; i < width; i += blockDim.x) sum = fmaf(direction[i], row[i], sum);
  const float factor = scale * block_sum(sum);
  for (int64_t i = threadIdx.x; i < width; i += blockDim.x) row[i] = row[i] - factor * direction[i];
}

__global__ void rope_kernel(Rope args) {
  wait_for_inputs();
  let_next_start();
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const int64_t n = args.n_rows * args.n_heads * args.n_frequencies;
  if (i >= n) return;
  const int64_t pair = i % args.n_frequencies;
  const int64_t head = i / args.n_frequencies;
  const float angle = static_cast<float>(args.positions[head / args.n_heads]) * args.frequencies[pair];
  float sine = 0.0f, cosine = 0.0f;
  sincosf(angle, &sine, &cosine);
  if (args.inverse) sine = -sine;
  float* at = args.x + (head + 1) * args.width - 2 * args.n_frequencies + 2 * pair;
  const float a = at[0];
  const float b = at[1];
  at[0] = a * cosine - b * sine;
  at[1] = a * sine + b * cosine;
}

bool is_aligned(std::initializer_list<const void*> pointers) {
  uintptr_t bits = 0;
  for (const void* p : pointers) bits |= reinterpret_cast<uintptr_t>(p);
  return bits % 16 == 0;
}

// A block per row and, of few rows, per part of `width` (in what a thread takes).
Grid row_grid(int64_t n_rows, int64_t width) {
  const int64_t parts = n_rows >= 64 ? 1 : (width + kThreads - 1) / kThreads;
  return {dim3(static_cast<unsigned>(n_rows), static_cast<unsigned>(parts > 0 ? parts : 1)), dim3(kThreads)};
}

Grid grid_for(int64_t n) { return {dim3(blocks_for(n, kThreads)), dim3(kThreads)}; }

}  // namespace

cudaError_t embed(const Embed& args, cudaStream_t stream) {
  cudaError_t error = cudaSuccess;
  with_type(args.table.type, [&]<WeightType kType>() {
    error = launch(embed_kernel<kType>, row_grid(args.n_rows, args.width), stream, args);
  });
  return error;
}

cudaError_t hc_init(const float* x, float* streams, int64_t n_rows, int32_t n_streams, int64_t width,
                    cudaStream_t stream) {
  if (width % 4 == 0 && is_aligned({x, streams})) {
    return launch(hc_init_kernel<float4>, row_grid(n_rows, width / 4), stream, reinterpret_cast<const float4*>(x),
                  reinterpret_cast<float4*>(streams), n_streams, width / 4);
  }
  return launch(hc_init_kernel<float>, row_grid(n_rows, width), stream, x, streams, n_streams, width);
}

cudaError_t rms_norm(const RmsNorm& args, cudaStream_t stream) {
  const auto& [x, weight, epsilon, out, n_rows, width] = args;
  const Grid grid{dim3(static_cast<unsigned>(n_rows)), dim3(kThreads)};
  if (width % 4 == 0 && width <= kMostOfWarp && is_aligned({x, weight, out})) {
    return launch(rms_norm_warp_kernel, Grid{dim3(blocks_for(n_rows, kThreads / kWarp)), dim3(kThreads)}, stream,
                  reinterpret_cast<const float4*>(x), reinterpret_cast<const float4*>(weight), epsilon,
                  reinterpret_cast<float4*>(out), n_rows, static_cast<int>(width / 4));
  }
  if (width % 4 == 0 && width <= kMostHeld && is_aligned({x, weight, out})) {
    return launch(rms_norm_held_kernel, grid, stream, reinterpret_cast<const float4*>(x),
                  reinterpret_cast<const float4*>(weight), epsilon, reinterpret_cast<float4*>(out),
                  static_cast<int>(width / 4));
  }
  return launch(rms_norm_kernel, grid, stream, x, weight, epsilon, out, width);
}

cudaError_t add(const float* a, const float* b, float* out, int64_t n, cudaStream_t stream) {
  if (n % 4 == 0 && is_aligned({a, b, out})) return launch(add_kernel<4>, grid_for(n / 4), stream, a, b, out, n / 4);
  return launch(add_kernel<1>, grid_for(n), stream, a, b, out, n);
}

cudaError_t swiglu(const float* gate, const float* up, float clamp, float* out, int64_t n, cudaStream_t stream) {
  if (n % 4 == 0 && is_aligned({gate, up, out}))
    return launch(swiglu_kernel<4>, grid_for(n / 4), stream, gate, up, clamp, out, n / 4);
  return launch(swiglu_kernel<1>, grid_for(n), stream, gate, up, clamp, out, n);
}

cudaError_t gather_rows(const float* x, const int32_t* row_ids, float* out, int64_t n_rows, int64_t width,
                        cudaStream_t stream) {
  if (width % 4 == 0 && is_aligned({x, out})) {
    return launch(gather_kernel<float4>, row_grid(n_rows, width / 4), stream, reinterpret_cast<const float4*>(x),
                  row_ids, reinterpret_cast<float4*>(out), width / 4);
  }
  return launch(gather_kernel<float>, row_grid(n_rows, width), stream, x, row_ids, out, width);
}

cudaError_t steer(float* x, const float* direction, const float* scales, int64_t n_rows, int64_t width,
                  cudaStream_t stream) {
  const Grid grid{dim3(static_cast<unsigned>(n_rows)), dim3(kThreads)};
  return launch(steer_kernel, grid, stream, x, direction, scales, width);
}

cudaError_t rope(const Rope& args, cudaStream_t stream) {
  return launch(rope_kernel, grid_for(args.n_rows * args.n_heads * args.n_frequencies), stream, args);
}

}  // namespace ds4::cuda
