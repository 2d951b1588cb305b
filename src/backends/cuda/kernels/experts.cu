// Routed experts: the choice and its weights, and the products of every (row, slot).

#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/kernels.h"
#include "backends/cuda/kernels/routing.cuh"
#include "backends/cuda/kernels/weight_types.cuh"

namespace ds4::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kRouterThreads = 256;

// Shared memory: p [E], then the ranking [E].
__global__ void router_kernel(Router args) {
  extern __shared__ float shared[];
  float* p = shared;
  float* ranking = shared + args.n_experts;
  const int64_t row = blockIdx.x;
  int32_t* ids = args.ids + row * args.n_used;
  for (int e = static_cast<int>(threadIdx.x); e < args.n_experts; e += static_cast<int>(blockDim.x)) {
    p[e] = sqrt_softplus(args.logits[row * args.n_experts + e]);
    ranking[e] = args.bias == nullptr ? p[e] : p[e] + args.bias[e];
  }
  __syncthreads();
  if (threadIdx.x >= kWarp) return;
  const int lane = static_cast<int>(threadIdx.x);
  for (int k = 0; k < args.n_used; ++k) {
    int best = -1;
    if (args.token_table != nullptr) {
      best = args.token_table[int64_t{args.tokens[row]} * args.n_used + k];
    } else {
      for (int e = lane; e < args.n_experts; e += kWarp) {
        if (ranking[e] == ranking[e] && (best < 0 || ranking[e] > ranking[best])) best = e;
      }
      for (int offset = kWarp / 2; offset > 0; offset /= 2) {
        const int other = __shfl_xor_sync(0xFFFFFFFFu, best, offset);
        const bool is_better = other >= 0 && (best < 0 || ranking[other] > ranking[best] ||
                                              (ranking[other] == ranking[best] && other < best));
        if (is_better) best = other;
      }
      if (best < 0) best = 0;
      __syncwarp();
      if (lane == 0) ranking[best] = __uint_as_float(0x7FC00000u);  // taken
      __syncwarp();
    }
    if (lane == 0) ids[k] = best;
  }
  if (lane != 0) return;
  float sum = 0.0f;
  for (int k = 0; k < args.n_used; ++k) sum += p[ids[k]];
  sum = fmaxf(sum, kSmallestSum);
  for (int k = 0; k < args.n_used; ++k) args.weights[row * args.n_used + k] = p[ids[k]] / sum * args.weights_scale;
}

template <WeightType kGate, WeightType kUp>
__global__ void mid_kernel(Experts args) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t f = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  if (f >= args.hidden) return;
  const int64_t row = blockIdx.z;
  const int64_t slot = row * args.n_used + blockIdx.y;
  const int64_t line = args.ids[slot] * args.hidden + f;
  const int64_t offset = row * args.width;
  float gate = 0.0f, up = 0.0f;
  warp_dots<kGate, 1>(weight_row(args.gate, line), args.width, args.gate_x, &offset, lane, &gate);
  warp_dots<kUp, 1>(weight_row(args.up, line), args.width, args.up_x, &offset, lane, &up);
  if (lane == 0) args.mid[slot * args.hidden + f] = swiglu_value(gate, up, args.clamp) * args.weights[slot];
}

template <WeightType kType>
__global__ void down_kernel(Experts args) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t d = int64_t{blockIdx.x} * kWarps + threadIdx.x / kWarp;
  if (d >= args.width) return;
  const int64_t row = blockIdx.y;
  float sum = 0.0f;
  for (int64_t k = 0; k < args.n_used; ++k) {
    const int64_t slot = row * args.n_used + k;
    const int64_t offset = slot * args.hidden;
    float product = 0.0f;
    warp_dots<kType, 1>(weight_row(args.down, args.ids[slot] * args.width + d), args.hidden, args.mid_x, &offset, lane,
                        &product);
    sum += product;
  }
  if (lane == 0) args.out[row * args.width + d] = sum;
}

__global__ void count_picks_kernel(const int32_t* ids, int64_t n, uint32_t* picks) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  if (i < n) atomicAdd(&picks[ids[i]], 1u);
}

}  // namespace

cudaError_t count_picks(const int32_t* ids, int64_t n, uint32_t* picks, cudaStream_t stream) {
  constexpr int kThreads = 128;
  count_picks_kernel<<<blocks_for(n, kThreads), kThreads, 0, stream>>>(ids, n, picks);
  return cudaGetLastError();
}

cudaError_t router(const Router& args, cudaStream_t stream) {
  const size_t shared = 2 * static_cast<size_t>(args.n_experts) * sizeof(float);
  router_kernel<<<static_cast<unsigned>(args.n_rows), kRouterThreads, shared, stream>>>(args);
  return cudaGetLastError();
}

cudaError_t experts_mid(const Experts& args, cudaStream_t stream) {
  const dim3 grid(blocks_for(args.hidden, kWarps), static_cast<unsigned>(args.n_used),
                  static_cast<unsigned>(args.n_rows));
  with_type(args.gate.type, [&]<WeightType kGate>() {
    with_type(args.up.type,
              [&]<WeightType kUp>() { mid_kernel<kGate, kUp><<<grid, kWarps * kWarp, 0, stream>>>(args); });
  });
  return cudaGetLastError();
}

cudaError_t experts_down(const Experts& args, cudaStream_t stream) {
  const dim3 grid(blocks_for(args.width, kWarps), static_cast<unsigned>(args.n_rows));
  with_type(args.down.type, [&]<WeightType kType>() { down_kernel<kType><<<grid, kWarps * kWarp, 0, stream>>>(args); });
  return cudaGetLastError();
}

}  // namespace ds4::cuda
