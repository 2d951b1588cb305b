#pragma once

// What the blocks of all GEMV kernels do: bring activation rows to shared memory in the form their weights meet (each
// block does it for itself: at one row 4096 values take 512 threads about as long as reading them from L2, and no
// launch is needed), and add up sums over lanes and over the warps that share a row.

#include "backends/cuda/kernels/gemv.h"
#include "backends/cuda/kernels/gemv_chunk.cuh"

namespace ds4::cuda {

// The reciprocal of a scale, or 0 where it overflows.
__device__ inline float usable_reciprocal(float reciprocal) { return isfinite(reciprocal) ? reciprocal : 0.0f; }

// Codes of values of magnitude up to 127: the low byte of a float near 1.5 * 2^23 is the integer, rounded half to even.
__device__ inline uint32_t biased_code(float value) { return __float_as_uint(value + 12582912.0f); }
__device__ inline uint32_t four_codes(const float4& v, float inverse) {
  const uint32_t low = permute(biased_code(v.x * inverse), biased_code(v.y * inverse), 0x0040u);
  const uint32_t high = permute(biased_code(v.z * inverse), biased_code(v.w * inverse), 0x0040u);
  return permute(low, high, 0x5410u);
}
__device__ inline float largest(const float4& v) {
  return fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w)));
}

// The codes of elements k .. k + 3 of a row to where a lane of that chunk reads them.
template <WeightType kType>
__device__ inline void put_codes(int8_t* row, int k, uint32_t four) {
  auto* words = reinterpret_cast<uint32_t*>(row);
  if constexpr (kType == WeightType::kMXFP4) {
    uint8_t* unit = reinterpret_cast<uint8_t*>(row) + k / 1024 * 1024 + k / 32 % 32 * 16;
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int e = k % 32 + i;
      const int at = 2 * (e % 16) + e / 16;
      unit[at / 16 * 512 + at % 16] = static_cast<uint8_t>(four >> (8 * i));
    }
  } else if constexpr (Chunk<kType>::kWeights == 1024) {
    words[k / 1024 * 256 + ((k / 16 % 2) * 32 + k / 32 % 32) * 4 + k / 4 % 4] = four;
  } else {
    words[k / 2048 * 512 + ((k / 16 % 4) * 32 + k / 64 % 32) * 4 + k / 4 % 4] = four;
  }
}

// Where staged rows go; see SharedRows.
struct StagedRows {
  int8_t* codes;
  float* scales;
  int16_t* sums;
  float* x;
};
template <WeightType kType>
__host__ __device__ constexpr int staged_bytes(int n_rows, int n_in) {
  constexpr int kBlock = Chunk<kType>::kBlock;
  if (kBlock == 0) return n_rows * n_in * 4;
  const bool has_sums = kType == WeightType::kQ2_K || kType == WeightType::kQ4_K;
  return n_rows * (n_in + n_in / (Chunk<kType>::kWeights / 32) * 4 + (has_sums ? n_in / 8 : 0));
}
template <WeightType kType>
__device__ inline StagedRows staged_rows(uint8_t* shared, int n_rows, int n_in) {
  StagedRows rows{};
  if constexpr (Chunk<kType>::kBlock == 0) {
    rows.x = reinterpret_cast<float*>(shared);
  } else {
    rows.codes = reinterpret_cast<int8_t*>(shared);
    rows.scales = reinterpret_cast<float*>(shared + n_rows * n_in);
    rows.sums = reinterpret_cast<int16_t*>(rows.scales + n_rows * (n_in / kScaleSpan<kType>));
  }
  return rows;
}
__device__ inline SharedRows read_only(const StagedRows& rows, const uint32_t* grid) {
  return {rows.codes, rows.scales, reinterpret_cast<const int*>(rows.sums), rows.x, grid};
}

// A warp's 256 values of a row, from k = first on.
template <WeightType kType>
__device__ inline void stage_256(const StagedRows& to, const float* x, int row, int first, int n_in, int lane) {
  const auto* from = reinterpret_cast<const float4*>(x + first) + lane;
  const float4 v[2] = {from[0], from[32]};
  const uint32_t top = __reduce_max_sync(0xFFFFFFFFu, __float_as_uint(fmaxf(largest(v[0]), largest(v[1]))));
  uint32_t place = 0xFFFFu;  // of the first of that magnitude: twice its index, and its sign
#pragma unroll
  for (int half = 1; half >= 0; --half) {
    const float values[4] = {v[half].x, v[half].y, v[half].z, v[half].w};
#pragma unroll
    for (int e = 3; e >= 0; --e) {
      const uint32_t bits = __float_as_uint(values[e]);
      if ((bits & 0x7FFFFFFFu) == top) place = (static_cast<uint32_t>(128 * half + 4 * lane + e) << 1) | (bits >> 31);
    }
  }
  place = __reduce_min_sync(0xFFFFFFFFu, place);
  const float inverse = usable_reciprocal(-127.0f / __uint_as_float(top | (place << 31)));
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int k = first + 128 * half + 4 * lane;
    const uint32_t four = inverse == 0.0f ? 0u : four_codes(v[half], inverse);
    put_codes<kType>(to.codes + row * n_in, k, four);
    if constexpr (kType == WeightType::kQ2_K || kType == WeightType::kQ4_K) {
      int sum = __dp4a(static_cast<int>(four), 0x01010101, 0);
      sum += __shfl_xor_sync(0xFFFFFFFFu, sum, 1);
      sum += __shfl_xor_sync(0xFFFFFFFFu, sum, 2);
      if (lane % 4 == 0) to.sums[row * (n_in / 16) + k / 16] = static_cast<int16_t>(sum);
    }
  }
  constexpr int kScales = 256 / kScaleSpan<kType>;
  if (lane < kScales)
    to.scales[row * (n_in / kScaleSpan<kType>)+first / kScaleSpan<kType> + lane] =
        inverse == 0.0f ? 0.0f : 1.0f / inverse;
}

// A lane's 8 values of a row from k on, in units of 32 by four lanes.
template <WeightType kType>
__device__ inline void stage_8(const StagedRows& to, const float4 (&v)[2], int row, int k, int n_in) {
  if constexpr (Chunk<kType>::kBlock == 0) {
    auto* x = reinterpret_cast<float4*>(to.x + row * n_in) + (k / 512 * 128 + k / 256 % 2 * 64 + k / 8 % 32);
    x[0] = v[0];
    x[32] = v[1];
  } else {
    float top = fmaxf(largest(v[0]), largest(v[1]));
    top = fmaxf(top, __shfl_xor_sync(0xFFFFFFFFu, top, 1));
    top = fmaxf(top, __shfl_xor_sync(0xFFFFFFFFu, top, 2));
    const float scale = top / 127.0f;
    const float inverse = usable_reciprocal(1.0f / scale);
    put_codes<kType>(to.codes + row * n_in, k, four_codes(v[0], inverse));
    put_codes<kType>(to.codes + row * n_in, k + 4, four_codes(v[1], inverse));
    if (k % 32 == 0) to.scales[row * (n_in / 32) + k / 32] = scale;
  }
}

// Rows of x, row_at(row) each of n_in floats, by all n_threads (whole warps). n_in: multiple of 256.
template <WeightType kType, class RowAt>
__device__ inline void stage_rows(const StagedRows& to, int n_rows, int n_in, int n_threads, const RowAt& row_at) {
  if constexpr (Chunk<kType>::kBlock == 256) {
    int row = 0;
    int first = own_warp() * 256;
#pragma unroll 1
    while (true) {
#pragma unroll 1
      while (first >= n_in) {
        first -= n_in;
        ++row;
      }
      if (row >= n_rows) break;
      stage_256<kType>(to, row_at(row), row, first, n_in, own_lane());
      first += n_threads * 8;
    }
  } else {
    // Two lots of eight values at once, so that their loads overlap; a warp is in a row as a whole.
    int row = 0;
    int k = static_cast<int>(threadIdx.x) * 8;
#pragma unroll 1
    while (true) {
      float4 v[2][2];
      int rows[2], places[2];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
#pragma unroll 1
        while (k >= n_in && row < n_rows) {
          k -= n_in;
          ++row;
        }
        rows[j] = row;
        places[j] = k;
        if (row < n_rows) {
          const auto* from = reinterpret_cast<const float4*>(row_at(row) + k);
          v[j][0] = from[0];
          v[j][1] = from[1];
        }
        k += n_threads * 8;
      }
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        if (rows[j] < n_rows) stage_8<kType>(to, v[j], rows[j], places[j], n_in);
      }
      if (rows[1] >= n_rows) break;
    }
  }
}

// The IQ2_XXS selectors, one copy a lane so that look-ups of a warp never meet in a bank.
inline constexpr int kGridBytes = 256 * 32 * 4;
__device__ inline void fill_grid(uint32_t* grid, int thread, int n_threads) {
  // Eight entries' look-ups overlap.
#pragma unroll 8
  for (int i = thread; i < 256 * 32; i += n_threads) {
    const uint32_t code = kIq2xxsCodes[i / 32];
    uint32_t nibbles = (code | (code << 8)) & 0x00FF00FFu;  // pairs of bits, apart step by step
    nibbles = (nibbles | (nibbles << 4)) & 0x0F0F0F0Fu;
    grid[i] = (nibbles | (nibbles << 2)) & 0x33333333u;
  }
}

// Sums over the lanes of kN values at once, each as warp_sum would add it. Afterwards values[0 .. kN/32) (one for kN up
// to 32) are totals: of index total_index<kN>(lane, j), the same in several lanes when kN is below 32.
template <int kN>
__device__ inline void warp_totals(float* values, int lane) {
  int n = kN;
#pragma unroll
  for (int offset = 16; offset > 0; offset /= 2) {
    if (n > 1) {
      n /= 2;
      const bool upper = (lane & offset) != 0;
#pragma unroll
      for (int i = 0; i < kN / 2; ++i) {
        if (i >= n) break;
        const float sent = upper ? values[i] : values[i + n];
        const float kept = upper ? values[i + n] : values[i];
        values[i] = kept + __shfl_xor_sync(0xFFFFFFFFu, sent, offset);
      }
    } else {
      values[0] += __shfl_xor_sync(0xFFFFFFFFu, values[0], offset);
    }
  }
}

// A warp's totals to to[0 .. kN).
template <int kN>
__device__ inline void put_totals(float* values, float* to, int lane) {
  warp_totals<kN>(values, lane);
  if constexpr (kN <= 32) {
    constexpr int kCopies = 32 / kN;
    if (lane % kCopies == 0) to[lane / kCopies] = values[0];
  } else {
#pragma unroll
    for (int j = 0; j < kN / 32; ++j) to[lane * (kN / 32) + j] = values[j];
  }
}

// Of the warps of one team; teams of a block have different ids.
__device__ inline void team_barrier(int team, int n_warps) {
  if (n_warps == 1) {
    __syncwarp();
  } else {
    __syncwarp();
    asm volatile("barrier.sync %0, %1;" ::"r"(team + 1), "r"(n_warps * kWarp) : "memory");
  }
}

// Of value i of n, over the parts of a team's warps in their order.
__device__ inline float team_sum(const float* parts, int n, int i, int split) {
  float sum = parts[i];
#pragma unroll 1
  for (int s = 1; s < split; ++s) sum += parts[s * n + i];
  return sum;
}

// Where a block keeps the streams that its outputs will change.
struct Expansion {
  float* streams;  // shared: [kCols][4][n]
  int first, n;    // outputs of this block
};

// Of output o: streams from the shared copy, results to memory.
__device__ inline void expand(const GemvExpand& args, const Expansion& at, int row, int col, int o, int64_t width,
                              float y) {
  const float* old = at.streams + col * 4 * at.n + (o - at.first);
#pragma unroll
  for (int c = 0; c < 4; ++c) {
    float sum = y * args.post[row * 4 + c];
#pragma unroll
    for (int s = 0; s < 4; ++s) sum += args.comb[(row * 4 + s) * 4 + c] * old[s * at.n];
    args.streams[(int64_t{row} * 4 + c) * width + o] = sum;
  }
}

__device__ inline void stage_expansion(const GemvExpand& args, const Expansion& to, int first_row, int n_cols,
                                       int n_rows, int64_t width) {
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < n_cols * 4 * to.n; i += static_cast<int>(blockDim.x)) {
    const int row = min(first_row + i / (4 * to.n), n_rows - 1);
    to.streams[i] = args.streams[(int64_t{row} * 4 + i / to.n % 4) * width + to.first + i % to.n];
  }
}

}  // namespace ds4::cuda
