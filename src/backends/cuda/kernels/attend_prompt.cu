// Attention of a stretch of one sequence. Its rows are unpacked once, to F16, so that tiles of 64 of them come by
// asynchronous copies while the tile before is multiplied; a block computes one query for 64 heads, because a query's
// 64 heads are what shares its selected rows. Queries and weights are rounded to F16: a logit is off by at most 2^-11
// of the products' sum, a weight by 2^-11 of itself. A tile is 8.4 MFLOP and 64 KB from L2: at 200 TFLOP/s a
// multiprocessor asks for 11 bytes a clock.

#include "backends/cuda/kernels/attention_rows.cuh"
#include "backends/cuda/kernels/fused_steps.h"
#include "backends/cuda/kernels/launch.cuh"

namespace ds4::cuda {
namespace {

constexpr int kHeads = 64;
constexpr int kTile = 64;  // rows
constexpr int kWarps = 8;
constexpr int kThreads = kWarps * kWarp;
constexpr int kStride = kRowWidth + 8;
constexpr int kWeightStride = kTile + 8;
constexpr int kColumns = kRowWidth / 2;  // of a warp
constexpr float kNoLogit = -3.0e38f;

struct Shared {
  __half rows[2][kTile * kStride];
  __half query[kHeads * kStride];
  __half weights[kHeads * kWeightStride];
  float tops[2][kHeads];
  float totals[2][kHeads];
};

struct Prompt {
  Attend attend;
  RowPlace span;
  int64_t first_row;
  int64_t n_rows;
  int n_before;  // unpacked raw rows before the span's first position
  int n_raw;     // unpacked raw rows
  int n_compressed;
  uint16_t* rows;  // raw rows, then compressed rows
};

// A warp per row.
__global__ void unpack_kernel(Prompt args) {
  wait_for_inputs();
  let_next_start();
  const Attention& attention = args.attend.attention;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int64_t i = int64_t{blockIdx.x} * kWarps + warp;
  if (i >= args.n_raw + args.n_compressed) return;
  const uint8_t* stored = nullptr;
  if (i < args.n_raw) {
    stored = window_row(attention.window, args.span, attention.memory,
                        args.span.first_position - args.n_before + static_cast<int>(i));
  } else {
    stored = compressed_row(attention.memory, attention.compressor, args.span.slot, static_cast<int>(i) - args.n_raw);
  }
  auto* out = reinterpret_cast<uint4*>(args.rows + i * kRowWidth);
  const PackedPiece first = load_piece(stored, lane);
  const PackedPiece second = load_piece(stored, lane + kWarp);
  out[lane] = unpack_piece(first, lane);
  out[lane + kWarp] = unpack_piece(second, lane + kWarp);
}

// What one query sees, in tiles.
struct Sight {
  const uint16_t* raw;
  const uint16_t* compressed;
  const int32_t* selected;
  int n_raw, n_compressed;
  int raw_tiles, tiles;
};

__device__ Sight look(const Prompt& args, int64_t row, const RowPlace& place) {
  const Attention& a = args.attend.attention;
  Sight sight;
  const int first_raw = max(0, place.position - a.window.size + 1);
  sight.n_raw = place.position + 1 - first_raw;
  sight.raw = args.rows + int64_t{first_raw - (args.span.first_position - args.n_before)} * kRowWidth;
  sight.compressed = args.rows + int64_t{args.n_raw} * kRowWidth;
  sight.selected = a.selected == nullptr ? nullptr : a.selected + row * a.top_k;
  sight.n_compressed = a.selected == nullptr ? visible_rows(place.position, a.ratio) : a.n_selected[row];
  sight.raw_tiles = (sight.n_raw + kTile - 1) / kTile;
  sight.tiles = sight.raw_tiles + (sight.n_compressed + kTile - 1) / kTile;
  return sight;
}

__device__ int rows_of_tile(const Sight& sight, int tile) {
  if (tile < sight.raw_tiles) return min(kTile, sight.n_raw - tile * kTile);
  return min(kTile, sight.n_compressed - (tile - sight.raw_tiles) * kTile);
}

// A warp copies 8 rows; rows behind the tile become zero.
__device__ void copy_tile(const Sight& sight, int tile, __half* rows) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int n = rows_of_tile(sight, tile);
  const bool is_raw = tile < sight.raw_tiles;
  const int first = is_raw ? tile * kTile : (tile - sight.raw_tiles) * kTile;
  int index = first + 8 * warp + lane % 8;
  if (!is_raw && sight.selected != nullptr) index = 8 * warp + lane % 8 < n ? sight.selected[index] : 0;
  const uint16_t* source = is_raw ? sight.raw : sight.compressed;
#pragma unroll
  for (int i = 0; i < 8; ++i) {
    const int r = 8 * warp + i;
    const int chosen = __shfl_sync(0xFFFFFFFFu, index, i);
    const bool is_there = r < n;
    const uint16_t* from = source + int64_t{is_there ? chosen : 0} * kRowWidth + 8 * lane;
    const uint32_t to = shared_address(rows + r * kStride + 8 * lane);
    copy_16_async(to, from, is_there);
    copy_16_async(to + 2 * 8 * kWarp, from + 8 * kWarp, is_there);
  }
  end_copy_group();
}

__device__ void load_query(const Attention& args, int64_t row, int first_head, Shared& s) {
  const int n_heads = min(kHeads, args.n_heads - first_head);
  const float* query = args.query + (row * args.n_heads + first_head) * kRowWidth;
#pragma unroll 8
  for (int i = 0; i < kHeads * kRowWidth / 4 / kThreads; ++i) {
    const int at = 4 * (static_cast<int>(threadIdx.x) + i * kThreads);
    const int head = at / kRowWidth;
    const float4 value = head < n_heads ? *reinterpret_cast<const float4*>(query + at) : make_float4(0, 0, 0, 0);
    *reinterpret_cast<uint2*>(&s.query[head * kStride + at % kRowWidth]) =
        make_uint2(half2_bits(__floats2half2_rn(value.x, value.y)), half2_bits(__floats2half2_rn(value.z, value.w)));
  }
}

// The two warps that share 16 heads.
__device__ void meet_partner(int group) { asm volatile("bar.sync %0, 64;" ::"r"(group + 1) : "memory"); }

// 16 heads with 32 rows.
__device__ void find_logits(uint32_t query, uint32_t rows, float (&logits)[4][4]) {
#pragma unroll 4
  for (int k = 0; k < kRowWidth; k += 16) {
    uint32_t a[4], b[4], c[4];
    load_matrices(a, query + 2 * k);
    load_matrices(b, rows + 2 * k);
    load_matrices(c, rows + 2 * (k + 16 * kStride));
    multiply_f16(logits[0], a, b[0], b[1]);
    multiply_f16(logits[1], a, b[2], b[3]);
    multiply_f16(logits[2], a, c[0], c[1]);
    multiply_f16(logits[3], a, c[2], c[3]);
  }
}

// 16 heads, 256 columns, n rows.
__device__ void weigh_rows(uint32_t weights, uint32_t rows, int n, float (&sums)[kColumns / 8][4]) {
#pragma unroll
  for (int k = 0; k < kTile; k += 16) {
    if (k >= n) break;
    uint32_t a[4];
    load_matrices(a, weights + 2 * k);
#pragma unroll
    for (int pair = 0; pair < kColumns / 16; ++pair) {
      uint32_t b[4];
      load_matrices_transposed(b, rows + 2 * (k * kStride + 16 * pair));
      multiply_f16(sums[2 * pair], a, b[0], b[1]);
      multiply_f16(sums[2 * pair + 1], a, b[2], b[3]);
    }
  }
}

__device__ float quad_max(float value) {
  value = fmaxf(value, __shfl_xor_sync(0xFFFFFFFFu, value, 1));
  return fmaxf(value, __shfl_xor_sync(0xFFFFFFFFu, value, 2));
}

// Of heads lane / 4 and lane / 4 + 8 of the warp's 16.
struct Softmax {
  float top[2];
  float total[2];  // of this lane's rows
};

// Logits of this warp's 32 rows to F16 weights; returns by what earlier sums shrink.
__device__ float2 find_weights(Shared& s, int n, float (&logits)[4][4], Softmax& softmax) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int group = warp % 4;
  const int side = warp / 4;
  const int row = 32 * side + 2 * (lane % 4);
  const float scale = 1.0f / sqrtf(static_cast<float>(kRowWidth));
  float top[2] = {kNoLogit, kNoLogit};
  for (int tile = 0; tile < 4; ++tile) {
    for (int i = 0; i < 4; ++i) {
      logits[tile][i] = row + 8 * tile + i % 2 < n ? logits[tile][i] * scale : kNoLogit;
      top[i / 2] = fmaxf(top[i / 2], logits[tile][i]);
    }
  }
  for (int half = 0; half < 2; ++half) {
    top[half] = quad_max(top[half]);
    if (lane % 4 == 0) s.tops[side][16 * group + lane / 4 + 8 * half] = top[half];
  }
  meet_partner(group);
  float keep[2];
  for (int half = 0; half < 2; ++half) {
    const int head = 16 * group + lane / 4 + 8 * half;
    const float new_top = fmaxf(softmax.top[half], fmaxf(top[half], s.tops[1 - side][head]));
    keep[half] = __expf(softmax.top[half] - new_top);
    softmax.top[half] = new_top;
    softmax.total[half] *= keep[half];
    for (int tile = 0; tile < 4; ++tile) {
      const __half2 weights =
          __floats2half2_rn(__expf(logits[tile][2 * half] - new_top), __expf(logits[tile][2 * half + 1] - new_top));
      *reinterpret_cast<__half2*>(&s.weights[head * kWeightStride + row + 8 * tile]) = weights;
      const float2 rounded = __half22float2(weights);
      softmax.total[half] += rounded.x + rounded.y;
    }
  }
  meet_partner(group);
  return make_float2(keep[0], keep[1]);
}

__device__ void end_row(const Prompt& args, Shared& s, const RowPlace& place, int64_t row, const Softmax& softmax,
                        float (&sums)[kColumns / 8][4]) {
  const Attention& attention = args.attend.attention;
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int group = warp % 4;
  const int side = warp / 4;
  for (int half = 0; half < 2; ++half) {
    float total = softmax.total[half];
    total += __shfl_xor_sync(0xFFFFFFFFu, total, 1);
    total += __shfl_xor_sync(0xFFFFFFFFu, total, 2);
    if (lane % 4 == 0) s.totals[side][16 * group + lane / 4 + 8 * half] = total;
  }
  meet_partner(group);
  const int first_head = static_cast<int>(blockIdx.y) * kHeads + 16 * group + lane / 4;
  float inverse[2];
  for (int half = 0; half < 2; ++half) {
    const int own = 16 * group + lane / 4 + 8 * half;
    const int head = min(first_head + 8 * half, attention.n_heads - 1);
    inverse[half] = 1.0f / (s.totals[0][own] + s.totals[1][own] + expf(attention.sinks[head] - softmax.top[half]));
  }
  const int first_rotary = kRowWidth - 2 * args.attend.n_frequencies;
#pragma unroll
  for (int tile = 0; tile < kColumns / 8; ++tile) {
    const int column = kColumns * side + 8 * tile + 2 * (lane % 4);
    float sine = 0.0f, cosine = 1.0f;
    if (column >= first_rotary)
      sincosf(static_cast<float>(place.position) * args.attend.frequencies[(column - first_rotary) / 2], &sine,
              &cosine);
    for (int half = 0; half < 2; ++half) {
      if (first_head + 8 * half >= attention.n_heads) continue;
      const float a = sums[tile][2 * half] * inverse[half];
      const float b = sums[tile][2 * half + 1] * inverse[half];
      float* out = attention.out + (row * attention.n_heads + first_head + 8 * half) * kRowWidth + column;
      *reinterpret_cast<float2*>(out) = make_float2(a * cosine + b * sine, b * cosine - a * sine);
    }
  }
}

__global__ void __launch_bounds__(kThreads, 1) prompt_kernel(Prompt args) {
  extern __shared__ __align__(16) uint8_t memory[];
  Shared& s = *reinterpret_cast<Shared*>(memory);
  wait_for_inputs();
  let_next_start();
  const int64_t row = args.first_row + blockIdx.x;
  const RowPlace place = args.attend.attention.places[row];
  const Sight sight = look(args, row, place);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int group = warp % 4;
  const int side = warp / 4;
  copy_tile(sight, 0, s.rows[0]);
  load_query(args.attend.attention, row, static_cast<int>(blockIdx.y) * kHeads, s);

  const uint32_t query = shared_address(&s.query[(16 * group + lane % 16) * kStride + lane / 16 * 8]);
  const uint32_t weights = shared_address(&s.weights[(16 * group + lane % 16) * kWeightStride + lane / 16 * 8]);
  // Of the four matrices of keys: rows 0 and 8, values 0 and 8.
  const int key_at = (32 * side + lane / 16 * 8 + lane % 8) * kStride + lane / 8 % 2 * 8;
  const int value_at = lane % 16 * kStride + kColumns * side + lane / 16 * 8;
  Softmax softmax{{kNoLogit, kNoLogit}, {0.0f, 0.0f}};
  float sums[kColumns / 8][4] = {};
  for (int tile = 0; tile < sight.tiles; ++tile) {
    wait_copy_groups<0>();
    __syncthreads();  // the tile is there, and the one before is used up
    if (tile + 1 < sight.tiles) copy_tile(sight, tile + 1, s.rows[(tile + 1) % 2]);
    const __half* rows = s.rows[tile % 2];
    float logits[4][4] = {};
    const int n = rows_of_tile(sight, tile);
    if (n > 32 * side) find_logits(query, shared_address(rows + key_at), logits);
    const float2 keep = find_weights(s, n, logits, softmax);
    if (__any_sync(0xFFFFFFFFu, keep.x != 1.0f || keep.y != 1.0f)) {
#pragma unroll
      for (int i = 0; i < kColumns / 8; ++i) {
        sums[i][0] *= keep.x;
        sums[i][1] *= keep.x;
        sums[i][2] *= keep.y;
        sums[i][3] *= keep.y;
      }
    }
    weigh_rows(weights, shared_address(rows + value_at), n, sums);
  }
  end_row(args, s, place, row, softmax, sums);
}

int rows_before(const AttendPrompt& args) {
  return min(args.attend.attention.window.size - 1, args.span.first_position);
}

}  // namespace

bool accepts_prompt(const Attend& args) {
  static const bool fits = [] {
    int device = 0;
    int most = 0;
    return cudaGetDevice(&device) == cudaSuccess &&
           cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device) == cudaSuccess &&
           static_cast<size_t>(most) >= sizeof(Shared);
  }();
  return fits && accepts(args);
}

int64_t prompt_rows(const AttendPrompt& args) {
  return rows_before(args) + (args.span.end_position - args.span.first_position) + args.n_compressed;
}

cudaError_t attend_prompt(const AttendPrompt& args, cudaStream_t stream) {
  Prompt prompt;
  prompt.attend = args.attend;
  prompt.span = args.span;
  prompt.first_row = args.first_row;
  prompt.n_rows = args.n_rows;
  prompt.n_before = rows_before(args);
  prompt.n_raw = prompt.n_before + args.span.end_position - args.span.first_position;
  prompt.n_compressed = static_cast<int>(args.n_compressed);
  prompt.rows = args.rows;
  const Grid unpack{dim3(blocks_for(prompt.n_raw + prompt.n_compressed, kWarps)), dim3(kThreads)};
  if (const cudaError_t error = launch(unpack_kernel, unpack, stream, prompt); error != cudaSuccess) return error;
  const Grid grid{dim3(static_cast<unsigned>(args.n_rows), blocks_for(args.attend.attention.n_heads, kHeads)),
                  dim3(kThreads), sizeof(Shared)};
  return launch(prompt_kernel, grid, stream, prompt);
}

}  // namespace ds4::cuda
