// Which compressed rows a query takes, where queries and keys are E2M1 with a power of two per 32: as BF16 they are
// exact, so tensor cores give each head's product as F32 would. A warp holds keys in registers and goes through
// queries; the sum over heads has one tree for every key, so equal keys have equal scores. Then a block per query finds
// the k-th best: a histogram over the scores' range names its bin, the few scores in there are ranked by comparing each
// with each. Ties go to the lower row because rows are counted in order.
// Bytes: 68 a key, once for 32 queries; 64 x 128 products and 64 sums per query and key.

#include <cuda_bf16.h>

#include "backends/cuda/kernels/fused_steps.h"
#include "backends/cuda/kernels/index_rank.cuh"
#include "backends/cuda/kernels/kv_rows.cuh"
#include "backends/cuda/kernels/launch.cuh"
#include "backends/cuda/kernels/tensor_cores.cuh"

namespace ds4::cuda {
namespace {

constexpr int kWidth = 128;
constexpr int kHeads = 64;
constexpr int kKeyBytes = 68;
constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;
constexpr int kQueryValues = kHeads * kWidth;
constexpr int kPreparedQueries = 32;  // of a block
constexpr int64_t kFewRows = 16;
constexpr int64_t kShortKeys = 16384;
constexpr unsigned kBlocksAtOnce = 264;
constexpr int kSelectThreads = 1024;
constexpr int kSelectWarps = kSelectThreads / kWarp;

// In the order of the fragments: [16 heads][8 of a group][heads 0 or 8 of the 16][lane]: of head lane / 4 the values
// 32 * (lane % 4) + 8 * (8 of a group) and on.
__device__ int fragment_place(int head, int i) {
  const int lane = head % 8 * 4 + i / 32;
  return (((head / 16 * 4 + i % 32 / 8) * 2 + head / 8 % 2) * kWarp + lane) * 8 + i % 8;
}

__device__ uint32_t two_bf16(float a, float b) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(a, b);
  return *reinterpret_cast<const uint32_t*>(&pair);
}

// By the whole block: F32 to fragments; heads that there are not become zero.
__device__ void prepare_query(const float* query, int n_heads, uint16_t* prepared) {
#pragma unroll 4
  for (int at = 8 * static_cast<int>(threadIdx.x); at < kQueryValues; at += 8 * kThreads) {
    const int head = at / kWidth;
    float4 a = make_float4(0, 0, 0, 0), b = a;
    if (head < n_heads) {
      a = *reinterpret_cast<const float4*>(query + at);
      b = *reinterpret_cast<const float4*>(query + at + 4);
    }
    *reinterpret_cast<uint4*>(prepared + fragment_place(head, at % kWidth)) =
        make_uint4(two_bf16(a.x, a.y), two_bf16(a.z, a.w), two_bf16(b.x, b.y), two_bf16(b.z, b.w));
  }
}

__global__ void prepare_kernel(const float* query, int n_heads, uint16_t* prepared) {
  wait_for_inputs();
  let_next_start();
  prepare_query(query + int64_t{blockIdx.x} * n_heads * kWidth, n_heads, prepared + int64_t{blockIdx.x} * kQueryValues);
}

// Four E2M1 codes in the low half of `codes` to BF16, times a power of two.
__device__ uint2 four_codes(uint32_t codes, __nv_bfloat162 scale) {
  const uint32_t pick = codes & 0x7777u;
  const uint32_t low = __byte_perm(0xC0800000u, 0xC0804000u, pick);
  uint32_t high = __byte_perm(0x3F3F3F00u, 0x40404040u, pick);
  high |= ((codes & 8u) << 4) | ((codes & 0x80u) << 8) | ((codes & 0x800u) << 12) | ((codes & 0x8000u) << 16);
  const uint32_t first = __byte_perm(low, high, 0x5140);
  const uint32_t second = __byte_perm(low, high, 0x7362);
  const __nv_bfloat162 a = __hmul2(*reinterpret_cast<const __nv_bfloat162*>(&first), scale);
  const __nv_bfloat162 b = __hmul2(*reinterpret_cast<const __nv_bfloat162*>(&second), scale);
  return make_uint2(*reinterpret_cast<const uint32_t*>(&a), *reinterpret_cast<const uint32_t*>(&b));
}

// The keys of a warp, 8 a tile: lane holds of key lane / 4 the group lane % 4, four values a step.
template <int kTiles>
struct Keys {
  uint2 parts[kTiles][8];

  __device__ void load(const IndexSelect& args, int slot, int first, int n) {
    const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      const int c = first + 8 * tile + lane / 4;
      uint32_t words[4] = {};
      float scale = 0.0f;
      if (c < n) {
        const uint8_t* key = compressed_row(args.memory, args.indexer, slot, c);
        for (int i = 0; i < 4; ++i) words[i] = reinterpret_cast<const uint32_t*>(key)[lane % 4 * 4 + i];
        scale = e8m0(key[kWidth / 2 + lane % 4]);
      }
      const __nv_bfloat162 factor = __float2bfloat162_rn(scale);
#pragma unroll
      for (int step = 0; step < 8; ++step) parts[tile][step] = four_codes(words[step / 2] >> (16 * (step % 2)), factor);
    }
  }
};

// Sum over heads of the positive products with this warp's keys, for columns 2 * (lane % 4) and the next of each tile;
// of heads lane / 4 modulo 8 only.
template <int kTiles>
__device__ void head_sums(const Keys<kTiles>& keys, const uint16_t* query, const float* weights,
                          float (&sums)[kTiles][2]) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int group = 0; group < kHeads / 16; ++group) {
    float products[kTiles][4] = {};
#pragma unroll
    for (int part = 0; part < 4; ++part) {
      const auto* at = reinterpret_cast<const uint4*>(query) + (group * 4 + part) * 2 * kWarp + lane;
      const uint4 x = at[0];
      const uint4 y = at[kWarp];
      const uint32_t a[4] = {x.x, y.x, x.y, y.y};
      const uint32_t b[4] = {x.z, y.z, x.w, y.w};
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        multiply_bf16(products[tile], a, keys.parts[tile][2 * part].x, keys.parts[tile][2 * part].y);
        multiply_bf16(products[tile], b, keys.parts[tile][2 * part + 1].x, keys.parts[tile][2 * part + 1].y);
      }
    }
    const float low = weights[16 * group + lane / 4];
    const float high = weights[16 * group + 8 + lane / 4];
#pragma unroll
    for (int tile = 0; tile < kTiles; ++tile) {
      for (int i = 0; i < 2; ++i) {
        sums[tile][i] = fmaf(fmaxf(products[tile][i], 0.0f), low, sums[tile][i]);
        sums[tile][i] = fmaf(fmaxf(products[tile][i + 2], 0.0f), high, sums[tile][i]);
      }
    }
  }
}

// What is kept gets the other's share of it.
__device__ float keep_one(float first, float second, bool keeps_second, int distance) {
  const float sent = keeps_second ? first : second;
  return (keeps_second ? second : first) + __shfl_xor_sync(0xFFFFFFFFu, sent, distance);
}

__device__ void store_scores(const float (&sums)[1][2], float* scores, int first, int n) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  float sum = keep_one(sums[0][0], sums[0][1], (lane & 16) != 0, 16);
  sum += __shfl_xor_sync(0xFFFFFFFFu, sum, 8);
  sum += __shfl_xor_sync(0xFFFFFFFFu, sum, 4);
  const int c = first + 2 * (lane % 4) + lane / 16;
  if ((lane & 12) == 0 && c < n) scores[c] = sum;
}

__device__ void store_scores(const float (&sums)[4][2], float* scores, int first, int n) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const bool bit4 = (lane & 16) != 0, bit3 = (lane & 8) != 0, bit2 = (lane & 4) != 0;
  float pair[2][2];
  for (int tile = 0; tile < 2; ++tile) {
    for (int i = 0; i < 2; ++i) pair[tile][i] = keep_one(sums[tile][i], sums[tile + 2][i], bit4, 16);
  }
  float one[2];
  for (int i = 0; i < 2; ++i) one[i] = keep_one(pair[0][i], pair[1][i], bit3, 8);
  const float sum = keep_one(one[0], one[1], bit2, 4);
  const int c = first + 8 * (2 * (bit4 ? 1 : 0) + (bit3 ? 1 : 0)) + 2 * (lane % 4) + (bit2 ? 1 : 0);
  if (c < n) scores[c] = sum;
}

// A row per block, which goes through keys gridDim.x blocks apart; kTiles of them a warp.
template <int kTiles>
__global__ void __launch_bounds__(kThreads, 2) few_scores_kernel(IndexSelect args) {
  __shared__ __align__(16) uint16_t query[kQueryValues];
  __shared__ float weights[kHeads];
  constexpr int kBlockKeys = kWarps * 8 * kTiles;
  wait_for_inputs();
  let_next_start();
  const int64_t row = blockIdx.y;
  const RowPlace place = args.places[row];
  const int n = visible(args, place);
  int block_first = static_cast<int>(blockIdx.x) * kBlockKeys;
  if (n <= args.top_k || block_first >= n) return;
  const int warp_first = static_cast<int>(threadIdx.x) / kWarp * 8 * kTiles;
  Keys<kTiles> keys;
  keys.load(args, place.slot, block_first + warp_first, n);
  prepare_query(args.query + row * args.n_heads * kWidth, args.n_heads, query);
  for (int h = static_cast<int>(threadIdx.x); h < kHeads; h += kThreads)
    weights[h] = h < args.n_heads ? args.weights[row * args.n_heads + h] * args.weight_scale : 0.0f;
  __syncthreads();
  while (true) {
    float sums[kTiles][2] = {};
    head_sums(keys, query, weights, sums);
    store_scores(sums, args.scores + row * args.max_visible, block_first + warp_first, n);
    block_first += static_cast<int>(gridDim.x) * kBlockKeys;
    if (block_first >= n) break;
    keys.load(args, place.slot, block_first + warp_first, n);
  }
}

template <int kTiles>
cudaError_t few_scores(const IndexSelect& args, cudaStream_t stream) {
  // Blocks that do not run at once would prepare the query in vain.
  const auto n_rows = static_cast<unsigned>(args.n_rows);
  const unsigned most = (kBlocksAtOnce + n_rows - 1) / n_rows;
  const unsigned n = blocks_for(args.max_visible, kWarps * 8 * kTiles);
  return launch(few_scores_kernel<kTiles>, Grid{dim3(n < most ? n : most, n_rows), dim3(kThreads)}, stream, args);
}

struct PreparedShared {
  uint16_t query[2][kQueryValues];
  float weights[2][kHeads];
};

__device__ void copy_query(const IndexSelect& args, const uint16_t* prepared, int64_t row, PreparedShared& s,
                           int stage) {
  const uint16_t* from = prepared + row * kQueryValues;
  for (int at = 8 * static_cast<int>(threadIdx.x); at < kQueryValues; at += 8 * kThreads)
    copy_16_async(shared_address(&s.query[stage][at]), from + at, true);
  end_copy_group();
  for (int h = static_cast<int>(threadIdx.x); h < kHeads; h += kThreads)
    s.weights[stage][h] = h < args.n_heads ? args.weights[row * args.n_heads + h] * args.weight_scale : 0.0f;
}

// Rows [first_row, first_row + n_rows) of the batch; scores of the first of them come first.
__global__ void __launch_bounds__(kThreads)
    many_scores_kernel(IndexSelect args, const uint16_t* prepared, int64_t first_row, int64_t n_rows) {
  __shared__ __align__(16) PreparedShared s;
  wait_for_inputs();
  let_next_start();
  const int block_first = static_cast<int>(blockIdx.x) * kWarps * 32;
  const int first = block_first + static_cast<int>(threadIdx.x) / kWarp * 32;
  const int64_t begin = int64_t{blockIdx.y} * kPreparedQueries;
  const int64_t end = min(begin + kPreparedQueries, n_rows);
  Keys<4> keys;
  int slot = -1;
  copy_query(args, prepared, first_row + begin, s, 0);
  for (int64_t i = begin; i < end; ++i) {
    const int stage = static_cast<int>(i - begin) % 2;
    if (i + 1 < end) {
      copy_query(args, prepared, first_row + i + 1, s, 1 - stage);
      wait_copy_groups<1>();
    } else {
      wait_copy_groups<0>();
    }
    __syncthreads();
    const RowPlace place = args.places[first_row + i];
    const int n = visible(args, place);
    if (n > args.top_k && block_first < n) {
      if (place.slot != slot) keys.load(args, place.slot, first, place.end_position / args.indexer.ratio);
      slot = place.slot;
      float sums[4][2] = {};
      head_sums(keys, s.query[stage], s.weights[stage], sums);
      store_scores(sums, args.scores + i * args.max_visible, first, n);
    }
    __syncthreads();
  }
}

struct SelectShared {
  int bins[kBins];
  uint32_t candidates[kMostCandidates];
  int warp_sums[2][kSelectWarps];
  float warp_least[kSelectWarps], warp_largest[kSelectWarps];
  int bin, n_above, n_candidates;
  uint32_t key;
  int n_equal;
};

// Sums over the threads before this one; `totals` of all.
__device__ int2 sums_before(int2 own, SelectShared& s, int2* totals) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  int2 sum = own;
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const int x = __shfl_up_sync(0xFFFFFFFFu, sum.x, distance);
    const int y = __shfl_up_sync(0xFFFFFFFFu, sum.y, distance);
    if (lane >= distance) sum = make_int2(sum.x + x, sum.y + y);
  }
  __syncthreads();
  if (lane == kWarp - 1) {
    s.warp_sums[0][warp] = sum.x;
    s.warp_sums[1][warp] = sum.y;
  }
  __syncthreads();
  int2 before = make_int2(sum.x - own.x, sum.y - own.y);
  int2 all = make_int2(0, 0);
  for (int w = 0; w < kSelectWarps; ++w) {
    const int2 other = make_int2(s.warp_sums[0][w], s.warp_sums[1][w]);
    if (w < warp) before = make_int2(before.x + other.x, before.y + other.y);
    all = make_int2(all.x + other.x, all.y + other.y);
  }
  *totals = all;
  return before;
}

template <int kHeld>
__device__ Extent find_extent(const Scores<kHeld>& scores, SelectShared& s) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  float least = 3.4e38f, largest = -3.4e38f;
  scores.for_each([&](int, float score) {
    least = fminf(least, score);
    largest = fmaxf(largest, score);
  });
  for (int distance = 16; distance > 0; distance /= 2) {
    least = fminf(least, __shfl_xor_sync(0xFFFFFFFFu, least, distance));
    largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFFu, largest, distance));
  }
  if (threadIdx.x % kWarp == 0) {
    s.warp_least[warp] = least;
    s.warp_largest[warp] = largest;
  }
  __syncthreads();
  for (int w = 0; w < kSelectWarps; ++w) {
    least = fminf(least, s.warp_least[w]);
    largest = fmaxf(largest, s.warp_largest[w]);
  }
  return extent_of(least, largest);
}

// Bit by bit, for scores that one bin holds too many of.
template <int kHeld>
__device__ void find_threshold_slowly(const Scores<kHeld>& scores, int k, SelectShared& s) {
  uint32_t key = 0;
  int2 totals;
  for (int bit = 31; bit >= 0; --bit) {
    const uint32_t trial = key | (1u << bit);
    int2 count = make_int2(0, 0);
    scores.for_each([&](int, float score) { count.x += rank_key(score) >= trial ? 1 : 0; });
    (void)sums_before(count, s, &totals);
    if (totals.x >= k) key = trial;
  }
  int2 above = make_int2(0, 0);
  scores.for_each([&](int, float score) { above.x += rank_key(score) > key ? 1 : 0; });
  (void)sums_before(above, s, &totals);
  __syncthreads();
  if (threadIdx.x == 0) {
    s.key = key;
    s.n_equal = k - totals.x;
  }
  __syncthreads();
}

// Key of the k-th best and how many of its equals belong to the k, in s.
template <int kHeld>
__device__ void find_threshold(const Scores<kHeld>& scores, int k, SelectShared& s) {
  for (int i = static_cast<int>(threadIdx.x); i < kBins; i += kSelectThreads) s.bins[i] = 0;
  if (threadIdx.x == 0) s.n_candidates = 0;
  const Extent extent = find_extent(scores, s);
  scores.for_each([&](int, float score) { atomicAdd(&s.bins[extent.bin(score)], 1); });
  __syncthreads();
  const int high = kBins - 1 - 2 * static_cast<int>(threadIdx.x);
  const int2 own = make_int2(s.bins[high], s.bins[high - 1]);
  int2 totals;
  const int above = sums_before(make_int2(own.x + own.y, 0), s, &totals).x;
  if (above < k && k <= above + own.x + own.y) {
    const bool is_first = k <= above + own.x;
    s.bin = is_first ? high : high - 1;
    s.n_above = is_first ? above : above + own.x;
  }
  __syncthreads();
  const int bin = s.bin;
  const int n_candidates = s.bins[bin];
  if (n_candidates > kMostCandidates) {
    find_threshold_slowly(scores, k, s);
    return;
  }
  scores.for_each([&](int, float score) {
    if (extent.bin(score) == bin) s.candidates[atomicAdd(&s.n_candidates, 1)] = rank_key(score);
  });
  __syncthreads();
  const int rest = k - s.n_above;
  if (static_cast<int>(threadIdx.x) < n_candidates) {
    const uint32_t key = s.candidates[threadIdx.x];
    int n_larger = 0, n_equal = 0;
    for (int i = 0; i < n_candidates; ++i) {
      n_larger += s.candidates[i] > key ? 1 : 0;
      n_equal += s.candidates[i] == key ? 1 : 0;
    }
    if (n_larger < rest && rest <= n_larger + n_equal) {  // equals write the same
      s.key = key;
      s.n_equal = rest - n_larger;
    }
  }
  __syncthreads();
}

template <int kHeld>
__global__ void __launch_bounds__(kSelectThreads) select_kernel(IndexSelect args, int64_t first_row) {
  __shared__ SelectShared s;
  wait_for_inputs();
  let_next_start();
  const int64_t row = first_row + blockIdx.x;
  const int n = visible(args, args.places[row]);
  int32_t* selected = args.selected + row * args.top_k;
  if (threadIdx.x == 0) args.n_selected[row] = min(n, args.top_k);
  if (n <= args.top_k) {
    for (int c = static_cast<int>(threadIdx.x); c < n; c += kSelectThreads) selected[c] = c;
    return;
  }
  Scores<kHeld> scores;
  scores.row = args.scores + int64_t{blockIdx.x} * args.max_visible;
  scores.share = (n + 4 * kSelectThreads - 1) / (4 * kSelectThreads) * 4;
  scores.first = scores.share * static_cast<int>(threadIdx.x);
  scores.n = n;
  scores.load();
  find_threshold(scores, args.top_k, s);
  const uint32_t threshold = s.key;
  const int n_equal = s.n_equal;
  int2 own = make_int2(0, 0);
  scores.for_each([&](int, float score) {
    const uint32_t key = rank_key(score);
    own.x += key > threshold ? 1 : 0;
    own.y += key == threshold ? 1 : 0;
  });
  int2 totals;
  int2 before = sums_before(own, s, &totals);
  scores.for_each([&](int c, float score) {
    const uint32_t key = rank_key(score);
    if (key > threshold) {
      selected[before.x + min(before.y, n_equal)] = c;
      ++before.x;
    } else if (key == threshold) {
      if (before.y < n_equal) selected[before.x + before.y] = c;
      ++before.y;
    }
  });
}

cudaError_t select(const IndexSelect& args, int64_t first_row, int64_t n_rows, cudaStream_t stream) {
  const Grid grid{dim3(static_cast<unsigned>(n_rows)), dim3(kSelectThreads)};
  if (args.max_visible <= 8 * kSelectThreads) return launch(select_kernel<8>, grid, stream, args, first_row);
  if (args.max_visible <= 32 * kSelectThreads) return launch(select_kernel<32>, grid, stream, args, first_row);
  return launch(select_kernel<0>, grid, stream, args, first_row);
}

}  // namespace

bool accepts(const IndexSelect& args) {
  const KvFormat& format = args.indexer.format;
  return format.encoding == kRowFp4 && format.width == kWidth && format.row_bytes % 4 == 0 &&
         format.row_bytes >= kKeyBytes && args.n_heads <= kHeads && args.max_visible % 4 == 0 &&
         args.indexer.page_offset % 4 == 0 && args.memory.page_bytes % 4 == 0 &&
         reinterpret_cast<uintptr_t>(args.query) % 16 == 0;
}

int64_t prepared_query_values(int64_t n_rows) { return n_rows <= kFewRows ? 0 : n_rows * kQueryValues; }

cudaError_t index_select_rounded(const IndexSelect& args, uint16_t* prepared, cudaStream_t stream) {
  if (args.max_visible <= args.top_k) return select(args, 0, args.n_rows, stream);
  if (args.n_rows <= kFewRows) {
    // Short blocks while all of them run at once.
    const bool is_long = args.max_visible * args.n_rows > kShortKeys;
    const cudaError_t error = is_long ? few_scores<4>(args, stream) : few_scores<1>(args, stream);
    if (error != cudaSuccess) return error;
    return overlaps_launches() ? select_by_cluster(args, stream) : select(args, 0, args.n_rows, stream);
  }
  const Grid prepare{dim3(static_cast<unsigned>(args.n_rows)), dim3(kThreads)};
  if (const cudaError_t error = launch(prepare_kernel, prepare, stream, args.query, args.n_heads, prepared);
      error != cudaSuccess)
    return error;
  const int64_t at_once = index_rows_at_once(args.n_rows, args.max_visible);
  for (int64_t first = 0; first < args.n_rows; first += at_once) {
    const int64_t n = args.n_rows - first < at_once ? args.n_rows - first : at_once;
    const Grid grid{dim3(blocks_for(args.max_visible, kWarps * 32), blocks_for(n, kPreparedQueries)), dim3(kThreads)};
    if (const cudaError_t error =
            launch(many_scores_kernel, grid, stream, args, static_cast<const uint16_t*>(prepared), first, n);
        error != cudaSuccess)
      return error;
    if (const cudaError_t error = select(args, first, n, stream); error != cudaSuccess) return error;
  }
  return cudaSuccess;
}

int64_t index_rows_at_once(int64_t n_rows, int64_t max_visible) {
  constexpr int64_t kScratchScores = 64 << 20;
  const int64_t fitting = kScratchScores / (max_visible > 0 ? max_visible : 1) / kPreparedQueries * kPreparedQueries;
  const int64_t least = fitting > kPreparedQueries ? fitting : kPreparedQueries;
  return n_rows < least ? n_rows : least;
}

}  // namespace ds4::cuda
