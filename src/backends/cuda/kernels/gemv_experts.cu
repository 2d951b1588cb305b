// Products of routed experts for 1 to 16 rows: gate and up with the router's choice before and SwiGLU behind, and down
// with the shared expert's. A row's picks lie side by side in the list of work, so that rows with the same expert read
// its bytes at about the same time, from L2. Per layer and row 26 MB (gate and up), 16 MB (down), 9 MB (shared down).

#include <algorithm>

#include "backends/cuda/kernels/gemv.h"
#include "backends/cuda/kernels/gemv_block.cuh"
#include "backends/cuda/kernels/gemv_launch.cuh"
#include "backends/cuda/kernels/launch.cuh"
#include "backends/cuda/kernels/routing.cuh"

namespace ds4::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / kWarp;
constexpr int kMaxPicks = kMaxGemvRows * kMaxUsed;
constexpr int kRoutingBytes = kMaxPicks * 12;  // id, weight and row of every pick

// A place in the list of work: item = out / outs at once * picks + pick, kept apart because divisions are slow.
struct PickWalk {
  int item, pick, out;
  __device__ void advance(int items, int picks, int outs, int n_picks, int outs_at_once) {
    item += items;
    pick += picks;
    out += outs;
    if (pick >= n_picks) {
      pick -= n_picks;
      out += outs_at_once;
    }
  }
};

template <WeightType kType, int kRows, int kStages>
__global__ void __launch_bounds__(kThreads, kRows == 2 ? 2 : 1)
    routed_up_kernel(const __grid_constant__ RoutedUp args) {
  constexpr int kStageBytes = chunk_bytes<kType>(kRows);
  constexpr int kOuts = kRows / 2;  // a gate row and an up row each
  constexpr bool kHasGrid = kType == WeightType::kIQ2_XXS;
  extern __shared__ __align__(128) uint8_t shared[];
  const int thread = static_cast<int>(threadIdx.x), lane = own_lane(), warp = own_warp();
  const int split = row_split<kType>(args.width), n_chunks = args.width / Chunk<kType>::kWeights;
  const int team = warp / split, member = warp % split, n_teams = kWarps / split;
  const int n_used = args.router.n_used, n_picks = args.n_rows * n_used;

  uint8_t* stages = shared + warp * kStages * kStageBytes;
  float* parts = reinterpret_cast<float*>(shared + kWarps * kStages * kStageBytes) + team * split * 2 * kRows;
  uint8_t* end = shared + kWarps * (kStages * kStageBytes + 2 * kRows * 4);
  auto* ids = reinterpret_cast<int32_t*>(end);
  auto* weights = reinterpret_cast<float*>(ids + kMaxPicks);
  auto* row_of = reinterpret_cast<int32_t*>(weights + kMaxPicks);
  end += kRoutingBytes;
  auto* grid = reinterpret_cast<uint32_t*>(end);
  if (kHasGrid) end += kGridBytes;
  const StagedRows staged = staged_rows<kType>(end, args.n_rows, args.width);

  let_next_start();
  const RowSource gate = row_source(args.gate), up = row_source(args.up);
  const uint32_t stage_address = shared_address(stages);
  if (kHasGrid) fill_grid(grid, thread, kThreads);
  wait_for_inputs();
  auto* values = reinterpret_cast<float*>(shared);  // the stages are free until the choice is made
  if (args.router.logits != nullptr) {
    route_values(args.router, args.n_rows, values);
    __syncthreads();
  }
#pragma unroll 1
  for (int row = warp; row < args.n_rows; row += kWarps) {
    int32_t* row_ids = ids + row * n_used;
    float* row_weights = weights + row * n_used;
    if (args.router.logits != nullptr) {
      route_row(args.router, row, values + row * args.router.n_experts, lane, row_ids, row_weights);
      __syncwarp();
      if (blockIdx.x == 0 && lane < n_used) {
        args.router.ids[row * n_used + lane] = row_ids[lane];
        args.router.weights[row * n_used + lane] = row_weights[lane];
      }
    } else if (lane < n_used) {
      row_ids[lane] = args.router.ids[row * n_used + lane];
      row_weights[lane] = args.router.weights[row * n_used + lane];
    }
    if (lane < n_used) row_of[row * n_used + lane] = row;
  }
  __syncthreads();

  // Work: (kOuts outputs, pick), picks fastest.
  const int64_t total = int64_t{n_picks} * (args.hidden / kOuts);
  const int first = static_cast<int>(total * blockIdx.x / gridDim.x) + team;
  const int end_item = static_cast<int>(total * (blockIdx.x + 1) / gridDim.x);
  const PickWalk begin{first, first % n_picks, first / n_picks * kOuts};
  const int step_pick = n_teams % n_picks, step_out = n_teams / n_picks * kOuts;
  PickWalk next = begin;
  int next_chunk = member;
  const auto begin_next = [&](int slot) {
    if (next.item < end_item) {
      const auto line = static_cast<uint32_t>(ids[next.pick] * args.hidden + next.out);
      copy_chunk<kType, kRows>(stage_address + slot * kStageBytes, next_chunk, lane, [&](int r, int plane) {
        return (r % 2 == 0 ? gate.planes[plane] : up.planes[plane]) +
               static_cast<uint64_t>(line + static_cast<uint32_t>(r / 2)) * gate.row_bytes[plane];
      });
      next_chunk += split;
      if (next_chunk >= n_chunks) {
        next_chunk = member;
        next.advance(n_teams, step_pick, step_out, n_picks, kOuts);
      }
    }
    commit_copies();
  };
#pragma unroll 1
  for (int slot = 0; slot < kStages - 1; ++slot) begin_next(slot);
  stage_rows<kType>(staged, args.n_rows, args.width, kThreads,
                    [&](int row) { return args.x + int64_t{row} * args.width; });
  __syncthreads();

  const SharedRows rows = read_only(staged, grid);
  int slot = 0, buffer = 0;
#pragma unroll 1
  for (PickWalk at = begin; at.item < end_item; at.advance(n_teams, step_pick, step_out, n_picks, kOuts)) {
    float sums[kRows] = {};
    const int row = row_of[at.pick];
#pragma unroll 1
    for (int chunk = member; chunk < n_chunks; chunk += split) {
      wait_copies<kStages - 2>();
      __syncwarp();
      begin_next(slot == 0 ? kStages - 1 : slot - 1);
      add_chunk<kType, kRows, 1>(stages + slot * kStageBytes, rows, row, chunk, args.width, sums);
      slot = slot + 1 == kStages ? 0 : slot + 1;
    }
    float* own = parts + buffer * kRows * split;
    put_totals<kRows>(sums, own + member * kRows, lane);
    team_barrier(team, split);
    if (member == 0 && lane < kOuts) {
      const float gate_sum = team_sum(own, kRows, 2 * lane, split);
      const float up_sum = team_sum(own, kRows, 2 * lane + 1, split);
      args.mid[int64_t{at.pick} * args.hidden + at.out + lane] =
          swiglu_value(gate_sum, up_sum, args.clamp) * weights[at.pick];
    }
    buffer ^= 1;
  }
}

// Warps of a team: one per pick, then those that share a row of the shared down matrix.
template <WeightType kType, int kRows, int kStages>
struct DownWarps {
  static constexpr int kPickStage = chunk_bytes<kType>(kRows);
  static constexpr int kSharedStage = chunk_bytes<WeightType::kQ8_0>(kRows);
  int n_picks, n_shared;
  __host__ __device__ int per_team() const { return n_picks + n_shared; }
  __host__ __device__ int stages_of_team() const { return kStages * (n_picks * kPickStage + n_shared * kSharedStage); }
  __host__ __device__ int stages_before(int member) const {
    return kStages *
           (member < n_picks ? member * kPickStage : n_picks * kPickStage + (member - n_picks) * kSharedStage);
  }
};

// A warp's share of every group of its team: its chunks through its stages, and the sums behind each group.
template <WeightType kType, int kRows, int kStages>
struct DownStream {
  uint8_t* stages;
  RowSource source;
  uint32_t first_line;
  int first_chunk, chunk_step, n_chunks;
  int group, end, step;
  int chunk, slot = 0;

  __device__ void begin_next(int to, int lane) {
    if (group < end) {
      const uint32_t line = first_line + static_cast<uint32_t>(group * kRows);
      copy_chunk<kType, kRows>(shared_address(stages) + to * chunk_bytes<kType>(kRows), chunk, lane,
                               [&](int r, int plane) { return source.at(line + static_cast<uint32_t>(r), plane); });
      chunk += chunk_step;
      if (chunk >= n_chunks) {
        chunk = first_chunk;
        group += step;
      }
    }
    commit_copies();
  }
  __device__ void fill(int lane) {
#pragma unroll 1
    for (int to = 0; to < kStages - 1; ++to) begin_next(to, lane);
  }
  __device__ void add_group(const SharedRows& rows, int col, int n_in, int lane, float* sums) {
#pragma unroll 1
    for (int c = first_chunk; c < n_chunks; c += chunk_step) {
      wait_copies<kStages - 2>();
      __syncwarp();
      begin_next(slot == 0 ? kStages - 1 : slot - 1, lane);
      add_chunk<kType, kRows, 1>(stages + slot * chunk_bytes<kType>(kRows), rows, col, c, n_in, sums);
      slot = slot + 1 == kStages ? 0 : slot + 1;
    }
  }
};
struct DownPlan {
  RoutedDown args;
  int32_t blocks_per_row, n_teams, n_shared;
};

template <WeightType kType, int kRows, int kStages>
__global__ void __launch_bounds__(kThreads, kRows == 2 ? 2 : 1)
    routed_down_kernel(const __grid_constant__ DownPlan plan) {
  constexpr WeightType kQ8 = WeightType::kQ8_0;
  extern __shared__ __align__(128) uint8_t shared[];
  const RoutedDown& args = plan.args;
  const DownWarps<kType, kRows, kStages> warps{args.n_used, plan.n_shared};
  const int thread = static_cast<int>(threadIdx.x), n_threads = static_cast<int>(blockDim.x);
  const int lane = own_lane(), warp = own_warp();
  const int team = warp / warps.per_team(), member = warp % warps.per_team();
  const int row = static_cast<int>(blockIdx.x) / plan.blocks_per_row;
  const int block = static_cast<int>(blockIdx.x) % plan.blocks_per_row;
  const int n_groups = args.width / kRows;
  const int first_group = n_groups * block / plan.blocks_per_row;
  const int end_group = n_groups * (block + 1) / plan.blocks_per_row;

  uint8_t* stages = shared + team * warps.stages_of_team() + warps.stages_before(member);
  uint8_t* end = shared + plan.n_teams * warps.stages_of_team();
  float* parts = reinterpret_cast<float*>(end) + team * warps.per_team() * 2 * kRows;
  end += plan.n_teams * warps.per_team() * 2 * kRows * 4;
  const StagedRows staged = staged_rows<kType>(end, args.n_used, args.hidden);
  end += staged_bytes<kType>(args.n_used, args.hidden);
  const StagedRows staged_shared = staged_rows<kQ8>(end, 1, args.hidden);
  if (plan.n_shared > 0) end += staged_bytes<kQ8>(1, args.hidden);
  auto* grid = reinterpret_cast<uint32_t*>(end);
  if (kType == WeightType::kIQ2_XXS) end += kGridBytes;
  const Expansion expansion{reinterpret_cast<float*>(end), first_group * kRows, (end_group - first_group) * kRows};

  const bool is_shared = member >= args.n_used;
  let_next_start();
  const int first = first_group + team, step = plan.n_teams;
  DownStream<kQ8, kRows, kStages> own_shared{stages,        row_source(args.shared_down), 0,     member - args.n_used,
                                             plan.n_shared, args.hidden / 1024,           first, end_group,
                                             step,          member - args.n_used};
  if (is_shared) own_shared.fill(lane);
  if (kType == WeightType::kIQ2_XXS) fill_grid(grid, thread, n_threads);
  wait_for_inputs();
  DownStream<kType, kRows, kStages> own_pick{
      stages, row_source(args.down), 0, 0, 1, args.hidden / Chunk<kType>::kWeights, first, end_group, step, 0};
  if (!is_shared) {
    own_pick.first_line =
        static_cast<uint32_t>(args.ids[row * args.n_used + member]) * static_cast<uint32_t>(args.width);
    own_pick.fill(lane);
  }

  stage_rows<kType>(staged, args.n_used, args.hidden, n_threads,
                    [&](int k) { return args.mid + (int64_t{row} * args.n_used + k) * args.hidden; });
  if (plan.n_shared > 0)
    stage_rows<kQ8>(staged_shared, 1, args.hidden, n_threads,
                    [&](int) { return args.shared_mid + int64_t{row} * args.hidden; });
  if (args.expand.streams != nullptr) stage_expansion(args.expand, expansion, row, 1, args.n_rows, args.width);
  __syncthreads();

  const SharedRows rows = read_only(staged, grid), shared_rows = read_only(staged_shared, grid);
  int buffer = 0;
  for (int group = first_group + team; group < end_group; group += plan.n_teams) {
    float sums[kRows] = {};
    if (is_shared) {
      own_shared.add_group(shared_rows, 0, args.hidden, lane, sums);
    } else {
      own_pick.add_group(rows, member, args.hidden, lane, sums);
    }
    float* own = parts + buffer * kRows * warps.per_team();
    put_totals<kRows>(sums, own + member * kRows, lane);
    team_barrier(team, warps.per_team());
    if (member == 0 && lane < kRows) {
      float y = 0.0f;
#pragma unroll 2
      for (int k = 0; k < args.n_used; ++k) y += own[k * kRows + lane];
      if (plan.n_shared > 0) y += team_sum(own + args.n_used * kRows, kRows, lane, plan.n_shared);
      const int o = group * kRows + lane;
      if (args.out != nullptr) args.out[int64_t{row} * args.width + o] = y;
      if (args.expand.streams != nullptr) expand(args.expand, expansion, row, 0, o, args.width, y);
    }
    buffer ^= 1;
  }
}

// Two rows at once leave room for the next kernel's blocks; more rows of the batch fill the memory anyway.
template <int kRowsAtOnce, int kStagesOfWarp>
struct Shape {
  static constexpr int kRows = kRowsAtOnce, kStages = kStagesOfWarp;
};
using Small = Shape<2, 4>;
using Large = Shape<4, 3>;
using SmallDown = Shape<2, 3>;
bool is_small(int n_rows) { return n_rows == 1; }

template <WeightType kType, class S>
size_t up_bytes(const RoutedUp& args) {
  return static_cast<size_t>(kWarps * (S::kStages * chunk_bytes<kType>(S::kRows) + 2 * S::kRows * 4) + kRoutingBytes +
                             staged_bytes<kType>(args.n_rows, args.width) +
                             (kType == WeightType::kIQ2_XXS ? kGridBytes : 0));
}

template <WeightType kType, class S>
cudaError_t launch_up(const RoutedUp& args, cudaStream_t stream) {
  const int64_t items = int64_t{args.n_rows} * args.router.n_used * (args.hidden * 2 / S::kRows);
  const auto blocks = static_cast<unsigned>(std::min<int64_t>(multiprocessors(), items));
  return launch(routed_up_kernel<kType, S::kRows, S::kStages>, {dim3(blocks), dim3(kThreads), up_bytes<kType, S>(args)},
                stream, args);
}

struct DownShape {
  DownPlan plan;
  size_t shared_bytes;
  int threads;
};

template <WeightType kType, class S>
DownShape down_shape(const RoutedDown& args) {
  const int n_shared = args.shared_mid == nullptr ? 0 : row_split<WeightType::kQ8_0>(args.hidden);
  const DownWarps<kType, S::kRows, S::kStages> warps{args.n_used, n_shared};
  DownShape shape{{args, 0, std::max(std::min(kWarps / warps.per_team(), 4), 1), n_shared}, 0, 0};
  shape.plan.blocks_per_row = std::min(std::max(multiprocessors() / args.n_rows, 1), args.width / S::kRows);
  const int outs = (args.width / S::kRows / shape.plan.blocks_per_row + 2) * S::kRows;
  const int rest = staged_bytes<kType>(args.n_used, args.hidden) +
                   (n_shared > 0 ? staged_bytes<WeightType::kQ8_0>(1, args.hidden) : 0) +
                   (kType == WeightType::kIQ2_XXS ? kGridBytes : 0) +
                   (args.expand.streams != nullptr ? 4 * outs * 4 : 0);
  const auto bytes = [&](int teams) {
    return static_cast<size_t>(teams * (warps.stages_of_team() + warps.per_team() * 2 * S::kRows * 4) + rest);
  };
  while (shape.plan.n_teams > 1 && bytes(shape.plan.n_teams) > kMaxSharedBytes) --shape.plan.n_teams;
  shape.shared_bytes = bytes(shape.plan.n_teams);
  shape.threads = shape.plan.n_teams * warps.per_team() * kWarp;
  return shape;
}

template <WeightType kType, class S>
cudaError_t launch_down(const RoutedDown& args, cudaStream_t stream) {
  const DownShape shape = down_shape<kType, S>(args);
  const auto blocks = static_cast<unsigned>(shape.plan.blocks_per_row * args.n_rows);
  return launch(routed_down_kernel<kType, S::kRows, S::kStages>,
                {dim3(blocks), dim3(static_cast<unsigned>(shape.threads)), shape.shared_bytes}, stream, shape.plan);
}

// body.operator()<type>() for the types of experts that meet quantised activations.
template <class Body>
auto with_expert_type(WeightType type, const Body& body) {
  switch (type) {
    case WeightType::kQ2_K: return body.template operator()<WeightType::kQ2_K>();
    case WeightType::kQ4_K: return body.template operator()<WeightType::kQ4_K>();
    case WeightType::kIQ2_XXS: return body.template operator()<WeightType::kIQ2_XXS>();
    case WeightType::kMXFP4: return body.template operator()<WeightType::kMXFP4>();
    default: return body.template operator()<WeightType::kQ8_0>();
  }
}

bool is_quantised(WeightType type) {
  return type != WeightType::kF32 && type != WeightType::kF16 && type != WeightType::kBF16;
}

}  // namespace

bool routed_up_takes(const RoutedUp& args) {
  const WeightType type = args.gate.type;
  if (args.up.type != type || !is_quantised(type) || !gemv_takes(args.gate, args.width)) return false;
  if (args.n_rows > kMaxGemvRows || args.router.n_used > kMaxUsed || args.hidden % 2 != 0) return false;
  if (args.router.logits != nullptr && args.router.n_experts > kMaxRoutedExperts) return false;
  return with_expert_type(type, [&]<WeightType kType>() { return up_bytes<kType, Large>(args); }) <= kMaxSharedBytes;
}

cudaError_t routed_up(const RoutedUp& args, cudaStream_t stream) {
  return with_expert_type(args.gate.type, [&]<WeightType kType>() {
    return is_small(args.n_rows) ? launch_up<kType, Small>(args, stream) : launch_up<kType, Large>(args, stream);
  });
}

bool routed_down_takes(const RoutedDown& args) {
  const WeightType type = args.down.type;
  if (!is_quantised(type) || !gemv_takes(args.down, args.hidden) || args.width % Large::kRows != 0) return false;
  if (args.n_rows > kMaxGemvRows) return false;
  if (args.shared_mid != nullptr &&
      (args.shared_down.type != WeightType::kQ8_0 || !gemv_takes(args.shared_down, args.hidden)))
    return false;
  return with_expert_type(type, [&]<WeightType kType>() {
    const DownShape shape = down_shape<kType, Large>(args);
    return shape.shared_bytes <= kMaxSharedBytes && shape.threads <= kThreads;
  });
}

cudaError_t routed_down(const RoutedDown& args, cudaStream_t stream) {
  return with_expert_type(args.down.type, [&]<WeightType kType>() {
    return is_small(args.n_rows) ? launch_down<kType, SmallDown>(args, stream)
                                 : launch_down<kType, Large>(args, stream);
  });
}

}  // namespace ds4::cuda
