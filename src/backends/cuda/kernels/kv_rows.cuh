#pragma once

// KV rows on the device: where they lie (ops/kv_access.h), and their stored form (ops/kv_rows.h), bit for bit.

#include <cstdint>

#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/kernels.h"
#include "backends/cuda/kernels/number_formats.cuh"

namespace ds4::cuda {

inline constexpr int32_t kPageRowTokens = 256;
inline constexpr int kFp8GroupSize = 64;
inline constexpr int kFp4GroupSize = 32;
enum Encoding : int32_t { kRowF32 = 0, kRowFp8 = 1, kRowFp4 = 2 };

__device__ inline uint8_t* frontier_of(const KvPages& kv, int32_t slot) {
  return kv.frontiers + int64_t{slot} * kv.frontier_bytes;
}

__device__ inline uint8_t* compressed_row(const KvPages& kv, const Compressor& compressor, int32_t slot, int32_t row) {
  const int32_t rows_per_page = kPageRowTokens / compressor.ratio;
  const int32_t page = kv.page_table[slot * kv.max_pages + row / rows_per_page];
  return kv.pages + int64_t{page} * kv.page_bytes + static_cast<int64_t>(compressor.page_offset) +
         int64_t{row % rows_per_page} * compressor.format.row_bytes;
}

__device__ inline const uint8_t* window_row(const Window& window, const RowPlace& place, const KvPages& kv,
                                            int32_t position) {
  const int64_t row_bytes = window.format.row_bytes;
  if (position >= place.first_position)
    return window.rows + (place.first_row + position - place.first_position) * row_bytes;
  return frontier_of(kv, place.slot) + window.ring_offset + (position % window.size) * row_bytes;
}

__device__ inline float kv_value(const uint8_t* row, const KvFormat& format, int i) {
  if (format.encoding == kRowF32) return reinterpret_cast<const float*>(row)[i];
  if (format.encoding == kRowFp4) {
    const uint32_t pair = row[i / 2];
    return e2m1((i % 2 == 0 ? pair : pair >> 4) & 15u) * e8m0(row[format.width / 2 + i / kFp4GroupSize]);
  }
  const int n_codes = format.width - format.n_rot;
  const int n_groups = (n_codes + kFp8GroupSize - 1) / kFp8GroupSize;
  if (i < n_codes) return e4m3(row[i]) * e8m0(row[n_codes + i / kFp8GroupSize]);
  const uint8_t* tail = row + n_codes + n_groups + 2 * (i - n_codes);
  return f16(static_cast<uint16_t>(tail[0] | (tail[1] << 8)));
}

__device__ inline uint8_t group_scale(float amax, float smallest, float inverse_max) {
  const int code = ceil_log2(fmaxf(amax, smallest) * inverse_max) + 127;
  return static_cast<uint8_t>(code < 1 ? 1 : code > 254 ? 254 : code);
}

__device__ inline float warp_max(float value) {
  for (int offset = kWarp / 2; offset > 0; offset /= 2)
    value = fmaxf(value, __shfl_xor_sync(0xFFFFFFFFu, value, offset));
  return value;
}

// By the whole block, x in shared memory and complete.
__device__ inline void pack_kv_row(const float* x, const KvFormat& format, uint8_t* row) {
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarp;
  const int n_warps = static_cast<int>(blockDim.x) / kWarp;
  int used = format.width * 4;
  if (format.encoding == kRowF32) {
    for (int i = static_cast<int>(threadIdx.x); i < format.width; i += static_cast<int>(blockDim.x))
      reinterpret_cast<float*>(row)[i] = x[i];
  } else if (format.encoding == kRowFp8) {
    const int n_codes = format.width - format.n_rot;
    const int n_groups = (n_codes + kFp8GroupSize - 1) / kFp8GroupSize;
    used = n_codes + n_groups + 2 * format.n_rot;
    for (int group = warp; group < n_groups; group += n_warps) {
      const int end = min((group + 1) * kFp8GroupSize, n_codes);
      float amax = 0.0f;
      for (int i = group * kFp8GroupSize + lane; i < end; i += kWarp) amax = fmaxf(amax, fabsf(x[i]));
      const uint8_t scale = group_scale(warp_max(amax), 1e-4f, 1.0f / 448.0f);
      const float inverse = 1.0f / e8m0(scale);
      for (int i = group * kFp8GroupSize + lane; i < end; i += kWarp) row[i] = to_e4m3(x[i] * inverse);
      if (lane == 0) row[n_codes + group] = scale;
    }
    for (int i = static_cast<int>(threadIdx.x); i < format.n_rot; i += static_cast<int>(blockDim.x)) {
      const uint32_t bits = to_f16(x[n_codes + i]);
      row[n_codes + n_groups + 2 * i] = static_cast<uint8_t>(bits & 255u);
      row[n_codes + n_groups + 2 * i + 1] = static_cast<uint8_t>(bits >> 8);
    }
  } else {
    used = format.width / 2 + format.width / kFp4GroupSize;
    for (int group = warp; group < format.width / kFp4GroupSize; group += n_warps) {
      const int i = group * kFp4GroupSize + lane;
      const uint8_t scale = group_scale(warp_max(fabsf(x[i])), 6.0f * 0x1p-126f, 1.0f / 6.0f);
      const uint32_t code = to_e2m1(x[i] * (1.0f / e8m0(scale)));
      const uint32_t high = __shfl_down_sync(0xFFFFFFFFu, code, 1);
      if (lane % 2 == 0) row[i / 2] = static_cast<uint8_t>(code | (high << 4));
      if (lane == 0) row[format.width / 2 + group] = scale;
    }
  }
  for (int i = used + static_cast<int>(threadIdx.x); i < format.row_bytes; i += static_cast<int>(blockDim.x))
    row[i] = 0;
}

// By the whole block, in shared memory.
__device__ inline void hadamard(float* x, int n, float norm) {
  for (int stride = 1; stride < n; stride *= 2) {
    __syncthreads();
    for (int pair = static_cast<int>(threadIdx.x); pair < n / 2; pair += static_cast<int>(blockDim.x)) {
      const int i = pair / stride * 2 * stride + pair % stride;
      const float a = x[i];
      const float b = x[i + stride];
      x[i] = a + b;
      x[i + stride] = a - b;
    }
  }
  __syncthreads();
  for (int i = static_cast<int>(threadIdx.x); i < n; i += static_cast<int>(blockDim.x)) x[i] *= norm;
  __syncthreads();
}

}  // namespace ds4::cuda
