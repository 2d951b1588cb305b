// The best rows of one query by a cluster of eight blocks, so that a hundred thousand positions take hardly longer than
// ten. As select_kernel in index_select.cu: a histogram over the scores' range names the bin of the k-th best, the few
// scores in there are ranked; what blocks have to know of each other they write into each other's shared memory. Only
// sums and sets of integers cross blocks, so no order shows. Reads the scores once.

#include "backends/cuda/kernels/cluster.cuh"
#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/index_rank.cuh"
#include "backends/cuda/kernels/launch.cuh"

namespace ds4::cuda {
namespace {

constexpr int kCluster = 8;
constexpr int kThreads = 512;
constexpr int kWarps = kThreads / kWarp;
constexpr int kOwnBins = kBins / kCluster;  // that a block adds up

struct Shared {
  int bins[kBins];      // of this block's scores
  int all_bins[kBins];  // of the row's
  uint32_t candidates[kMostCandidates];
  int n_candidates;  // counted by the first block
  float least[kCluster], largest[kCluster];
  int2 counts[2][kCluster];
  int2 warp_counts[kWarps];
  float warp_least[kWarps], warp_largest[kWarps];
  int bin, n_above;
  uint32_t key;
  int n_equal;
};

// Sums over the block's threads before this one; `total` of all.
__device__ int2 sums_before(int2 own, Shared& s, int2* total) {
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  int2 sum = own;
  for (int distance = 1; distance < kWarp; distance *= 2) {
    const int x = __shfl_up_sync(0xFFFFFFFFu, sum.x, distance);
    const int y = __shfl_up_sync(0xFFFFFFFFu, sum.y, distance);
    if (lane >= distance) sum = make_int2(sum.x + x, sum.y + y);
  }
  __syncthreads();
  if (lane == kWarp - 1) s.warp_counts[warp] = sum;
  __syncthreads();
  int2 before = make_int2(sum.x - own.x, sum.y - own.y);
  int2 all = make_int2(0, 0);
  for (int w = 0; w < kWarps; ++w) {
    const int2 other = s.warp_counts[w];
    if (w < warp) before = make_int2(before.x + other.x, before.y + other.y);
    all = make_int2(all.x + other.x, all.y + other.y);
  }
  *total = all;
  return before;
}

// The same over the cluster. `turn` alternates, so that a slow block still reads what a fast one wrote before.
__device__ int2 cluster_sums_before(int2 own, Shared& s, int rank, int turn, int2* total) {
  int2 block_total;
  int2 before = sums_before(own, s, &block_total);
  if (threadIdx.x < kCluster)
    in_block(&s.counts[0][0], static_cast<int>(threadIdx.x))[turn % 2 * kCluster + rank] = block_total;
  meet_cluster();
  int2 all = make_int2(0, 0);
  for (int r = 0; r < kCluster; ++r) {
    const int2 other = s.counts[turn % 2][r];
    if (r < rank) before = make_int2(before.x + other.x, before.y + other.y);
    all = make_int2(all.x + other.x, all.y + other.y);
  }
  *total = all;
  return before;
}

template <int kHeld>
__device__ Extent find_extent(const Scores<kHeld>& scores, Shared& s, int rank) {
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
  if (threadIdx.x < kCluster) {
    for (int w = 0; w < kWarps; ++w) {
      least = fminf(least, s.warp_least[w]);
      largest = fmaxf(largest, s.warp_largest[w]);
    }
    in_block(&s.least[0], static_cast<int>(threadIdx.x))[rank] = least;
    in_block(&s.largest[0], static_cast<int>(threadIdx.x))[rank] = largest;
  }
  meet_cluster();
  for (int r = 0; r < kCluster; ++r) {
    least = fminf(least, s.least[r]);
    largest = fmaxf(largest, s.largest[r]);
  }
  return extent_of(least, largest);
}

// Bins of the whole row, in every block.
__device__ void add_bins(Shared& s, int rank) {
  meet_cluster();
  if (threadIdx.x < kOwnBins) {
    const int bin = rank * kOwnBins + static_cast<int>(threadIdx.x);
    int sum = 0;
#pragma unroll
    for (int r = 0; r < kCluster; ++r) sum += in_block(&s.bins[0], r)[bin];
#pragma unroll
    for (int r = 0; r < kCluster; ++r) in_block(&s.all_bins[0], r)[bin] = sum;
  }
  meet_cluster();
}

__device__ void find_bin(Shared& s, int k) {
  constexpr int kEach = kBins / kThreads;
  const int high = kBins - 1 - kEach * static_cast<int>(threadIdx.x);
  int own = 0;
  for (int i = 0; i < kEach; ++i) own += s.all_bins[high - i];
  int2 total;
  int above = sums_before(make_int2(own, 0), s, &total).x;
  if (above < k && k <= above + own) {
    int bin = high;
    while (above + s.all_bins[bin] < k) above += s.all_bins[bin--];
    s.bin = bin;
    s.n_above = above;
  }
  __syncthreads();
}

template <int kHeld>
__device__ void find_threshold_slowly(const Scores<kHeld>& scores, int k, Shared& s, int rank) {
  uint32_t key = 0;
  int2 total;
  for (int bit = 31; bit >= 0; --bit) {
    const uint32_t trial = key | (1u << bit);
    int2 count = make_int2(0, 0);
    scores.for_each([&](int, float score) { count.x += rank_key(score) >= trial ? 1 : 0; });
    (void)cluster_sums_before(count, s, rank, bit, &total);
    if (total.x >= k) key = trial;
  }
  int2 above = make_int2(0, 0);
  scores.for_each([&](int, float score) { above.x += rank_key(score) > key ? 1 : 0; });
  (void)cluster_sums_before(above, s, rank, 1, &total);
  if (threadIdx.x == 0) {
    s.key = key;
    s.n_equal = k - total.x;
  }
  __syncthreads();
}

// Key of the k-th best and how many of its equals belong to the k, in every block's s.
template <int kHeld>
__device__ void find_threshold(const Scores<kHeld>& scores, int k, Shared& s, int rank) {
  const Extent extent = find_extent(scores, s, rank);
  scores.for_each([&](int, float score) { atomicAdd(&s.bins[extent.bin(score)], 1); });
  add_bins(s, rank);
  find_bin(s, k);
  const int bin = s.bin;
  const int n_candidates = s.all_bins[bin];
  if (n_candidates > kMostCandidates) return find_threshold_slowly(scores, k, s, rank);
  scores.for_each([&](int, float score) {
    if (extent.bin(score) != bin) return;
    const int at = atomicAdd(in_block(&s.n_candidates, 0), 1);
    for (int r = 0; r < kCluster; ++r) in_block(&s.candidates[0], r)[at] = rank_key(score);
  });
  __syncwarp();
  meet_cluster();
  const int rest = k - s.n_above;
  for (int c = static_cast<int>(threadIdx.x); c < n_candidates; c += kThreads) {
    const uint32_t key = s.candidates[c];
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
__global__ void __launch_bounds__(kThreads) cluster_select_kernel(IndexSelect args) {
  __shared__ Shared s;
  const int rank = static_cast<int>(blockIdx.x);
  for (int i = static_cast<int>(threadIdx.x); i < kBins; i += kThreads) s.bins[i] = 0;
  if (threadIdx.x == 0) s.n_candidates = 0;
  __syncwarp();
  arrive_cluster();
  wait_for_inputs();
  let_next_start();
  const int64_t row = blockIdx.y;
  const int n = visible(args, args.places[row]);
  int32_t* selected = args.selected + row * args.top_k;
  if (threadIdx.x == 0 && rank == 0) args.n_selected[row] = min(n, args.top_k);
  __syncwarp();
  wait_cluster();
  if (n <= args.top_k) {
    for (int c = rank * kThreads + static_cast<int>(threadIdx.x); c < n; c += kCluster * kThreads) selected[c] = c;
    return;
  }
  Scores<kHeld> scores;
  scores.row = args.scores + row * args.max_visible;
  scores.share = (n + 4 * kCluster * kThreads - 1) / (4 * kCluster * kThreads) * 4;
  scores.first = scores.share * (rank * kThreads + static_cast<int>(threadIdx.x));
  scores.n = n;
  scores.load();
  find_threshold(scores, args.top_k, s, rank);
  const uint32_t threshold = s.key;
  const int n_equal = s.n_equal;
  int2 own = make_int2(0, 0);
  scores.for_each([&](int, float score) {
    const uint32_t key = rank_key(score);
    own.x += key > threshold ? 1 : 0;
    own.y += key == threshold ? 1 : 0;
  });
  int2 total;
  int2 before = cluster_sums_before(own, s, rank, 0, &total);
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

}  // namespace

cudaError_t select_by_cluster(const IndexSelect& args, cudaStream_t stream) {
  const Grid grid{dim3(kCluster, static_cast<unsigned>(args.n_rows)), dim3(kThreads), 0, kCluster};
  if (args.max_visible <= 4 * kCluster * kThreads) return launch(cluster_select_kernel<4>, grid, stream, args);
  if (args.max_visible <= 8 * kCluster * kThreads) return launch(cluster_select_kernel<8>, grid, stream, args);
  return launch(cluster_select_kernel<0>, grid, stream, args);
}

}  // namespace ds4::cuda
