// The input of a sub-layer from the streams: 24 products of all streams with hc_fn, gates and mixing, the weighted sum,
// its norm. The norm of the streams is a factor of the products, so one reading does.
// Few rows: a cluster of eight blocks per row, 512 columns of every stream each. The weights of a block, 98 KB, are in
// registers before the streams are there; products and squares meet through shared memory of the cluster; a warp of its
// own does the mixing, which nothing else in this step waits for.
// Many rows: 16 a block, products by tensor cores in TF32 with streams split into two parts. Bytes a row: 64 KB twice,
// 16 KB out; for 4096 rows 0.6 GB.

#include <cuda_fp16.h>

#include "backends/cuda/kernels/cluster.cuh"
#include "backends/cuda/kernels/fused_steps.h"
#include "backends/cuda/kernels/hc_mixing.cuh"
#include "backends/cuda/kernels/launch.cuh"
#include "backends/cuda/kernels/tensor_cores.cuh"

namespace ds4::cuda {
namespace {

constexpr int kWidth = 4096;
constexpr int kFlat = kStreams * kWidth;
constexpr int kCluster = 8;
constexpr int kColumns = kWidth / kCluster;  // of a block
constexpr int kWorkers = 512;
constexpr int kWorkerWarps = kWorkers / kWarp;
constexpr int kThreads = kWorkers + kWarp;
constexpr int kSums = kMixes + 1;  // and the squares
constexpr int64_t kFewRows = 64;

// Sums of 32 values over the warp; lane i gets that of value i.
template <int kHalf = 16>
__device__ float scatter_sums(float (&v)[32], int lane) {
#pragma unroll
  for (int i = 0; i < kHalf; ++i) {
    const float kept = (lane & kHalf) != 0 ? v[i + kHalf] : v[i];
    const float sent = (lane & kHalf) != 0 ? v[i] : v[i + kHalf];
    v[i] = kept + __shfl_xor_sync(0xFFFFFFFFu, sent, kHalf);
  }
  if constexpr (kHalf > 1) {
    return scatter_sums<kHalf / 2>(v, lane);
  } else {
    return v[0];
  }
}

__device__ void meet_workers() { asm volatile("bar.sync 1, %0;" ::"n"(kWorkers) : "memory"); }

struct ClusterShared {
  float streams[kStreams][kColumns];
  float warp_sums[kWorkerWarps][32];
  float sums[kCluster][32];  // of every block
  float warp_squares[kWorkerWarps];
  float squares[kCluster];
  float mix[kMixes];
};

// Value `lane` of the mix, complete, in every warp.
__device__ float mixed_value(const SublayerInput& args, const ClusterShared& s, int lane) {
  float total = 0.0f;
  if (lane < kSums) {
    for (int r = 0; r < kCluster; ++r) total += s.sums[r][lane];
  }
  const float mean = __shfl_sync(0xFFFFFFFFu, total, kMixes) / static_cast<float>(kFlat);
  const float r = 1.0f / sqrtf(mean + args.rms_epsilon);
  return lane < kMixes ? total * r * args.scale[mix_part(lane)] + args.base[lane] : 0.0f;
}

// post and comb of the row, by one warp.
__device__ void write_split(const SublayerInput& args, ClusterShared& s, int64_t row, float value, int lane) {
  if (lane < kStreams) args.pre[row * kStreams + lane] = sigmoid(value) + args.hc_epsilon;
  if (lane >= kStreams && lane < 2 * kStreams) args.post[row * kStreams + lane - kStreams] = 2.0f * sigmoid(value);
  if (lane < kMixes) s.mix[lane] = value;
  __syncwarp();
  if (lane != 0) return;
  float m[16];
#pragma unroll
  for (int i = 0; i < 16; ++i) m[i] = s.mix[2 * kStreams + i];
  sinkhorn_4(m, args.iterations, args.hc_epsilon);
#pragma unroll
  for (int i = 0; i < 16; i += 4)
    *reinterpret_cast<float4*>(args.comb + row * 16 + i) = make_float4(m[i], m[i + 1], m[i + 2], m[i + 3]);
}

// Products of this block's columns, to every block of the cluster.
__device__ void share_products(const uint2 (&weights)[kMixes], const float4& x, ClusterShared& s, int rank) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  float v[32] = {};
#pragma unroll
  for (int m = 0; m < kMixes; ++m) {
    const float2 a = __half22float2(*reinterpret_cast<const __half2*>(&weights[m].x));
    const float2 b = __half22float2(*reinterpret_cast<const __half2*>(&weights[m].y));
    v[m] = fmaf(x.w, b.y, fmaf(x.z, b.x, fmaf(x.y, a.y, x.x * a.x)));
  }
  v[kMixes] = fmaf(x.w, x.w, fmaf(x.z, x.z, fmaf(x.y, x.y, x.x * x.x)));
  s.warp_sums[warp][lane] = scatter_sums(v, lane);
  meet_workers();
  if (warp >= kCluster) return;
  float sum = 0.0f;
  for (int w = 0; w < kWorkerWarps; ++w) sum += s.warp_sums[w][lane];
  in_block(&s.sums[0][0], warp)[rank * 32 + lane] = sum;
}

// In F32: a sum of squares in this tree is off by a few units, its root by half of them.
__device__ void share_squares(float own, ClusterShared& s, int rank) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  own = warp_sum(own);
  if (threadIdx.x % kWarp == 0) s.warp_squares[warp] = own;
  meet_workers();
  if (threadIdx.x >= kCluster) return;
  float sum = 0.0f;
  for (int w = 0; w < kWorkerWarps; ++w) sum += s.warp_squares[w];
  in_block(&s.squares[0], static_cast<int>(threadIdx.x))[rank] = sum;
}

__global__ void __launch_bounds__(kThreads, 1) cluster_kernel(SublayerInput args) {
  __shared__ __align__(16) ClusterShared s;
  const int rank = static_cast<int>(blockIdx.x);
  const int64_t row = blockIdx.y;
  const int thread = static_cast<int>(threadIdx.x);
  const int lane = thread % kWarp;
  arrive_cluster();          // the others may write to this block's memory
  if (thread >= kWorkers) {  // the mixing warp
    wait_for_inputs();
    let_next_start();
    wait_cluster();
    arrive_cluster();
    wait_cluster();
    const float value = mixed_value(args, s, lane);
    arrive_cluster();
    if (rank == 0) write_split(args, s, row, value, lane);
    __syncwarp();
    wait_cluster();
    return;
  }
  const int stream = thread / (kColumns / 4);
  const int column = 4 * (thread % (kColumns / 4));
  uint2 weights[kMixes];
#pragma unroll
  for (int m = 0; m < kMixes; ++m) {
    const uint16_t* at = args.fn + int64_t{m} * kFlat + stream * kWidth + rank * kColumns + column;
    weights[m] = __ldg(reinterpret_cast<const uint2*>(at));
  }
  const float gain = args.norm == nullptr ? 1.0f : __ldg(args.norm + rank * kColumns + thread);
  wait_for_inputs();
  let_next_start();
  const float4 x =
      *reinterpret_cast<const float4*>(args.streams + row * kFlat + stream * kWidth + rank * kColumns + column);
  *reinterpret_cast<float4*>(&s.streams[stream][column]) = x;
  wait_cluster();
  share_products(weights, x, s, rank);
  __syncwarp();
  arrive_cluster();
  wait_cluster();
  const float value = mixed_value(args, s, lane);
  const float gate = sigmoid(value) + args.hc_epsilon;
  float sum = 0.0f;
  for (int i = 0; i < kStreams; ++i) sum += __shfl_sync(0xFFFFFFFFu, gate, i) * s.streams[i][thread];
  share_squares(sum * sum, s, rank);
  __syncwarp();
  arrive_cluster();
  wait_cluster();
  float r = 1.0f;
  if (args.norm != nullptr) {
    float squares = 0.0f;
    for (int i = 0; i < kCluster; ++i) squares += s.squares[i];
    r = 1.0f / sqrtf(squares / static_cast<float>(kWidth) + args.rms_epsilon);
  }
  args.out[row * kWidth + rank * kColumns + thread] = args.norm == nullptr ? sum : sum * r * gain;
}

constexpr int kTileRows = 16;
constexpr int kTileWarps = 8;
constexpr int kTileThreads = kTileWarps * kWarp;
constexpr int kPairThreads = 2 * kWarp;  // that end a row
constexpr int kPairValues = kWidth / 4 / kPairThreads;

struct TileShared {
  float parts[kTileWarps][kTileRows][kSums];
  float mix[kTileRows][kSums];
  float pre[kTileRows][kStreams];
  double squares[kTileWarps];
};

__device__ uint32_t to_tf32(float x) {
  uint32_t bits = 0;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}

// Eight values of one stream row: high and low parts, and their squares.
struct SplitRow {
  uint32_t high[8], low[8];
  __device__ float take(const float4& a, const float4& b) {
    const float x[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
    float squares = 0.0f;
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      high[i] = to_tf32(x[i]);
      low[i] = to_tf32(x[i] - __uint_as_float(high[i]));
      squares = fmaf(x[i], x[i], squares);
    }
    return squares;
  }
};

// This warp's eighth of the flattened streams of 16 rows. Of 32 values lane % 4 takes eight in a row: values 2j and
// 2j + 1 are its two of step j, for the streams and for hc_fn.
__device__ void tile_products(const SublayerInput& args, const int64_t (&rows)[2], TileShared& s) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int first = warp * (kFlat / kTileWarps) + lane % 4 * 8;
  const float* top = args.streams + rows[0] * kFlat + first;
  const float* bottom = args.streams + rows[1] * kFlat + first;
  const uint16_t* fn = args.fn + int64_t{lane / 4} * kFlat + first;
  float sums[3][4] = {};
  float squares[2] = {};
#pragma unroll 2
  for (int k = 0; k < kFlat / kTileWarps; k += 32) {
    uint4 weights[3];
#pragma unroll
    for (int t = 0; t < 3; ++t) weights[t] = __ldg(reinterpret_cast<const uint4*>(fn + int64_t{8 * t} * kFlat + k));
    SplitRow a, b;
    squares[0] += a.take(*reinterpret_cast<const float4*>(top + k), *reinterpret_cast<const float4*>(top + k + 4));
    squares[1] +=
        b.take(*reinterpret_cast<const float4*>(bottom + k), *reinterpret_cast<const float4*>(bottom + k + 4));
#pragma unroll
    for (int t = 0; t < 3; ++t) {
      const uint32_t words[4] = {weights[t].x, weights[t].y, weights[t].z, weights[t].w};
      float step[4] = {};  // tensor cores cut off where they add, so long sums are not theirs
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        const float2 w = __half22float2(*reinterpret_cast<const __half2*>(&words[j]));
        const uint32_t high[4] = {a.high[2 * j], b.high[2 * j], a.high[2 * j + 1], b.high[2 * j + 1]};
        const uint32_t low[4] = {a.low[2 * j], b.low[2 * j], a.low[2 * j + 1], b.low[2 * j + 1]};
        multiply_tf32(step, high, __float_as_uint(w.x), __float_as_uint(w.y));
        multiply_tf32(step, low, __float_as_uint(w.x), __float_as_uint(w.y));
      }
      for (int i = 0; i < 4; ++i) sums[t][i] += step[i];
    }
  }
  for (int half = 0; half < 2; ++half) {
    float(&part)[kSums] = s.parts[warp][lane / 4 + 8 * half];
    for (int t = 0; t < 3; ++t) {
      part[8 * t + 2 * (lane % 4)] = sums[t][2 * half];
      part[8 * t + 2 * (lane % 4) + 1] = sums[t][2 * half + 1];
    }
    float all = squares[half];
    all += __shfl_xor_sync(0xFFFFFFFFu, all, 1);
    all += __shfl_xor_sync(0xFFFFFFFFu, all, 2);
    if (lane % 4 == 0) part[kMixes] = all;
  }
}

// One thread per row.
__device__ void tile_mixes(const SublayerInput& args, TileShared& s, int64_t row, bool is_row) {
  const int r = static_cast<int>(threadIdx.x);
  const float factor = 1.0f / sqrtf(s.mix[r][kMixes] / static_cast<float>(kFlat) + args.rms_epsilon);
  const auto value = [&](int i) { return s.mix[r][i] * factor * args.scale[mix_part(i)] + args.base[i]; };
  float m[16];
#pragma unroll
  for (int i = 0; i < 16; ++i) m[i] = value(2 * kStreams + i);
  sinkhorn_4(m, args.iterations, args.hc_epsilon);
  for (int i = 0; i < kStreams; ++i) {
    const float gate = sigmoid(value(i)) + args.hc_epsilon;
    s.pre[r][i] = gate;
    if (!is_row) continue;
    args.pre[row * kStreams + i] = gate;
    args.post[row * kStreams + i] = 2.0f * sigmoid(value(kStreams + i));
  }
  if (!is_row) return;
#pragma unroll
  for (int i = 0; i < 16; ++i) args.comb[row * 16 + i] = m[i];
}

// Two warps per row.
__device__ void end_row(const SublayerInput& args, TileShared& s, int r, int64_t row, bool is_row) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int thread = static_cast<int>(threadIdx.x) % kPairThreads;
  const auto* streams = reinterpret_cast<const float4*>(args.streams + row * kFlat);
  float4 sums[kPairValues];
  double squares = 0;
#pragma unroll
  for (int i = 0; i < kPairValues; ++i) {
    float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll
    for (int stream = 0; stream < kStreams; ++stream) {
      const float4 x = streams[stream * (kWidth / 4) + thread + i * kPairThreads];
      const float pre = s.pre[r][stream];
      sum = make_float4(sum.x + pre * x.x, sum.y + pre * x.y, sum.z + pre * x.z, sum.w + pre * x.w);
    }
    sums[i] = sum;
    squares += static_cast<double>(fmaf(sum.x, sum.x, sum.y * sum.y) + fmaf(sum.z, sum.z, sum.w * sum.w));
  }
  squares = warp_sum(squares);
  if (thread % kWarp == 0) s.squares[warp] = squares;
  asm volatile("bar.sync %0, 64;" ::"r"(warp / 2 + 1) : "memory");
  const double all = s.squares[warp / 2 * 2] + s.squares[warp / 2 * 2 + 1];
  asm volatile("bar.sync %0, 64;" ::"r"(warp / 2 + 1) : "memory");
  if (!is_row) return;
  const float factor = 1.0f / sqrtf(static_cast<float>(all / static_cast<double>(kWidth)) + args.rms_epsilon);
  auto* out = reinterpret_cast<float4*>(args.out + row * kWidth);
#pragma unroll
  for (int i = 0; i < kPairValues; ++i) {
    const int at = thread + i * kPairThreads;
    float4 sum = sums[i];
    if (args.norm != nullptr) {
      const float4 gain = __ldg(reinterpret_cast<const float4*>(args.norm) + at);
      sum = make_float4(sum.x * factor * gain.x, sum.y * factor * gain.y, sum.z * factor * gain.z,
                        sum.w * factor * gain.w);
    }
    out[at] = sum;
  }
}

__global__ void __launch_bounds__(kTileThreads, 2) tile_kernel(SublayerInput args) {
  __shared__ TileShared s;
  wait_for_inputs();
  let_next_start();
  const int64_t first = int64_t{blockIdx.x} * kTileRows;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t last = args.n_rows - 1;
  const int64_t rows[2] = {min(first + lane / 4, last), min(first + lane / 4 + 8, last)};
  tile_products(args, rows, s);
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < kTileRows * kSums; i += kTileThreads) {
    float sum = 0.0f;
    for (int w = 0; w < kTileWarps; ++w) sum += s.parts[w][i / kSums][i % kSums];
    s.mix[i / kSums][i % kSums] = sum;
  }
  __syncthreads();
  if (threadIdx.x < kTileRows) tile_mixes(args, s, first + threadIdx.x, first + threadIdx.x <= last);
  __syncthreads();
  for (int r = static_cast<int>(threadIdx.x) / kPairThreads; r < kTileRows; r += kTileThreads / kPairThreads)
    end_row(args, s, r, min(first + r, last), first + r <= last);
}

}  // namespace

bool accepts(const SublayerInput& args) {
  return args.width == kWidth && reinterpret_cast<uintptr_t>(args.streams) % 16 == 0 &&
         reinterpret_cast<uintptr_t>(args.fn) % 16 == 0 && reinterpret_cast<uintptr_t>(args.out) % 16 == 0 &&
         reinterpret_cast<uintptr_t>(args.norm) % 16 == 0 && reinterpret_cast<uintptr_t>(args.comb) % 16 == 0 &&
         overlaps_launches();
}

cudaError_t sublayer_input(const SublayerInput& args, cudaStream_t stream) {
  if (args.n_rows <= kFewRows) {
    const Grid grid{dim3(kCluster, static_cast<unsigned>(args.n_rows)), dim3(kThreads), 0, kCluster};
    return launch(cluster_kernel, grid, stream, args);
  }
  return launch(tile_kernel, Grid{dim3(blocks_for(args.n_rows, kTileRows)), dim3(kTileThreads)}, stream, args);
}

}  // namespace ds4::cuda
