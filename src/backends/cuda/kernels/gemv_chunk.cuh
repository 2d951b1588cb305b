#pragma once

// A chunk is what a warp takes of a weight row at once: 16 bytes a lane and piece, copied to the warp's own shared
// memory without passing through registers (cp.async), so that the bytes in flight (two or three chunks of two or four
// rows for each of 16 warps: 50 to 70 KB an SM, what HBM needs) cost no registers. Lanes read back mostly what they
// copied, and a chunk's scales lie beside it. Instructions per 32 weights and lane: Q8_0 about 20, Q2_K 36, IQ2_XXS 50.

#include <cuda_fp16.h>

#include <cstdint>

#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/iq_tables.cuh"
#include "backends/cuda/kernels/number_formats.cuh"
#include "backends/cuda/kernels/weight_layout.h"

namespace ds4::cuda {

// kWeights: of a row; kPieces: 16-byte pieces a lane; kSide: bytes of planes 1 and 2 a row. kBlock: activations that
// share a scale, 0 for floats.
template <WeightType kType>
struct Chunk;
template <>
struct Chunk<WeightType::kQ8_0> {
  static constexpr int kWeights = 1024, kPieces = 2, kSide1 = 64, kSide2 = 0, kBlock = 32;
};
template <>
struct Chunk<WeightType::kMXFP4> {
  static constexpr int kWeights = 1024, kPieces = 1, kSide1 = 32, kSide2 = 0, kBlock = 32;
};
template <>
struct Chunk<WeightType::kQ4_K> {
  static constexpr int kWeights = 1024, kPieces = 1, kSide1 = 64, kSide2 = 16, kBlock = 256;
};
template <>
struct Chunk<WeightType::kQ2_K> {
  static constexpr int kWeights = 2048, kPieces = 1, kSide1 = 128, kSide2 = 32, kBlock = 256;
};
template <>
struct Chunk<WeightType::kIQ2_XXS> {
  static constexpr int kWeights = 2048, kPieces = 1, kSide1 = 32, kSide2 = 16, kBlock = 256;
};
template <>
struct Chunk<WeightType::kF16> {
  static constexpr int kWeights = 512, kPieces = 2, kSide1 = 0, kSide2 = 0, kBlock = 0;
};
template <>
struct Chunk<WeightType::kBF16> : Chunk<WeightType::kF16> {};

template <WeightType kType>
__host__ __device__ constexpr int chunk_bytes(int rows) {
  using C = Chunk<kType>;
  return rows * (C::kPieces * 512 + C::kSide1 + C::kSide2);
}

// Warps that share a row of n_in weights; they add their sums in their order. A function of type and length only.
template <WeightType kType>
__host__ __device__ constexpr int row_split(int n_in) {
  const int chunks = n_in / Chunk<kType>::kWeights;
  if (Chunk<kType>::kWeights == 2048) return chunks % 4 == 0 ? 4 : 1;
  return chunks % 4 == 0 ? 4 : chunks % 2 == 0 ? 2 : 1;
}

__device__ inline void copy_async(uint32_t shared, const void* global) {
  asm volatile("cp.async.cg.shared.global.L2::128B [%0], [%1], 16;" ::"r"(shared), "l"(global) : "memory");
}
__device__ inline void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>
__device__ inline void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}
__device__ inline uint32_t shared_address(const void* p) { return static_cast<uint32_t>(__cvta_generic_to_shared(p)); }

// Rows of a matrix as their copies need them: by value, so that addresses are one wide multiplication each.
struct RowSource {
  const uint8_t* planes[kMaxPlanes];
  uint32_t row_bytes[kMaxPlanes];

  __device__ const uint8_t* at(uint32_t row, int plane) const {
    return planes[plane] + static_cast<uint64_t>(row) * row_bytes[plane];
  }
};
__device__ inline RowSource row_source(const Weight& weight) {
  RowSource source;
#pragma unroll
  for (int p = 0; p < kMaxPlanes; ++p) {
    source.planes[p] = weight.planes[p];
    source.row_bytes[p] = static_cast<uint32_t>(weight.row_bytes[p]);
  }
  return source;
}

// The lane of the calling thread and its warp; blocks are one-dimensional.
__device__ inline int own_lane() { return static_cast<int>(threadIdx.x & 31u); }
__device__ inline int own_warp() { return static_cast<int>(threadIdx.x >> 5); }

// Of one plane beside the codes: rows * kBytes bytes, 16 a lane.
template <int kRows, int kBytes, class RowAt>
__device__ inline void copy_side(uint32_t to, int plane, int chunk, int lane, const RowAt& row_at) {
  constexpr unsigned kParts = kBytes / 16;
#pragma unroll
  for (unsigned j = 0; j < (kRows * kParts + 31) / 32; ++j) {
    const unsigned i = static_cast<unsigned>(lane) + 32 * j;
    if (kRows * kParts % 32 == 0 || i < kRows * kParts)
      copy_async(to + 16 * i, row_at(static_cast<int>(i / kParts), plane) + chunk * kBytes + i % kParts * 16);
  }
}

// Starts the copies of chunk `chunk` of kRows rows. row_at(r, plane): where plane `plane` of the r-th row starts.
template <WeightType kType, int kRows, class RowAt>
__device__ inline void copy_chunk(uint32_t stage, int chunk, int lane, const RowAt& row_at) {
  using C = Chunk<kType>;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const uint8_t* from = row_at(r, 0) + (chunk * (C::kPieces * 512) + lane * 16);
#pragma unroll
    for (int p = 0; p < C::kPieces; ++p) copy_async(stage + lane * 16 + (r * C::kPieces + p) * 512, from + p * 512);
  }
  constexpr int kMain = kRows * C::kPieces * 512;
  if constexpr (C::kSide1 > 0) copy_side<kRows, C::kSide1>(stage + kMain, 1, chunk, lane, row_at);
  if constexpr (C::kSide2 > 0) copy_side<kRows, C::kSide2>(stage + kMain + kRows * C::kSide1, 2, chunk, lane, row_at);
}

// Activation rows in shared memory, arranged so that a lane's share of a chunk lies in 16-byte pieces 512 bytes apart.
struct SharedRows {
  const int8_t* codes = nullptr;  // of row r at r * n_in
  const float* scales = nullptr;  // one a lane and chunk
  const int* sums = nullptr;      // of 16 codes, two in a word; as many words as units
  const float* x = nullptr;
  const uint32_t* grid = nullptr;  // of IQ2_XXS: selector of entry i for lane l at 32 * i + l
};

template <WeightType kType>
inline constexpr int kScaleSpan = Chunk<kType>::kWeights / 32;  // activations of a lane and chunk

__device__ inline float small_float(int biased) { return __int_as_float(biased) - 12582912.0f; }
inline constexpr int kSmallBias = 0x4B400000;  // int + this, seen as a float, is 1.5 * 2^23 + int for |int| < 2^22

__device__ inline int dot16(const int4& w, const int4& a, int sum) {
  sum = __dp4a(w.x, a.x, sum);
  sum = __dp4a(w.y, a.y, sum);
  sum = __dp4a(w.z, a.z, sum);
  return __dp4a(w.w, a.w, sum);
}
__device__ inline uint32_t permute(uint32_t a, uint32_t b, uint32_t selector) {
  uint32_t d;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(d) : "r"(a), "r"(b), "r"(selector));
  return d;
}

// A lane's share of a chunk of one weight row, as it lies in shared memory, and its products with activations.
template <WeightType kType>
struct LaneWeights;

template <>
struct LaneWeights<WeightType::kQ8_0> {
  int4 low, high;
  float d;
  __device__ void load(const uint8_t* main, const uint8_t* side1, const uint8_t*, int lane, const SharedRows&) {
    low = *reinterpret_cast<const int4*>(main + lane * 16);
    high = *reinterpret_cast<const int4*>(main + 512 + lane * 16);
    d = f16(reinterpret_cast<const uint16_t*>(side1)[lane]);
  }
  __device__ float add(const int4* a, float scale, const int*, float sum) const {
    return fmaf(small_float(dot16(high, a[1], dot16(low, a[0], kSmallBias))), d * scale, sum);
  }
};

template <>
struct LaneWeights<WeightType::kQ4_K> {
  int4 low, high;
  float d, dmin;
  int min;
  __device__ void load(const uint8_t* main, const uint8_t* side1, const uint8_t* side2, int lane, const SharedRows&) {
    const int4 w = *reinterpret_cast<const int4*>(main + lane * 16);
    low = {w.x & 0x0F0F0F0F, w.y & 0x0F0F0F0F, w.z & 0x0F0F0F0F, w.w & 0x0F0F0F0F};
    high = {(w.x >> 4) & 0x0F0F0F0F, (w.y >> 4) & 0x0F0F0F0F, (w.z >> 4) & 0x0F0F0F0F, (w.w >> 4) & 0x0F0F0F0F};
    const uint32_t pair = reinterpret_cast<const uint16_t*>(side1)[lane];
    const float2 both = __half22float2(reinterpret_cast<const __half2*>(side2)[lane / 8]);
    d = both.x * static_cast<float>(pair & 255u);
    dmin = both.y;
    min = static_cast<int>(pair >> 8) * 0x0101;
  }
  __device__ float add(const int4* a, float scale, const int* sums, float sum) const {
    const float product = d * small_float(dot16(high, a[1], dot16(low, a[0], kSmallBias)));
    return fmaf(fmaf(-dmin, small_float(__dp2a_lo(sums[0], min, kSmallBias)), product), scale, sum);
  }
};

// Activations lie as the nibbles do: elements j and j + 16 in turn.
template <>
struct LaneWeights<WeightType::kMXFP4> {
  int bytes[8], ones[8];  // a negative weight is ~magnitude, and 1 more
  float d;
  __device__ void load(const uint8_t* main, const uint8_t* side1, const uint8_t*, int lane, const SharedRows&) {
    const int4 w = *reinterpret_cast<const int4*>(main + lane * 16);
    const int words[4] = {w.x, w.y, w.z, w.w};
#pragma unroll
    for (int i = 0; i < 8; ++i) {
      const uint32_t four = static_cast<uint32_t>(words[i / 2]) >> (16 * (i % 2));
      const uint32_t signs =
          ((four & 0x8u) << 4) | ((four & 0x80u) << 8) | ((four & 0x800u) << 12) | ((four & 0x8000u) << 16);
      const uint32_t mask = permute(signs, signs, 0xBA98u);
      bytes[i] = static_cast<int>(permute(0x03020100u, 0x0C080604u, four & 0x7777u) ^ mask);
      ones[i] = static_cast<int>(mask & 0x01010101u);
    }
    d = e8m0(side1[lane]) * 0.5f;
  }
  __device__ float add(const int4* a, float scale, const int*, float sum) const {
    const int* codes = reinterpret_cast<const int*>(a);
    int product = kSmallBias;
#pragma unroll
    for (int i = 0; i < 8; ++i) product = __dp4a(ones[i], codes[i], __dp4a(bytes[i], codes[i], product));
    return fmaf(small_float(product), d * scale, sum);
  }
};

template <>
struct LaneWeights<WeightType::kQ2_K> {
  uint32_t words[4];  // 16 weights each
  uint32_t scales, mins;
  float d, dmin;
  __device__ void load(const uint8_t* main, const uint8_t* side1, const uint8_t* side2, int lane, const SharedRows&) {
    *reinterpret_cast<int4*>(words) = *reinterpret_cast<const int4*>(main + lane * 16);
    const uint32_t pairs = reinterpret_cast<const uint32_t*>(side1)[lane];
    scales = pairs & 0x0F0F0F0Fu;
    mins = (pairs >> 4) & 0x0F0F0F0Fu;
    const float2 both = __half22float2(reinterpret_cast<const __half2*>(side2)[lane / 4]);
    d = both.x;
    dmin = both.y;
  }
  __device__ float add(const int4* a, float scale, const int* sums, float sum) const {
    int product = kSmallBias;
#pragma unroll
    for (int q = 0; q < 4; ++q) {
      const int* codes = reinterpret_cast<const int*>(a + q);
      int sixteen = 0;
#pragma unroll
      for (int j = 0; j < 4; ++j)
        sixteen = __dp4a(static_cast<int>((words[q] >> (2 * j)) & 0x03030303u), codes[j], sixteen);
      product += static_cast<int>((scales >> (8 * q)) & 255u) * sixteen;
    }
    const auto bytes = static_cast<int>(mins);
    const int minimum = __dp2a_hi(sums[1], bytes, __dp2a_lo(sums[0], bytes, kSmallBias));
    return fmaf(fmaf(-dmin, small_float(minimum), d * small_float(product)), scale, sum);
  }
};

template <>
struct LaneWeights<WeightType::kIQ2_XXS> {
  int codes[16];
  int scale0, scale1;
  float d;
  __device__ void load(const uint8_t* main, const uint8_t* side1, const uint8_t* side2, int lane,
                       const SharedRows& rows) {
    const uint4 w = *reinterpret_cast<const uint4*>(main + lane * 16);
    unpack(w.x, w.y, codes, rows.grid + lane);
    unpack(w.z, w.w, codes + 8, rows.grid + lane);
    const uint32_t two = reinterpret_cast<const uint32_t*>(side1)[lane / 4] >> (8 * (lane % 4));
    scale0 = static_cast<int>(2 * (two & 15u) + 1);
    scale1 = static_cast<int>(2 * ((two >> 4) & 15u) + 1);
    d = f16(reinterpret_cast<const uint16_t*>(side2)[lane / 4]) * 0.125f;
  }
  // A table entry has one nibble an element: 0 is 8, 1 is 25, 2 is 43; with its sign at bit 2 it selects a byte.
  __device__ static void unpack(uint32_t indices, uint32_t signs, int* to, const uint32_t* grid) {
    const uint32_t at_bit_2[4] = {signs << 2, signs << 1, signs, signs >> 1};
#pragma unroll
    for (int g = 0; g < 4; ++g) {
      const uint32_t at = (g == 0 ? indices << 7 : indices >> (8 * g - 7)) & 0x7F80u;  // in bytes
      const uint32_t entry = *reinterpret_cast<const uint32_t*>(reinterpret_cast<const char*>(grid) + at);
      const uint32_t selector = entry | (at_bit_2[g] & 0x44444444u);
      to[2 * g] = static_cast<int>(permute(0x002B1908u, 0x00D5E7F8u, selector));
      to[2 * g + 1] = static_cast<int>(permute(0x002B1908u, 0x00D5E7F8u, selector >> 16));
    }
  }
  __device__ float add(const int4* a, float scale, const int*, float sum) const {
    const auto* w = reinterpret_cast<const int4*>(codes);
    const int product =
        scale0 * dot16(w[1], a[1], dot16(w[0], a[0], 0)) + scale1 * dot16(w[3], a[3], dot16(w[2], a[2], 0));
    return fmaf(static_cast<float>(product), d * scale, sum);
  }
};

template <WeightType kType>
struct LaneFloats {
  float w[16];
  __device__ void load(const uint8_t* main, int lane) {
#pragma unroll
    for (int p = 0; p < 2; ++p) {
      const uint4 eight = *reinterpret_cast<const uint4*>(main + p * 512 + lane * 16);
      const uint32_t words[4] = {eight.x, eight.y, eight.z, eight.w};
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        if constexpr (kType == WeightType::kF16) {
          const float2 two = __half22float2(*reinterpret_cast<const __half2*>(&words[i]));
          w[8 * p + 2 * i] = two.x;
          w[8 * p + 2 * i + 1] = two.y;
        } else {
          w[8 * p + 2 * i] = __uint_as_float(words[i] << 16);
          w[8 * p + 2 * i + 1] = __uint_as_float(words[i] & 0xFFFF0000u);
        }
      }
    }
  }
};

// Adds the products of one chunk: sums[r * kCols + c] of weight row r with activation row first_col + c.
template <WeightType kType, int kRows, int kCols>
__device__ inline void add_chunk(const uint8_t* stage, const SharedRows& rows, int first_col, int chunk, int n_in,
                                 float* sums) {
  using C = Chunk<kType>;
  const int lane = own_lane();
  if constexpr (C::kBlock == 0) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      LaneFloats<kType> weights;
      weights.load(stage + r * 1024, lane);
#pragma unroll
      for (int c = 0; c < kCols; ++c) {
        const auto* x = reinterpret_cast<const float4*>(rows.x + (first_col + c) * n_in + chunk * 512) + lane;
#pragma unroll
        for (int q = 0; q < 4; ++q) {
          const float4 four = x[q * 32];
          float& sum = sums[r * kCols + c];
          sum = fmaf(weights.w[4 * q], four.x, sum);
          sum = fmaf(weights.w[4 * q + 1], four.y, sum);
          sum = fmaf(weights.w[4 * q + 2], four.z, sum);
          sum = fmaf(weights.w[4 * q + 3], four.w, sum);
        }
      }
    }
  } else {
    constexpr int kPieces = C::kWeights / 512;
    constexpr int kSums = C::kWeights / 1024;
    constexpr bool kHoldsAll = kCols > 1 || kType == WeightType::kQ8_0;  // else one row's at a time
    const uint8_t* side1 = stage + kRows * C::kPieces * 512;
    const uint8_t* side2 = side1 + kRows * C::kSide1;
    LaneWeights<kType> weights[kHoldsAll ? kRows : 1];
    if constexpr (kHoldsAll) {
#pragma unroll
      for (int r = 0; r < kRows; ++r)
        weights[r].load(stage + r * C::kPieces * 512, side1 + r * C::kSide1, side2 + r * C::kSide2, lane, rows);
    }
#pragma unroll
    for (int c = 0; c < kCols; ++c) {
      const int col = first_col + c;
      const auto* codes = reinterpret_cast<const int4*>(rows.codes + col * n_in + chunk * C::kWeights) + lane;
      int4 a[kPieces];
#pragma unroll
      for (int q = 0; q < kPieces; ++q) a[q] = codes[q * 32];
      const int at = col * (n_in / kScaleSpan<kType>)+chunk * 32 + lane;
      const float scale = rows.scales[at];
      int group_sums[2] = {0, 0};
      if constexpr (kType == WeightType::kQ2_K || kType == WeightType::kQ4_K) {
#pragma unroll
        for (int i = 0; i < kSums; ++i) group_sums[i] = rows.sums[at * kSums + i];
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        LaneWeights<kType>& w = weights[kHoldsAll ? r : 0];
        if constexpr (!kHoldsAll)
          w.load(stage + r * C::kPieces * 512, side1 + r * C::kSide1, side2 + r * C::kSide2, lane, rows);
        sums[r * kCols + c] = w.add(a, scale, group_sums, sums[r * kCols + c]);
      }
    }
  }
}

}  // namespace ds4::cuda
