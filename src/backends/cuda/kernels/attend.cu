// Attention of few rows, each of a sequence of its own. What a query sees is cut into ranges of 64 rows from fixed
// starts (raw rows, then compressed rows), so a range's sums depend on its rows alone; a block takes one range for 16
// heads, a second kernel folds the ranges in ascending order and ends the step. Queries and weights are split into two
// F16 values each and rows are exact in F16, so products lose nothing that F32 keeps.
// Bytes: 37 KB of rows a block from L2, 32 KB of sums out and in again; 16 x 64 x 512 x 2 products twice, in halves.

#include "backends/cuda/kernels/attention_rows.cuh"
#include "backends/cuda/kernels/fused_steps.h"
#include "backends/cuda/kernels/launch.cuh"

namespace ds4::cuda {
namespace {

constexpr int kHeads = 16;  // of a block
constexpr int kWarps = 16;
constexpr int kThreads = kWarps * kWarp;
constexpr int kParts = 4;                     // of a logit's sum, by different warps
constexpr int kColumns = kRowWidth / kWarps;  // that a warp weighs
constexpr int kStride = kRowWidth + 8;  // halves between rows in shared memory: no two rows of a matrix in one bank
constexpr int kWeightStride = kRangeRows + 8;
constexpr int kLogitStride = kRangeRows + 8;
constexpr int kFoldThreads = kRowWidth / 4;
constexpr int kFoldedAtOnce = 10;  // the window and 512 selected rows
constexpr float kNoLogit = -3.0e38f;

struct Shared {
  __half rows[kRangeRows * kStride];
  union {
    __half query[2][kHeads * kStride];  // high parts, low parts
    float logits[kParts][kHeads][kLogitStride];
  };
  __half weights[2][kHeads * kWeightStride];
  const uint8_t* stored[kRangeRows];
};

// Rows [first, first + n) of what the query sees, raw or compressed.
struct Range {
  bool is_raw;
  int first;
  int n;
};

__device__ Range find_range(const Attention& args, const RowPlace& place, int64_t row, int range) {
  const int raw_ranges = (args.window.size + kRangeRows - 1) / kRangeRows;
  if (range < raw_ranges) {
    const int n_raw = min(place.position + 1, args.window.size);
    return {true, range * kRangeRows, min(kRangeRows, n_raw - range * kRangeRows)};
  }
  const int n_compressed = args.selected == nullptr ? visible_rows(place.position, args.ratio) : args.n_selected[row];
  const int first = (range - raw_ranges) * kRangeRows;
  return {false, first, min(kRangeRows, n_compressed - first)};
}

// Where the range's rows lie, by its first 64 threads. `chosen`: the selected row, read before it was known to be one.
__device__ void find_stored(const Attention& args, const RowPlace& place, const Range& range, int chosen, Shared& s) {
  const int i = static_cast<int>(threadIdx.x);
  if (i >= range.n) return;
  if (range.is_raw) {
    const int first_raw = max(0, place.position - args.window.size + 1);
    s.stored[i] = window_row(args.window, place, args.memory, first_raw + range.first + i);
  } else {
    const int c = args.selected == nullptr ? range.first + i : chosen;
    s.stored[i] = compressed_row(args.memory, args.compressor, place.slot, c);
  }
}

// A warp per row; rows behind the range are zero.
__device__ void load_rows(int n, Shared& s) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
#pragma unroll
  for (int i = warp; i < kRangeRows; i += kWarps) {
    PackedPiece first{}, second{};
    if (i < n) {
      first = load_piece(s.stored[i], lane);
      second = load_piece(s.stored[i], lane + kWarp);
    }
    *reinterpret_cast<uint4*>(&s.rows[i * kStride + 8 * lane]) = unpack_piece(first, lane);
    *reinterpret_cast<uint4*>(&s.rows[i * kStride + 8 * (lane + kWarp)]) = unpack_piece(second, lane + kWarp);
  }
}

__device__ void load_query(const Attention& args, int64_t row, int first_head, Shared& s) {
  const int n_heads = min(kHeads, args.n_heads - first_head);
  const float* query = args.query + (row * args.n_heads + first_head) * kRowWidth;
#pragma unroll
  for (int i = 0; i < kHeads * kRowWidth / 4 / kThreads; ++i) {
    const int at = 4 * (static_cast<int>(threadIdx.x) + i * kThreads);
    const int head = at / kRowWidth;
    const float4 value = head < n_heads ? *reinterpret_cast<const float4*>(query + at) : make_float4(0, 0, 0, 0);
    const SplitPair a = split_f16(value.x, value.y);
    const SplitPair b = split_f16(value.z, value.w);
    const int place = head * kStride + at % kRowWidth;
    *reinterpret_cast<uint2*>(&s.query[0][place]) = make_uint2(a.high, b.high);
    *reinterpret_cast<uint2*>(&s.query[1][place]) = make_uint2(a.low, b.low);
  }
}

// A quarter of the products of 16 rows with all heads. The query may be overwritten afterwards.
__device__ void find_logits(Shared& s) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int first_row = 16 * (warp / kParts);
  const int part = warp % kParts;
  const int first = part * (kRowWidth / kParts);
  const uint32_t rows =
      shared_address(&s.rows[(first_row + lane / 16 * 8 + lane % 8) * kStride + first + lane / 8 % 2 * 8]);
  const uint32_t high = shared_address(&s.query[0][lane % 16 * kStride + first + lane / 16 * 8]);
  const uint32_t low = shared_address(&s.query[1][lane % 16 * kStride + first + lane / 16 * 8]);
  float sums[2][2][4] = {};
#pragma unroll
  for (int k = 0; k < kRowWidth / kParts; k += 16) {
    uint32_t a[4], a_low[4], b[4];
    load_matrices(a, high + 2 * k);
    load_matrices(a_low, low + 2 * k);
    load_matrices(b, rows + 2 * k);
    for (int tile = 0; tile < 2; ++tile) {
      multiply_f16(sums[tile][0], a, b[2 * tile], b[2 * tile + 1]);
      multiply_f16(sums[tile][1], a_low, b[2 * tile], b[2 * tile + 1]);
    }
  }
  __syncthreads();
  for (int tile = 0; tile < 2; ++tile) {
    for (int half = 0; half < 2; ++half) {
      const float(&high_sum)[4] = sums[tile][0];
      const float(&low_sum)[4] = sums[tile][1];
      *reinterpret_cast<float2*>(&s.logits[part][lane / 4 + 8 * half][first_row + 8 * tile + 2 * (lane % 4)]) =
          make_float2(high_sum[2 * half] + low_sum[2 * half], high_sum[2 * half + 1] + low_sum[2 * half + 1]);
    }
  }
  __syncthreads();
}

// Weights of this warp's head, and its largest logit and their sum.
__device__ float2 find_weights(Shared& s, int n) {
  const int head = static_cast<int>(threadIdx.x) / kWarp;
  const int row = 2 * (static_cast<int>(threadIdx.x) % kWarp);
  float2 logit = make_float2(0, 0);
  for (int part = 0; part < kParts; ++part) {
    const float2 other = *reinterpret_cast<const float2*>(&s.logits[part][head][row]);
    logit = make_float2(logit.x + other.x, logit.y + other.y);
  }
  const float scale = 1.0f / sqrtf(static_cast<float>(kRowWidth));
  logit = make_float2(row < n ? logit.x * scale : kNoLogit, row + 1 < n ? logit.y * scale : kNoLogit);
  const float top = warp_max(fmaxf(logit.x, logit.y));
  const float a = row < n ? weight_of(logit.x, top) : 0.0f;
  const float b = row + 1 < n ? weight_of(logit.y, top) : 0.0f;
  const SplitPair parts = split_f16(a, b);
  *reinterpret_cast<uint32_t*>(&s.weights[0][head * kWeightStride + row]) = parts.high;
  *reinterpret_cast<uint32_t*>(&s.weights[1][head * kWeightStride + row]) = parts.low;
  const float total = warp_sum(a + b);
  __syncthreads();
  return make_float2(top, total);
}

// Weighted rows, this warp's columns of all heads.
__device__ void weigh_rows(const Shared& s, float (&sums)[kColumns / 8][4]) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const uint32_t rows = shared_address(&s.rows[lane % 16 * kStride + kColumns * warp + lane / 16 * 8]);
  const uint32_t high = shared_address(&s.weights[0][lane % 16 * kWeightStride + lane / 16 * 8]);
  const uint32_t low = shared_address(&s.weights[1][lane % 16 * kWeightStride + lane / 16 * 8]);
#pragma unroll
  for (int k = 0; k < kRangeRows; k += 16) {
    uint32_t a[4], a_low[4];
    load_matrices(a, high + 2 * k);
    load_matrices(a_low, low + 2 * k);
#pragma unroll
    for (int pair = 0; pair < kColumns / 16; ++pair) {
      uint32_t b[4];
      load_matrices_transposed(b, rows + 2 * (k * kStride + 16 * pair));
      multiply_f16(sums[2 * pair], a, b[0], b[1]);
      multiply_f16(sums[2 * pair + 1], a, b[2], b[3]);
      multiply_f16(sums[2 * pair], a_low, b[0], b[1]);
      multiply_f16(sums[2 * pair + 1], a_low, b[2], b[3]);
    }
  }
}

__device__ void store_sums(const Attend& args, int64_t out_row, int first_head, const float2& stats,
                           const float (&sums)[kColumns / 8][4]) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int n_heads = args.attention.n_heads;
  for (int half = 0; half < 2; ++half) {
    const int head = first_head + lane / 4 + 8 * half;
    if (head >= n_heads) continue;
    float* out = args.sums + (out_row + head) * kRowWidth + kColumns * warp + 2 * (lane % 4);
    for (int tile = 0; tile < kColumns / 8; ++tile)
      *reinterpret_cast<float2*>(out + 8 * tile) = make_float2(sums[tile][2 * half], sums[tile][2 * half + 1]);
  }
  if (lane == 0 && first_head + warp < n_heads)
    *reinterpret_cast<float2*>(args.tops + 2 * (out_row + first_head + warp)) = stats;
}

// blockIdx.y takes every gridDim.y-th group of heads with the same rows.
__global__ void __launch_bounds__(kThreads, 2) range_kernel(Attend args) {
  extern __shared__ __align__(16) uint8_t memory[];
  Shared& s = *reinterpret_cast<Shared*>(memory);
  const Attention& attention = args.attention;
  const int64_t row = blockIdx.z;
  const int raw_ranges = (attention.window.size + kRangeRows - 1) / kRangeRows;
  const int listed = (static_cast<int>(blockIdx.x) - raw_ranges) * kRangeRows + static_cast<int>(threadIdx.x);
  const bool is_listed =
      attention.selected != nullptr && threadIdx.x < kRangeRows && listed >= 0 && listed < attention.top_k;
  wait_for_inputs();
  let_next_start();
  const int chosen = is_listed ? attention.selected[row * attention.top_k + listed] : 0;
  const RowPlace place = attention.places[row];
  const Range range = find_range(attention, place, row, static_cast<int>(blockIdx.x));
  if (range.n <= 0) return;
  find_stored(attention, place, range, chosen, s);
  load_query(attention, row, static_cast<int>(blockIdx.y) * kHeads, s);
  __syncthreads();
  load_rows(range.n, s);
  __syncthreads();
  const int64_t out_row = (row * gridDim.x + blockIdx.x) * attention.n_heads;
  for (int first_head = static_cast<int>(blockIdx.y) * kHeads; first_head < attention.n_heads;) {
    find_logits(s);
    const float2 stats = find_weights(s, range.n);
    float sums[kColumns / 8][4] = {};
    weigh_rows(s, sums);
    store_sums(args, out_row, first_head, stats, sums);
    first_head += static_cast<int>(gridDim.y) * kHeads;
    if (first_head >= attention.n_heads) break;
    load_query(attention, row, first_head, s);  // the logits that lay there are used up
    __syncthreads();
  }
}

__device__ void append_row(const Attention& args, const RowPlace& place) {
  if (place.position < place.end_position - args.window.size) return;
  const int64_t row_bytes = args.window.format.row_bytes;
  const auto* from = reinterpret_cast<const uint32_t*>(window_row(args.window, place, args.memory, place.position));
  auto* to = reinterpret_cast<uint32_t*>(frontier_of(args.memory, place.slot) + args.window.ring_offset +
                                         place.position % args.window.size * row_bytes);
  for (int64_t i = threadIdx.x; i < row_bytes / 4; i += blockDim.x) to[i] = from[i];
}

__device__ void rotate_back(float& a, float& b, float sine, float cosine) {
  const float x = a;
  a = x * cosine + b * sine;
  b = b * cosine - x * sine;
}

// Running sums of a softmax, and a part that joins them.
struct Folded {
  float top, total;
  float4 sum;

  __device__ void join(const float2& stats, const float4& part) {
    const float new_top = fmaxf(top, stats.x);
    const float keep = weight_of(top, new_top);
    const float take = weight_of(stats.x, new_top);
    top = new_top;
    total = fmaf(stats.y, take, total * keep);
    sum.x = fmaf(part.x, take, sum.x * keep);
    sum.y = fmaf(part.y, take, sum.y * keep);
    sum.z = fmaf(part.z, take, sum.z * keep);
    sum.w = fmaf(part.w, take, sum.w * keep);
  }
};

// A block per head and row, four columns a thread. Every reader of the rings has ended. Parts are read before it is
// known which of them were written.
__global__ void __launch_bounds__(kFoldThreads) fold_kernel(Attend args, int n_ranges) {
  const Attention& attention = args.attention;
  const int64_t row = blockIdx.y;
  const int head = static_cast<int>(blockIdx.x);
  const int column = 4 * static_cast<int>(threadIdx.x);
  const int raw_ranges = (attention.window.size + kRangeRows - 1) / kRangeRows;
  wait_for_inputs();
  let_next_start();
  const RowPlace place = attention.places[row];
  const int used_raw = (min(place.position + 1, attention.window.size) + kRangeRows - 1) / kRangeRows;
  const int n_compressed =
      attention.selected == nullptr ? visible_rows(place.position, attention.ratio) : attention.n_selected[row];
  const int used_compressed = (n_compressed + kRangeRows - 1) / kRangeRows;
  Folded folded{attention.sinks[head], 1.0f, make_float4(0, 0, 0, 0)};
  for (int first = 0; first < n_ranges; first += kFoldedAtOnce) {
    float2 stats[kFoldedAtOnce];
    float4 parts[kFoldedAtOnce];
#pragma unroll
    for (int i = 0; i < kFoldedAtOnce; ++i) {
      const int64_t at = (row * n_ranges + min(first + i, n_ranges - 1)) * attention.n_heads + head;
      stats[i] = *reinterpret_cast<const float2*>(args.tops + 2 * at);
      parts[i] = *reinterpret_cast<const float4*>(args.sums + at * kRowWidth + column);
    }
#pragma unroll
    for (int i = 0; i < kFoldedAtOnce; ++i) {
      const int r = first + i;
      if (r < n_ranges && (r < raw_ranges ? r < used_raw : r - raw_ranges < used_compressed))
        folded.join(stats[i], parts[i]);
    }
  }
  float4 sum = folded.sum;
  const float total = folded.total;
  sum = make_float4(sum.x / total, sum.y / total, sum.z / total, sum.w / total);
  const int first_rotary = kRowWidth - 2 * args.n_frequencies;
  if (column >= first_rotary) {
    const float* frequencies = args.frequencies + (column - first_rotary) / 2;
    float sine = 0.0f, cosine = 0.0f;
    sincosf(static_cast<float>(place.position) * frequencies[0], &sine, &cosine);
    rotate_back(sum.x, sum.y, sine, cosine);
    sincosf(static_cast<float>(place.position) * frequencies[1], &sine, &cosine);
    rotate_back(sum.z, sum.w, sine, cosine);
  }
  *reinterpret_cast<float4*>(attention.out + (row * attention.n_heads + head) * kRowWidth + column) = sum;
  if (head == 0 && args.appends) append_row(attention, place);
}

bool is_packed(const KvFormat& format) {
  return format.encoding == kRowFp8 && format.width == kRowWidth && format.n_rot == kRowTail &&
         format.row_bytes == kPackedBytes;
}

}  // namespace

bool accepts(const Attend& args) {
  const Attention& a = args.attention;
  const bool is_window_aligned = a.window.ring_offset % 8 == 0 && a.memory.frontier_bytes % 8 == 0 &&
                                 reinterpret_cast<uintptr_t>(a.window.rows) % 8 == 0;
  const bool are_pages_aligned = a.compressor.page_offset % 8 == 0 && a.memory.page_bytes % 8 == 0;
  return is_packed(a.window.format) && is_window_aligned && args.n_frequencies % 2 == 0 &&
         (a.ratio == 0 || (is_packed(a.compressor.format) && are_pages_aligned)) &&
         reinterpret_cast<uintptr_t>(a.query) % 16 == 0 && reinterpret_cast<uintptr_t>(a.out) % 16 == 0;
}

int64_t attend_ranges(const Attend& args) {
  const int64_t raw = (args.attention.window.size + kRangeRows - 1) / kRangeRows;
  return raw + (args.compressed_bound + kRangeRows - 1) / kRangeRows;
}

cudaError_t attend(const Attend& args, cudaStream_t stream) {
  const auto n_ranges = static_cast<unsigned>(attend_ranges(args));
  const auto n_rows = static_cast<unsigned>(args.attention.n_rows);
  // Of few rows every group of heads has a block; of many, rows are unpacked for two or four groups at once.
  const unsigned groups = blocks_for(args.attention.n_heads, kHeads);
  const unsigned shared_by = n_rows <= 2 ? 1 : n_rows <= 8 ? 2 : 4;
  const Grid ranges{dim3(n_ranges, (groups + shared_by - 1) / shared_by, n_rows), dim3(kThreads), sizeof(Shared)};
  if (const cudaError_t error = launch(range_kernel, ranges, stream, args); error != cudaSuccess) return error;
  const Grid fold{dim3(static_cast<unsigned>(args.attention.n_heads), n_rows), dim3(kFoldThreads)};
  return launch(fold_kernel, fold, stream, args, static_cast<int>(n_ranges));
}

}  // namespace ds4::cuda
