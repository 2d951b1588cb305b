// Routed experts for many rows. One block sorts the (row, slot) pairs by expert, keeping their order, and cuts every
// expert's pairs into tiles of at most 128, evenly, so that an expert with 130 pairs does not pay for 256. The grouped
// products then run over the list of tiles: gate and up of the same 64 outputs in one block with SwiGLU and the routing
// weight in its epilogue, then down, each pair to its own place; the last kernel adds a row's pairs in the order of the
// choice. Weights of an expert are read once per tile of it, which at 4096 rows and 6 of 256 experts is once.

#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/gemm_launch.cuh"

namespace ds4::cuda {
namespace {

constexpr int kPlanThreads = 1024;
constexpr int kPlanWarps = kPlanThreads / kWarp;

// Every warp takes one range of the pairs. counts [warp][expert], then where the warp's pairs of that expert go.
__global__ void __launch_bounds__(kPlanThreads)
    plan_kernel(const int32_t* ids, int n_pairs, int n_experts, ExpertPlan plan) {
  extern __shared__ int32_t counts[];
  int32_t* totals = counts + kPlanWarps * n_experts;
  int32_t* first_tiles = totals + n_experts;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int range = (n_pairs + kPlanWarps * kWarp - 1) / (kPlanWarps * kWarp) * kWarp;
  const int end = min(n_pairs, (warp + 1) * range);
  int32_t* own = counts + warp * n_experts;
  for (int i = static_cast<int>(threadIdx.x); i < kPlanWarps * n_experts; i += kPlanThreads) counts[i] = 0;
  let_next_start();
  wait_for_inputs();
  __syncthreads();
  for (int i = warp * range + lane; i < end; i += kWarp) atomicAdd(&own[ids[i]], 1);
  __syncthreads();
  for (int e = static_cast<int>(threadIdx.x); e < n_experts; e += kPlanThreads) {
    int sum = 0;
    for (int w = 0; w < kPlanWarps; ++w) {
      const int count = counts[w * n_experts + e];
      counts[w * n_experts + e] = sum;
      sum += count;
    }
    totals[e] = sum;
  }
  __syncthreads();
  if (warp == 0) {
    int pairs = 0, tiles = 0;
    for (int base = 0; base < n_experts; base += kWarp) {
      const int count = base + lane < n_experts ? totals[base + lane] : 0;
      const int n_tiles = (count + static_cast<int>(kTileRows) - 1) / static_cast<int>(kTileRows);
      int before = count, tiles_before = n_tiles;
      for (int offset = 1; offset < kWarp; offset *= 2) {
        const int other = __shfl_up_sync(0xFFFFFFFFu, before, offset);
        const int other_tiles = __shfl_up_sync(0xFFFFFFFFu, tiles_before, offset);
        if (lane >= offset) {
          before += other;
          tiles_before += other_tiles;
        }
      }
      if (base + lane < n_experts) {
        first_tiles[base + lane] = tiles + tiles_before - n_tiles;
        const int first = pairs + before - count;
        for (int t = 0; t < n_tiles; ++t) {
          const int begin = count * t / n_tiles;
          plan.tiles[tiles + tiles_before - n_tiles + t] = {base + lane, first + begin,
                                                            count * (t + 1) / n_tiles - begin, 0};
        }
        totals[base + lane] = first;
      }
      pairs += __shfl_sync(0xFFFFFFFFu, before, kWarp - 1);
      tiles += __shfl_sync(0xFFFFFFFFu, tiles_before, kWarp - 1);
    }
    if (lane == 0) *plan.n_tiles = tiles;
  }
  __syncthreads();
  for (int base = warp * range; base < end; base += kWarp) {
    const int i = base + lane;
    const int e = i < end ? ids[i] : -1;
    const uint32_t same = __match_any_sync(0xFFFFFFFFu, e);
    const int rank = __popc(same & ((1u << lane) - 1u));
    int place = 0;
    if (e >= 0) place = totals[e] + own[e] + rank;
    __syncwarp();
    if (e >= 0) {
      plan.pairs[place] = i;
      if (rank == 0) own[e] += __popc(same);
    }
    __syncwarp();
  }
}

// What both products of the experts share; other is the second matrix of a pair.
struct GroupedArgs {
  Planes one, other;
  ExpertPlan plan;
  TileActivations x;
  const float* weights;
  float* out;
  int n_used, n_out, n_units;
  float clamp;
};

// Bytes of n rows in each plane.
template <WeightType kType>
__device__ inline Planes rows_from(const Planes& planes, int64_t n, int n_units) {
  using Form = WeightForm<kType>;
  Planes moved;
  moved.plane[0] = planes.plane[0] + n * n_units * Form::kUnitBytes;
  moved.plane[1] =
      planes.plane[1] + n * (kType == WeightType::kIQ2_XXS ? n_units / 8 * 4 : n_units / kUnits * Form::kScaleBytes);
  if constexpr (Form::kSuperBytes != 0)
    moved.plane[2] = planes.plane[2] + n * (n_units / 8) * (kType == WeightType::kIQ2_XXS ? 2 : 4);
  return moved;
}

// Gate and up (kPaired), or down.
template <WeightType kType, bool kPaired>
__device__ inline void grouped_tile(const GroupedArgs& args, const ExpertTile& tile, uint8_t* shared) {
  const int first = static_cast<int>(blockIdx.x) * kTileOutputs / (kPaired ? 2 : 1);
  const int64_t expert_row = int64_t{tile.expert} * args.n_out;
  TileOperands in;
  in.codes = args.x.codes;
  in.scales = args.x.scales;
  in.sums = args.x.sums;
  in.n_rows = static_cast<int>(args.x.n_rows);
  in.width = static_cast<int>(args.x.width);
  in.n_units = args.n_units;
  in.index = index_of(shared);
  const int32_t* pairs = pairs_of(shared);
  const auto store = [&]<int kNB>(const LanePlace& lane, const float(&acc)[2][kNB][4]) {
#pragma unroll
    for (int n = 0; n < kNB; ++n) {
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        const int column = lane.column + n * 8 + j;
        if (column >= tile.count) continue;
        const int pair = pairs[column];
        float* out = args.out + int64_t{pair} * args.n_out + first;
        if constexpr (kPaired) {
          const float weight = args.weights[pair];
#pragma unroll
          for (int h = 0; h < 2; ++h)
            out[paired_row(lane.row) + h * 8] =
                swiglu_value(acc[0][n][2 * h + j], acc[1][n][2 * h + j], args.clamp) * weight;
        } else {
#pragma unroll
          for (int m = 0; m < 2; ++m) {
#pragma unroll
            for (int h = 0; h < 2; ++h) out[lane.row + m * 16 + h * 8] = acc[m][n][2 * h + j];
          }
        }
      }
    }
  };
  run_tile<kType, kPaired>(in,
                           {rows_from<kType>(args.one, expert_row, args.n_units),
                            rows_from<kType>(args.other, expert_row, args.n_units), first},
                           tile.count, shared, store);
}

template <WeightType kType, bool kPaired>
__global__ void __launch_bounds__(kThreads, 1) grouped_kernel(const __grid_constant__ GroupedArgs args) {
  extern __shared__ __align__(1024) uint8_t shared[];
  fill_grid<kType>(shared);
  let_next_start();
  wait_for_inputs();
  if (static_cast<int>(blockIdx.y) >= *args.plan.n_tiles) return;
  const ExpertTile tile = args.plan.tiles[blockIdx.y];
  for (int i = static_cast<int>(threadIdx.x); i < kTileRows; i += kThreads) {
    const int pair = args.plan.pairs[tile.first + min(i, tile.count - 1)];
    pairs_of(shared)[i] = pair;
    index_of(shared)[i] = kPaired ? pair / args.n_used : pair;
  }
  __syncthreads();
  grouped_tile<kType, kPaired>(args, tile, shared);
}

__global__ void sum_pairs_kernel(const __grid_constant__ SumPairs args) {
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const int64_t quads = args.width / 4;
  let_next_start();
  wait_for_inputs();
  if (i >= args.n_rows * quads) return;
  const int64_t row = i / quads;
  const auto* pairs = reinterpret_cast<const float4*>(args.pairs) + row * args.n_used * quads + i % quads;
  float4 sum = {0.0f, 0.0f, 0.0f, 0.0f};
  const auto add = [&sum](const float4& x) {
    sum.x += x.x;
    sum.y += x.y;
    sum.z += x.z;
    sum.w += x.w;
  };
#pragma unroll 6
  for (int64_t k = 0; k < args.n_used; ++k) add(pairs[k * quads]);
  if (args.extra != nullptr) add(reinterpret_cast<const float4*>(args.extra)[i]);
  reinterpret_cast<float4*>(args.out)[i] = sum;
}

template <bool kPaired>
cudaError_t launch_grouped(WeightType type, const GroupedArgs& args, int64_t n_experts, cudaStream_t stream) {
  const int64_t n_pairs = kPaired ? args.x.n_rows * args.n_used : args.x.n_rows;
  const dim3 blocks(blocks_for(args.n_out, kTileOutputs / (kPaired ? 2 : 1)),
                    static_cast<unsigned>(max_expert_tiles(n_pairs, n_experts)));
  cudaError_t error = cudaErrorInvalidValue;
  with_tile_type(type, [&]<WeightType kType>() {
    error = launch(grouped_kernel<kType, kPaired>, {blocks, kThreads, LargestTile<kType>::kSharedBytes}, stream, args);
  });
  return error;
}

}  // namespace

cudaError_t plan_experts(const int32_t* ids, int64_t n_pairs, int64_t n_experts, const ExpertPlan& plan,
                         cudaStream_t stream) {
  const size_t shared = static_cast<size_t>((kPlanWarps + 2) * n_experts) * sizeof(int32_t);
  return launch(plan_kernel, {1, kPlanThreads, shared}, stream, ids, static_cast<int>(n_pairs),
                static_cast<int>(n_experts), plan);
}

cudaError_t tile_experts_mid(const TileExperts& args, cudaStream_t stream) {
  return launch_grouped<true>(
      args.gate_type,
      {args.gate, args.up, args.plan, args.x, args.weights, args.mid_out, static_cast<int>(args.n_used),
       static_cast<int>(args.hidden), static_cast<int>(args.width / 32), args.clamp},
      args.n_experts, stream);
}

cudaError_t tile_experts_down(const TileExperts& args, cudaStream_t stream) {
  return launch_grouped<false>(
      args.down_type,
      {args.down, args.down, args.plan, args.mid, nullptr, args.pairs_out, static_cast<int>(args.n_used),
       static_cast<int>(args.width), static_cast<int>(args.hidden / 32), 0.0f},
      args.n_experts, stream);
}

cudaError_t sum_pairs(const SumPairs& args, cudaStream_t stream) {
  return launch(sum_pairs_kernel, {blocks_for(args.n_rows * args.width / 4, 256), 256}, stream, args);
}

}  // namespace ds4::cuda
