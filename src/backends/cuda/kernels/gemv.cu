// Lists of products of one input with 1 to 16 rows. A block takes a run of the rows of all products in order, cut by
// bytes, so that 132 blocks end together and DRAM pages are read in one go; teams of 1, 2 or 4 warps share a row's
// length. Per weight byte: one cp.async of 16 bytes a lane, one read back; at one row below two instructions a clock.

#include "backends/cuda/kernels/gemv.h"

#include <algorithm>

#include "backends/cuda/kernels/gemv_block.cuh"
#include "backends/cuda/kernels/gemv_launch.cuh"
#include "backends/cuda/kernels/launch.cuh"

namespace ds4::cuda {
namespace {

constexpr int kMaxThreads = 512;

// What the blocks of one launch share: groups are the kRows rows a team takes at once, numbered through the products.
struct Plan {
  Gemv args;
  int32_t first_row;  // of the batch's rows, for blockIdx.y = 0
  int32_t blocks_per_slice;
  int32_t split;
  int32_t outs_per_slice;  // with slices
  int32_t first_group[kMaxProducts + 1];
  int32_t cost[kMaxProducts];  // of a group
  int64_t costs_before[kMaxProducts + 1];
};

__host__ __device__ constexpr int rows_at_once(int cols) { return cols <= 2 ? 2 : 4; }
template <WeightType kType>
__host__ __device__ constexpr int stages_of(int cols) {
  return cols > 2 ? 2 : Chunk<kType>::kPieces == 1 ? 4 : 3;
}

template <WeightType kA, WeightType kB, int kCols>
struct Config {
  static constexpr int kRows = rows_at_once(kCols);
  static constexpr int kStages = stages_of<kA>(kCols);
  static constexpr int kStageBytes = std::max(chunk_bytes<kA>(kRows), chunk_bytes<kB>(kRows));
  static constexpr int kTotals = kRows * kCols;
  static constexpr bool kHasGrid = kA == WeightType::kIQ2_XXS;
  static constexpr int kPartBytes = 2 * kTotals * 4;
  static constexpr int kWarpBytes = kStages * kStageBytes + kPartBytes;
  static int row_bytes(int n_in) {
    return staged_bytes<kA>(kCols, n_in) + (kA == kB ? 0 : staged_bytes<kB>(kCols, n_in));
  }
};

__device__ inline int first_group_of(const Plan& plan, int block) {
  const int n = plan.args.n_products;
  const int64_t target = plan.costs_before[n] * block / plan.blocks_per_slice;
  int p = 0;
  while (p + 1 < n && target >= plan.costs_before[p + 1]) ++p;
  const int64_t rest = target - plan.costs_before[p];
  return plan.first_group[p] + static_cast<int>((rest + plan.cost[p] - 1) / plan.cost[p]);
}

// Walks the chunks that a warp takes: those of its team's groups that are its own.
struct Walk {
  int group, end, step;
  int chunk, chunk_step, product;

  __device__ void find_product(const Plan& plan) {
    while (product + 1 < plan.args.n_products && group >= plan.first_group[product + 1]) ++product;
  }
  // True when that was the group's last chunk of this warp.
  __device__ bool advance(int n_chunks, int first_chunk) {
    chunk += chunk_step;
    if (chunk < n_chunks) return false;
    chunk = first_chunk;
    group += step;
    return true;
  }
};

template <int kRows, int kCols>
__device__ inline void finish_group(const Plan& plan, const float* parts, const Walk& at, int slice, int thread,
                                    const Expansion& expansion) {
  const GemvProduct& product = plan.args.products[at.product];
  constexpr int kN = kRows * kCols;
  const int local = at.group - plan.first_group[at.product];
  const int first_row = plan.first_row + static_cast<int>(blockIdx.y) * kCols;
  const bool pairs = product.finish == GemvFinish::kSwiglu;
  const int n = pairs ? kN / 2 : kN;
#pragma unroll 1
  for (int i = thread; i < n; i += plan.split * kWarp) {
    const int col = i % kCols;
    const int row = first_row + col;
    const int o = local * (pairs ? kRows / 2 : kRows) + i / kCols;
    if (row >= plan.args.n_rows || o >= (plan.outs_per_slice > 0 ? plan.outs_per_slice : product.n_out)) continue;
    const int out = slice * plan.outs_per_slice + o;
    float value;
    if (pairs) {
      const int gate = i / kCols * 2 * kCols + col;
      value = swiglu_value(team_sum(parts, kN, gate, plan.split), team_sum(parts, kN, gate + kCols, plan.split),
                           plan.args.clamp);
    } else {
      value = team_sum(parts, kN, i, plan.split);
    }
    if (product.out != nullptr) product.out[int64_t{row} * product.n_out + out] = value;
    if (product.finish == GemvFinish::kExpand) expand(plan.args.expand, expansion, row, col, out, product.n_out, value);
  }
}

template <WeightType kA, WeightType kB, int kCols>
__device__ inline void start_chunk(const Plan& plan, const Walk& at, int slice, uint32_t stage, int lane) {
  constexpr int kRows = rows_at_once(kCols);
  const GemvProduct& product = plan.args.products[at.product];
  const int local = at.group - plan.first_group[at.product];
  const bool pairs = product.finish == GemvFinish::kSwiglu;
  const int first = slice * plan.outs_per_slice + local * (pairs ? kRows / 2 : kRows);
  const auto row_at = [&](int r, int plane) {
    const uint8_t* base = pairs && r % 2 == 1 ? product.up.planes[plane] : product.weight.planes[plane];
    const auto row = static_cast<uint32_t>(min(first + (pairs ? r / 2 : r), product.n_out - 1));
    return base + static_cast<uint64_t>(row) * static_cast<uint32_t>(product.weight.row_bytes[plane]);
  };
  if (kA == kB || product.weight.type == kA) {
    copy_chunk<kA, kRows>(stage, at.chunk, lane, row_at);
  } else {
    copy_chunk<kB, kRows>(stage, at.chunk, lane, row_at);
  }
}

template <WeightType kA, WeightType kB, int kCols>
__global__ void __launch_bounds__(kMaxThreads, kCols <= 2 ? 2 : 1) gemv_kernel(const __grid_constant__ Plan plan) {
  using C = Config<kA, kB, kCols>;
  constexpr int kRows = C::kRows, kStages = C::kStages, kTotals = C::kTotals;
  extern __shared__ __align__(128) uint8_t shared[];
  const Gemv& args = plan.args;
  const int thread = static_cast<int>(threadIdx.x), n_threads = static_cast<int>(blockDim.x);
  const int lane = own_lane(), warp = own_warp(), n_warps = n_threads / kWarp;
  const int team = warp / plan.split, member = warp % plan.split;
  const int slice = static_cast<int>(blockIdx.x) / plan.blocks_per_slice;
  const int block = static_cast<int>(blockIdx.x) % plan.blocks_per_slice;
  const int first_group = first_group_of(plan, block), end_group = first_group_of(plan, block + 1);
  const int first_row = plan.first_row + static_cast<int>(blockIdx.y) * kCols;

  uint8_t* stages = shared + warp * (kStages * C::kStageBytes);
  const uint32_t stage_address = shared_address(stages);
  float* parts =
      reinterpret_cast<float*>(shared + n_warps * (kStages * C::kStageBytes) + team * plan.split * C::kPartBytes);
  uint8_t* end = shared + n_warps * C::kWarpBytes;
  const StagedRows rows_a = staged_rows<kA>(end, kCols, args.n_in);
  end += staged_bytes<kA>(kCols, args.n_in);
  const StagedRows rows_b = kA == kB ? rows_a : staged_rows<kB>(end, kCols, args.n_in);
  if (kA != kB) end += staged_bytes<kB>(kCols, args.n_in);
  auto* grid = reinterpret_cast<uint32_t*>(end);
  if (C::kHasGrid) end += kGridBytes;
  const Expansion expansion{reinterpret_cast<float*>(end), first_group * kRows,
                            min((end_group - first_group) * kRows, args.products[0].n_out - first_group * kRows)};

  Walk start{first_group + team, end_group, n_warps / plan.split, member, plan.split, 0};
  Walk done = start;
  const auto begin_next = [&](int slot) {
    if (start.group < end_group) {
      start.find_product(plan);
      start_chunk<kA, kB, kCols>(plan, start, slice, stage_address + slot * C::kStageBytes, lane);
      const bool is_a = kA == kB || args.products[start.product].weight.type == kA;
      start.advance(args.n_in / (is_a ? Chunk<kA>::kWeights : Chunk<kB>::kWeights), member);
    }
    commit_copies();
  };
  let_next_start();
#pragma unroll 1
  for (int slot = 0; slot < kStages - 1; ++slot) begin_next(slot);
  if (C::kHasGrid) fill_grid(grid, thread, n_threads);
  wait_for_inputs();
  const auto x_row = [&](int col) {
    const int64_t row = min(first_row + col, args.n_rows - 1);
    return args.x + (row * args.n_groups + slice) * args.n_in;
  };
  stage_rows<kA>(rows_a, kCols, args.n_in, n_threads, x_row);
  if (kA != kB) stage_rows<kB>(rows_b, kCols, args.n_in, n_threads, x_row);
  if (args.products[0].finish == GemvFinish::kExpand)
    stage_expansion(args.expand, expansion, first_row, kCols, args.n_rows, args.products[0].n_out);
  __syncthreads();

  const SharedRows a = read_only(rows_a, grid), b = read_only(rows_b, grid);
  int slot = 0, buffer = 0;
  float sums[kTotals] = {};
  while (done.group < end_group) {
    wait_copies<kStages - 2>();
    __syncwarp();
    begin_next(slot == 0 ? kStages - 1 : slot - 1);
    done.find_product(plan);
    const bool is_a = kA == kB || args.products[done.product].weight.type == kA;
    const uint8_t* stage = stages + slot * C::kStageBytes;
    if (is_a) {
      add_chunk<kA, kRows, kCols>(stage, a, 0, done.chunk, args.n_in, sums);
    } else {
      add_chunk<kB, kRows, kCols>(stage, b, 0, done.chunk, args.n_in, sums);
    }
    slot = slot + 1 == kStages ? 0 : slot + 1;
    const Walk at = done;
    if (!done.advance(args.n_in / (is_a ? Chunk<kA>::kWeights : Chunk<kB>::kWeights), member)) continue;
    // The team's two sets of parts take turns: one barrier a group is enough.
    float* own = parts + buffer * kTotals * plan.split;
    put_totals<kTotals>(sums, own + member * kTotals, lane);
    team_barrier(team, plan.split);
    finish_group<kRows, kCols>(plan, own, at, slice, member * kWarp + lane, expansion);
    buffer ^= 1;
#pragma unroll
    for (float& sum : sums) sum = 0.0f;
  }
}

template <WeightType kType>
int cost_of_row(int n_in) {
  return chunk_bytes<kType>(1) * (n_in / Chunk<kType>::kWeights) / 16;
}

// As many as fit, 12 rather than 16 where that lets the next kernel's blocks be there beside these.
int warps_of_block(size_t warp_bytes, size_t rest, bool may_share) {
  for (const int warps : {16, 12}) {
    if (may_share && warps * warp_bytes + rest <= kHalfSharedBytes) return warps;
  }
  for (const int warps : {16, 12, 8}) {
    if (warps * warp_bytes + rest <= kMaxSharedBytes) return warps;
  }
  return 4;
}

template <WeightType kA, WeightType kB, int kCols>
cudaError_t launch_list(const Gemv& args, int32_t first_row, int32_t n_passes, cudaStream_t stream) {
  using C = Config<kA, kB, kCols>;
  Plan plan{};
  plan.args = args;
  plan.first_row = first_row;
  plan.split = row_split<kA>(args.n_in);
  plan.outs_per_slice = args.n_groups > 1 ? args.products[0].n_out / args.n_groups : 0;
  const int sms = multiprocessors();
  plan.blocks_per_slice = std::max(sms / args.n_groups, 1);
  for (int32_t p = 0; p < args.n_products; ++p) {
    const GemvProduct& product = args.products[p];
    const int outs = args.n_groups > 1 ? plan.outs_per_slice : product.n_out;
    const int per_group = product.finish == GemvFinish::kSwiglu ? C::kRows / 2 : C::kRows;
    const int groups = (outs + per_group - 1) / per_group;
    plan.cost[p] = C::kRows * (product.weight.type == kA ? cost_of_row<kA>(args.n_in) : cost_of_row<kB>(args.n_in));
    plan.first_group[p + 1] = plan.first_group[p] + groups;
    plan.costs_before[p + 1] = plan.costs_before[p] + int64_t{groups} * plan.cost[p];
  }
  const int groups = plan.first_group[args.n_products];
  plan.blocks_per_slice = std::min(plan.blocks_per_slice, groups);
  size_t rest = static_cast<size_t>(C::row_bytes(args.n_in) + (C::kHasGrid ? kGridBytes : 0));
  if (args.products[0].finish == GemvFinish::kExpand) {
    const int outs = (groups / plan.blocks_per_slice + 2) * C::kRows;
    rest += static_cast<size_t>(kCols * 4 * outs) * 4;
  }
  const int warps = warps_of_block(C::kWarpBytes, rest, kCols <= 2);
  const Grid grid{dim3(static_cast<unsigned>(plan.blocks_per_slice * args.n_groups), static_cast<unsigned>(n_passes)),
                  dim3(static_cast<unsigned>(warps * kWarp)), warps * C::kWarpBytes + rest};
  return launch(gemv_kernel<kA, kB, kCols>, grid, stream, plan);
}

// Rows in passes of what one launch's shared memory holds: floats of more than eight rows go in two.
template <WeightType kA, WeightType kB>
cudaError_t launch_rows(const Gemv& args, cudaStream_t stream) {
  constexpr bool kFloats = Chunk<kA>::kBlock == 0;
  if (args.n_rows == 1) return launch_list<kA, kB, 1>(args, 0, 1, stream);
  if (args.n_rows == 2) return launch_list<kA, kB, 2>(args, 0, 1, stream);
  if constexpr (kA != kB) {
    return launch_list<kA, kB, 4>(args, 0, 1, stream);
  } else {
    const bool is_long = kFloats && args.n_in > 4096;
    if (args.n_rows <= 4 || is_long) return launch_list<kA, kB, 4>(args, 0, (args.n_rows + 3) / 4, stream);
    if (args.n_rows <= 8 || kFloats) return launch_list<kA, kB, 8>(args, 0, (args.n_rows + 7) / 8, stream);
    if constexpr (!kFloats) return launch_list<kA, kB, 16>(args, 0, 1, stream);
  }
  return cudaErrorInvalidValue;
}

cudaError_t launch_type(WeightType type, const Gemv& args, cudaStream_t stream) {
  switch (type) {
    case WeightType::kF16: return launch_rows<WeightType::kF16, WeightType::kF16>(args, stream);
    case WeightType::kBF16: return launch_rows<WeightType::kBF16, WeightType::kBF16>(args, stream);
    case WeightType::kQ8_0: return launch_rows<WeightType::kQ8_0, WeightType::kQ8_0>(args, stream);
    case WeightType::kQ2_K: return launch_rows<WeightType::kQ2_K, WeightType::kQ2_K>(args, stream);
    case WeightType::kQ4_K: return launch_rows<WeightType::kQ4_K, WeightType::kQ4_K>(args, stream);
    case WeightType::kIQ2_XXS: return launch_rows<WeightType::kIQ2_XXS, WeightType::kIQ2_XXS>(args, stream);
    case WeightType::kMXFP4: return launch_rows<WeightType::kMXFP4, WeightType::kMXFP4>(args, stream);
    case WeightType::kF32: break;
  }
  return cudaErrorInvalidValue;
}

}  // namespace

bool gemv_takes(const Weight& weight, int64_t n_in) {
  switch (weight.type) {
    case WeightType::kF32: return false;
    case WeightType::kF16:
    case WeightType::kBF16: return n_in % 512 == 0 && n_in <= 8192;
    case WeightType::kQ2_K:
    case WeightType::kIQ2_XXS: return n_in % 2048 == 0 && n_in <= 8192;
    default: return n_in % 1024 == 0 && n_in <= 8192;
  }
}

cudaError_t gemv(const Gemv& args, cudaStream_t stream) {
  // Q8_0 and F16 share a launch while the activations of both fit.
  constexpr WeightType kQ8 = WeightType::kQ8_0, kF16 = WeightType::kF16;
  bool has_q8 = false, has_f16 = false, has_other = false;
  for (int32_t p = 0; p < args.n_products; ++p) {
    const WeightType type = args.products[p].weight.type;
    (type == kQ8 ? has_q8 : type == kF16 ? has_f16 : has_other) = true;
  }
  const bool same_split = row_split<kQ8>(args.n_in) == row_split<kF16>(args.n_in);
  if (has_q8 && has_f16 && !has_other && same_split && args.n_rows <= 4 && args.n_in <= 4096)
    return launch_rows<kQ8, kF16>(args, stream);
  bool is_done[kMaxProducts] = {};
  for (int32_t p = 0; p < args.n_products; ++p) {
    if (is_done[p]) continue;
    Gemv part = args;
    part.n_products = 0;
    for (int32_t q = p; q < args.n_products; ++q) {
      if (args.products[q].weight.type != args.products[p].weight.type) continue;
      part.products[part.n_products++] = args.products[q];
      is_done[q] = true;
    }
    if (const cudaError_t error = launch_type(args.products[p].weight.type, part, stream); error != cudaSuccess)
      return error;
  }
  return cudaSuccess;
}

}  // namespace ds4::cuda
