// Hyper-connections: gates, Sinkhorn mixing, and the sums over streams.

#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/kernels.h"
#include "backends/cuda/kernels/launch.cuh"

namespace ds4::cuda {
namespace {

constexpr int kThreads = 256;

__device__ void normalise(float* comb, int n, int line, int along, int across, float epsilon) {
  float sum = 0.0f;
  for (int i = 0; i < n; ++i) sum += comb[line * across + i * along];
  for (int i = 0; i < n; ++i) comb[line * across + i * along] /= sum + epsilon;
}

__device__ void sinkhorn(float* comb, int n, int iterations, float epsilon) {
  for (int r = 0; r < n; ++r) {
    float* row = comb + r * n;
    float top = row[0];
    for (int c = 1; c < n; ++c) top = fmaxf(top, row[c]);
    float sum = 0.0f;
    for (int c = 0; c < n; ++c) sum += row[c] = expf(row[c] - top);
    for (int c = 0; c < n; ++c) row[c] = row[c] / sum + epsilon;
  }
  for (int iteration = 0; iteration < iterations; ++iteration) {
    if (iteration > 0) {
      for (int r = 0; r < n; ++r) normalise(comb, n, r, 1, n, epsilon);
    }
    for (int c = 0; c < n; ++c) normalise(comb, n, c, n, 1, epsilon);
  }
}

__global__ void hc_mix_kernel(HcMix args) {
  wait_for_inputs();
  let_next_start();
  const int64_t row = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (row >= args.n_rows) return;
  const int n = args.n_streams;
  const int n_mix = 2 * n + n * n;
  const float* mix = args.mix + row * n_mix;
  const auto value = [&](int i, int part) { return mix[i] * args.scale[part] + args.base[i]; };
  for (int i = 0; i < n; ++i) {
    args.pre[row * n + i] = sigmoid(value(i, 0)) + args.epsilon;
    args.post[row * n + i] = 2.0f * sigmoid(value(n + i, 1));
  }
  float comb[kMaxStreams * kMaxStreams];
  for (int i = 0; i < n * n; ++i) comb[i] = value(2 * n + i, 2);
  sinkhorn(comb, n, args.iterations, args.epsilon);
  for (int i = 0; i < n * n; ++i) args.comb[row * n * n + i] = comb[i];
}

__global__ void hc_head_mix_kernel(const float* mix, const float* scale, const float* base, float epsilon,
                                   float* weights, int64_t n, int32_t n_streams) {
  wait_for_inputs();
  let_next_start();
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < n) weights[i] = sigmoid(mix[i] * scale[0] + base[i % n_streams]) + epsilon;
}

// kWide values a thread: four where rows are multiples of four, else one.
template <int kWide>
struct Values {
  float x[kWide];
};
template <int kWide>
__device__ Values<kWide> load(const float* p) {
  Values<kWide> v;
  if constexpr (kWide == 4) {
    const float4 four = *reinterpret_cast<const float4*>(p);
    v.x[0] = four.x;
    v.x[1] = four.y;
    v.x[2] = four.z;
    v.x[3] = four.w;
  } else {
    v.x[0] = *p;
  }
  return v;
}
template <int kWide>
__device__ void store(float* p, const Values<kWide>& v) {
  if constexpr (kWide == 4) {
    *reinterpret_cast<float4*>(p) = make_float4(v.x[0], v.x[1], v.x[2], v.x[3]);
  } else {
    *p = v.x[0];
  }
}

template <int kWide>
__global__ void hc_reduce_kernel(HcStreams args, const float* weights, float* out) {
  wait_for_inputs();
  let_next_start();
  const int64_t i = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * kWide;
  if (i >= args.n_rows * args.width) return;
  const int64_t row = i / args.width;
  const int64_t d = i % args.width;
  Values<kWide> sum{};
  for (int s = 0; s < args.n_streams; ++s) {
    const Values<kWide> stream = load<kWide>(args.streams + (row * args.n_streams + s) * args.width + d);
    const float weight = weights[row * args.n_streams + s];
    for (int j = 0; j < kWide; ++j) sum.x[j] += weight * stream.x[j];
  }
  store<kWide>(out + i, sum);
}

// All streams of the model at once, so that their loads are in flight together.
template <int kWide, int kStreams>
__global__ void hc_expand_kernel(HcStreams args, const float* y, const float* post, const float* comb) {
  wait_for_inputs();
  let_next_start();
  const int64_t i = (int64_t{blockIdx.x} * blockDim.x + threadIdx.x) * kWide;
  if (i >= args.n_rows * args.width) return;
  const int64_t row = i / args.width;
  const int n = kStreams > 0 ? kStreams : args.n_streams;
  float* streams = args.streams + row * n * args.width + i % args.width;
  Values<kWide> old[kStreams > 0 ? kStreams : kMaxStreams];
#pragma unroll
  for (int s = 0; s < n; ++s) old[s] = load<kWide>(streams + s * args.width);
  const Values<kWide> own = load<kWide>(y + i);
#pragma unroll
  for (int c = 0; c < n; ++c) {
    const float gate = post[row * n + c];
    Values<kWide> sum;
    for (int j = 0; j < kWide; ++j) sum.x[j] = own.x[j] * gate;
#pragma unroll
    for (int s = 0; s < n; ++s) {
      const float mix = comb[(row * n + s) * n + c];
      for (int j = 0; j < kWide; ++j) sum.x[j] += mix * old[s].x[j];
    }
    store<kWide>(streams + c * args.width, sum);
  }
}

bool is_aligned(const void* a, const void* b, int64_t width) {
  return width % 4 == 0 && (reinterpret_cast<uintptr_t>(a) | reinterpret_cast<uintptr_t>(b)) % 16 == 0;
}

Grid grid_for(int64_t n) { return {dim3(blocks_for(n, kThreads)), dim3(kThreads)}; }

}  // namespace

cudaError_t hc_mix(const HcMix& args, cudaStream_t stream) {
  return launch(hc_mix_kernel, Grid{dim3(blocks_for(args.n_rows, 32)), dim3(32)}, stream, args);
}

cudaError_t hc_head_mix(const HcHeadMix& args, cudaStream_t stream) {
  const auto& [mix, scale, base, epsilon, weights, n_rows, n_streams] = args;
  const int64_t n = n_rows * n_streams;
  return launch(hc_head_mix_kernel, grid_for(n), stream, mix, scale, base, epsilon, weights, n, n_streams);
}

cudaError_t hc_reduce(const HcStreams& streams, const float* weights, float* out, cudaStream_t stream) {
  const int64_t n = streams.n_rows * streams.width;
  if (is_aligned(streams.streams, out, streams.width))
    return launch(hc_reduce_kernel<4>, grid_for(n / 4), stream, streams, weights, out);
  return launch(hc_reduce_kernel<1>, grid_for(n), stream, streams, weights, out);
}

cudaError_t hc_expand(const HcStreams& streams, const float* y, const float* post, const float* comb,
                      cudaStream_t stream) {
  const int64_t n = streams.n_rows * streams.width;
  if (streams.n_streams == 4 && is_aligned(streams.streams, y, streams.width))
    return launch(hc_expand_kernel<4, 4>, grid_for(n / 4), stream, streams, y, post, comb);
  return launch(hc_expand_kernel<1, 0>, grid_for(n), stream, streams, y, post, comb);
}

}  // namespace ds4::cuda
