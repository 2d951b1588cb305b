#pragma once

// Weight tiles of the integer GEMMs: how the planes of each type (weight_layout.h) come to shared memory and become
// rows of 128 signed bytes with a factor for every 32 of them. What is unpacked: IQ2_XXS grid and sign, Q4_K nibbles,
// MXFP4 twice the E2M1 value, Q2_K code * scale (at most 45). What is a factor: everything else that scales.

#include <cuda_fp16.h>

#include <cstdint>

#include "backends/cuda/kernels/gemm.h"
#include "backends/cuda/kernels/iq_tables.cuh"
#include "backends/cuda/kernels/mma.cuh"
#include "backends/cuda/kernels/number_formats.cuh"

namespace ds4::cuda {

inline constexpr int kBlockK = 128;  // of the inner dimension, in one stage
inline constexpr int kUnits = kBlockK / 32;
// An integer sum that starts at these bits is, read as a float, kMagic more than it counts.
inline constexpr int kMagicBits = 0x4B400000;
inline constexpr float kMagic = 12582912.0f;

template <WeightType kType>
struct WeightForm {
  static constexpr bool kIsDirect = kType == WeightType::kQ8_0;  // its codes need no unpacking
  static constexpr bool kHasMins = kType == WeightType::kQ2_K || kType == WeightType::kQ4_K;
  static constexpr bool kIs32 = kType == WeightType::kQ8_0 || kType == WeightType::kMXFP4;  // block of activations
  static constexpr bool kOneFactor = kType == WeightType::kQ2_K;                            // of the whole stage
  static constexpr int kUnitBytes = kIsDirect ? 32 : kType == WeightType::kQ4_K || kType == WeightType::kMXFP4 ? 16 : 8;
  // Bytes of planes 1 and 2 that one row of a stage needs.
  static constexpr int kScaleBytes = kType == WeightType::kMXFP4 || kType == WeightType::kIQ2_XXS ? 4 : 8;
  static constexpr int kSuperBytes = kIs32 ? 0 : 4;
};

// Where one thread takes its share of the weights of a tile from. Rows of a tile are consecutive rows of one matrix, or
// 16 of one and 16 of another in turn; either way the rows of one thread's copies belong to one matrix and are a fixed
// stride apart.
struct WeightSource {
  const uint8_t* codes;  // of block 0
  const uint8_t* meta;   // of planes 1 (first half of the threads) or 2
  int64_t code_stride;   // between the thread's rows
  int row_parity;        // of its super-blocks, IQ2_XXS
};

// Precondition: the tile lies within the matrix; kRows * 2 threads. n_units: of a row.
template <WeightType kType, int kRows, bool kPaired>
__device__ inline WeightSource weight_source(const Planes& one, const Planes& other, int64_t first, int n_units,
                                             int thread) {
  using Form = WeightForm<kType>;
  constexpr int kChunks = Form::kUnitBytes * kUnits / 16;  // of a row and stage
  const auto index_of_row = [&](int row) { return first + (kPaired ? ((row >> 5) << 4) + (row & 15) : row); };
  const auto is_other = [&](int row) { return kPaired && (row & 16) != 0; };
  const int64_t row_bytes = int64_t{n_units} * Form::kUnitBytes;
  WeightSource source;
  const int row = thread / kChunks;
  const int chunk = thread % kChunks;
  source.codes = (is_other(row) ? other : one).plane[0] + index_of_row(row) * row_bytes +
                 (Form::kIsDirect ? chunk / 2 : chunk) * 16;
  source.code_stride = row_bytes * (2 * kRows / kChunks) / (kPaired ? 2 : 1);
  const int meta_row = thread % kRows;
  const Planes& planes = is_other(meta_row) ? other : one;
  const int64_t super = index_of_row(meta_row) * (n_units / 8);
  if (thread < kRows || Form::kSuperBytes == 0) {
    source.meta =
        planes.plane[1] +
        (kType == WeightType::kIQ2_XXS ? super * 4 : index_of_row(meta_row) * (n_units / kUnits) * Form::kScaleBytes);
  } else {
    source.meta = planes.plane[2] + (kType == WeightType::kIQ2_XXS ? super * 2 : super * 4);
  }
  source.row_parity = static_cast<int>(index_of_row(thread / 2) * (n_units / 8) & 1);
  return source;
}

// Where stage and unpacked tiles of kRows weight rows lie in shared memory, from the start of each.
template <WeightType kType, int kRows>
struct WeightSpace {
  using Form = WeightForm<kType>;
  static constexpr int kScales = kRows * kUnits * Form::kUnitBytes;
  static constexpr int kSupers = kScales + kRows * Form::kScaleBytes;
  static constexpr int kStageBytes = kSupers + kRows * Form::kSuperBytes;
  // Unpacked: codes, then factors [kUnits][kRows], each with -kMagic times itself (Q2_K: only the first of four), then
  // mins and what multiplies them.
  static constexpr int kFactors = Form::kIsDirect ? 0 : kRows * kBlockK;
  static constexpr int kMins = kFactors + kRows * kUnits * 8;
  static constexpr int kMinFactors = kMins + (Form::kHasMins ? kRows * 16 : 0);
  static constexpr int kUnpackedBytes = kMinFactors + (Form::kHasMins ? kRows * 4 : 0);
  static constexpr int kGridBytes = kType == WeightType::kIQ2_XXS ? 256 * 4 : 0;
};

// The bytes of a and b that the four low nibbles of `selectors` name; their bit 3 is 0.
__device__ inline uint32_t pick_bytes(uint32_t a, uint32_t b, uint32_t selectors) {
  uint32_t bytes;
  asm("prmt.b32 %0, %1, %2, %3;" : "=r"(bytes) : "r"(a), "r"(b), "r"(selectors));
  return bytes;
}

// One nibble an element: which of the three magnitudes.
__device__ inline uint32_t iq2xxs_selectors(uint32_t index) {
  const uint32_t code = kIq2xxsCodes[index];
  uint32_t selectors = 0;
  for (uint32_t j = 0; j < 8; ++j) selectors |= ((code >> (2 * j)) & 3u) << (4 * j);
  return selectors;
}

__device__ inline uint32_t e2m1_bytes(uint32_t nibbles) {
  // Bytes with a nibble each: 0 1 2 3 4 6 8 12 by two table look-ups of four selectors.
  const uint32_t selectors =
      (nibbles & 7u) | ((nibbles >> 4) & 0x70u) | ((nibbles >> 8) & 0x700u) | ((nibbles >> 12) & 0x7000u);
  const uint32_t magnitudes = __byte_perm(0x03020100u, 0x0C080604u, selectors);
  const uint32_t ones = (nibbles >> 3) & 0x01010101u;
  // A byte of 0 with a sign would carry into its neighbour.
  return __vadd4(magnitudes ^ (ones * 255u), ones);
}

// The 32 codes of unit `unit` of a stage's row, from its packed bytes.
template <WeightType kType>
__device__ inline void unpack_codes(const uint32_t* raw, uint32_t scales, const uint32_t* grid, uint32_t (&codes)[8]) {
  if constexpr (kType == WeightType::kIQ2_XXS) {
#pragma unroll
    for (int g = 0; g < 4; ++g) {
      const uint32_t signs = (g < 3 ? raw[1] << (2 - g) : raw[1] >> 1) & 0x44444444u;
      const uint32_t selectors = grid[(raw[0] >> (8 * g)) & 255u] | signs;
      codes[2 * g] = pick_bytes(0x002B1908u, 0x00D5E7F8u, selectors);
      codes[2 * g + 1] = pick_bytes(0x002B1908u, 0x00D5E7F8u, selectors >> 16);
    }
  } else if constexpr (kType == WeightType::kQ2_K) {
#pragma unroll
    for (int w = 0; w < 2; ++w) {
#pragma unroll
      for (int j = 0; j < 4; ++j) codes[4 * w + j] = ((raw[w] >> (2 * j)) & 0x03030303u) * ((scales >> (8 * w)) & 15u);
    }
  } else {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const uint32_t low = raw[i] & 0x0F0F0F0Fu;
      const uint32_t high = (raw[i] >> 4) & 0x0F0F0F0Fu;
      codes[i] = kType == WeightType::kMXFP4 ? e2m1_bytes(low) : low;
      codes[i + 4] = kType == WeightType::kMXFP4 ? e2m1_bytes(high) : high;
    }
  }
}

// What multiplies the integer product of a unit. scales: its two bytes of plane 1 (IQ2_XXS: the nibble, MXFP4: the
// byte).
template <WeightType kType>
__device__ inline float unit_factor(uint32_t scales, uint32_t super) {
  if constexpr (kType == WeightType::kQ8_0) return f16(static_cast<uint16_t>(scales));
  const float d = f16(static_cast<uint16_t>(super & 0xFFFFu));
  if constexpr (kType == WeightType::kIQ2_XXS) return d * 0.125f * static_cast<float>(2 * (scales & 15u) + 1);
  if constexpr (kType == WeightType::kMXFP4) return e8m0(static_cast<uint8_t>(scales & 255u)) * 0.5f;
  if constexpr (kType == WeightType::kQ4_K) return d * static_cast<float>(scales & 255u);
  return d;
}

__device__ inline uint32_t half_pair(uint32_t low, uint32_t high) {
  const __half2 pair = __halves2half2(__uint2half_rn(low), __uint2half_rn(high));
  return *reinterpret_cast<const uint32_t*>(&pair);
}

template <WeightType kType>
__device__ inline uint32_t unit_scales(const uint8_t* scales, int unit, int block) {
  if constexpr (kType == WeightType::kIQ2_XXS)
    return *reinterpret_cast<const uint32_t*>(scales) >> (4 * ((block % 2) * kUnits + unit));
  if constexpr (kType == WeightType::kMXFP4) return scales[unit];
  return *reinterpret_cast<const uint16_t*>(scales + 2 * unit);
}

// By 2 * kRows threads, two units each: a stage's packed rows to codes, factors and mins. Rows of 128 bytes lie
// swizzled: chunk c of 16 bytes at c ^ (row % 8).
template <WeightType kType, int kRows>
__device__ inline void unpack_stage(const uint8_t* stage, uint8_t* unpacked, const uint32_t* grid, int row_parity,
                                    int block, int thread) {
  using Form = WeightForm<kType>;
  using Space = WeightSpace<kType, kRows>;
  const int row = thread / 2;
  uint32_t super = 0;
  if constexpr (Form::kSuperBytes > 0) super = *reinterpret_cast<const uint32_t*>(stage + Space::kSupers + row * 4);
  if (kType == WeightType::kIQ2_XXS && ((row_parity + block / 2) & 1) != 0) super >>= 16;
  const uint8_t* scales = stage + Space::kScales + row * Form::kScaleBytes;
  uint32_t packed[2 * Form::kUnitBytes / 4];
  if constexpr (!Form::kIsDirect) {
#pragma unroll
    for (int w = 0; w < Form::kUnitBytes / 8; ++w)
      reinterpret_cast<uint4*>(packed)[w] =
          *reinterpret_cast<const uint4*>(stage + thread * 2 * Form::kUnitBytes + w * 16);
  }
#pragma unroll
  for (int j = 0; j < 2; ++j) {
    const int unit = (thread % 2) * 2 + j;
    const uint32_t own = unit_scales<kType>(scales, unit, block);
    if constexpr (!Form::kIsDirect) {
      uint32_t codes[8];
      unpack_codes<kType>(packed + j * Form::kUnitBytes / 4, own, grid, codes);
#pragma unroll
      for (int h = 0; h < 2; ++h) {
        const int chunk = (unit * 2 + h) ^ (row & 7);
        *reinterpret_cast<uint4*>(unpacked + row * kBlockK + chunk * 16) =
            make_uint4(codes[4 * h], codes[4 * h + 1], codes[4 * h + 2], codes[4 * h + 3]);
      }
    }
    const float factor = unit_factor<kType>(own, super);
    if (!Form::kOneFactor || unit == 0)
      reinterpret_cast<float2*>(unpacked + Space::kFactors)[unit * kRows + row] = {factor, -kMagic * factor};
    if constexpr (Form::kHasMins) {
      const uint32_t mins =
          kType == WeightType::kQ2_K ? half_pair((own >> 4) & 15u, own >> 12) : half_pair(own >> 8, own >> 8);
      *reinterpret_cast<uint32_t*>(unpacked + Space::kMins + row * 16 + unit * 4) = mins;
      if (unit == 0)
        reinterpret_cast<float*>(unpacked + Space::kMinFactors)[row] = f16(static_cast<uint16_t>(super >> 16));
    }
  }
}

}  // namespace ds4::cuda
