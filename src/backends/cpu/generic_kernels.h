#pragma once

// The kernels of every instruction set, as templates over a struct S of vector operations (simd_*.h):
//   F, I            kLanes floats, kLanes 32-bit integers
//   kColumns        activation rows that a panel kernel (panel_kernels.h) multiplies at once
//   dot_32, ...     products of 8-bit codes of a panel with broadcast codes of activations
//   reduce16        the fixed tree over 16 partial sums
// Here: quantising activations, and products of float weights.

#include <cstring>

#include "backends/cpu/kernels.h"
#include "base/float_formats.h"
#include "gguf/dequantize.h"

namespace ds4::cpu {

template <class S>
int16_t sum_codes(const int8_t* codes, int n) {
  int sum = 0;
  for (int i = 0; i < n; ++i) sum += codes[i];
  return static_cast<int16_t>(sum);
}

template <class S>
void quantize_q8_0(const float* x, int64_t n, int8_t* codes, float* scales, int16_t* sums) {
  constexpr int kVectors = 32 / S::kLanes;
  for (int64_t block = 0; block < n / 32; ++block) {
    typename S::F values[kVectors];
    typename S::F top = S::zero();
    for (int v = 0; v < kVectors; ++v) {
      values[v] = S::load(x + block * 32 + v * S::kLanes);
      top = S::max(top, S::abs(values[v]));
    }
    const float scale = S::reduce_max(top) / 127.0f;
    const float reciprocal = 1.0f / scale;
    const float inverse = reciprocal <= __FLT_MAX__ ? reciprocal : 0.0f;
    scales[block] = scale;
    for (int v = 0; v < kVectors; ++v)
      S::store_codes(S::mul(values[v], S::set1(inverse)), codes + block * 32 + v * S::kLanes);
    sums[block] = sum_codes<S>(codes + block * 32, 32);
  }
}

template <class S>
void quantize_q8_k(const float* x, int64_t n, int8_t* codes, float* scales, int16_t* sums) {
  for (int64_t block = 0; block < n / 256; ++block) {
    const float* values = x + block * 256;
    int8_t* block_codes = codes + block * 256;
    typename S::F top = S::zero();
    for (int i = 0; i < 256; i += S::kLanes) top = S::max(top, S::abs(S::load(values + i)));
    const float magnitude = S::reduce_max(top);
    int first = 0;  // of that magnitude; its sign counts
    while (first < 255 && __builtin_fabsf(values[first]) != magnitude) ++first;
    const float reciprocal = -127.0f / values[first];
    const bool is_usable = magnitude > 0.0f && __builtin_fabsf(reciprocal) <= __FLT_MAX__;
    const float inverse = is_usable ? reciprocal : 0.0f;
    scales[block] = is_usable ? 1.0f / inverse : 0.0f;
    for (int i = 0; i < 256; i += S::kLanes)
      S::store_codes(S::mul(S::load(values + i), S::set1(inverse)), block_codes + i);
    for (int t = 0; t < 16; ++t) sums[block * 16 + t] = sum_codes<S>(block_codes + 16 * t, 16);
  }
}

// Float products.

struct F32Values {
  static constexpr int kBytes = 4;
  template <class S>
  static typename S::F load(const std::byte* p) {
    return S::load(reinterpret_cast<const float*>(p));
  }
  static float at(const std::byte* p) {
    float value;
    std::memcpy(&value, p, sizeof(value));
    return value;
  }
};
struct F16Values {
  static constexpr int kBytes = 2;
  template <class S>
  static typename S::F load(const std::byte* p) {
    return S::load_f16(p);
  }
  static float at(const std::byte* p) {
    uint16_t bits;
    std::memcpy(&bits, p, sizeof(bits));
    return f16_to_f32(bits);
  }
};
struct BF16Values {
  static constexpr int kBytes = 2;
  template <class S>
  static typename S::F load(const std::byte* p) {
    return S::load_bf16(p);
  }
  static float at(const std::byte* p) {
    uint16_t bits;
    std::memcpy(&bits, p, sizeof(bits));
    return bf16_to_f32(bits);
  }
};

// out(r, c, <row r, column c>) for kR weight rows and kC columns: element i goes into partial sum i mod 16.
template <class S, class Values, int kR, int kC, class Out>
void dot_tile(const std::byte* weights, int64_t row_bytes, const float* const* x, int64_t n, const Out& out) {
  constexpr int kVectors = 16 / S::kLanes;
  typename S::F sums[kR][kC][kVectors];
  for (int r = 0; r < kR; ++r) {
    for (int c = 0; c < kC; ++c) {
      for (int v = 0; v < kVectors; ++v) sums[r][c][v] = S::zero();
    }
  }
  const int64_t n_whole = n / 16 * 16;
  for (int64_t i = 0; i < n_whole; i += 16) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      typename S::F w[kR];
#pragma GCC unroll 4
      for (int r = 0; r < kR; ++r)
        w[r] = Values::template load<S>(weights + r * row_bytes + (i + v * S::kLanes) * Values::kBytes);
#pragma GCC unroll 6
      for (int c = 0; c < kC; ++c) {
        const typename S::F values = S::load(x[c] + i + v * S::kLanes);
#pragma GCC unroll 4
        for (int r = 0; r < kR; ++r) sums[r][c][v] = S::fma(w[r], values, sums[r][c][v]);
      }
    }
  }
  for (int r = 0; r < kR; ++r) {
    for (int c = 0; c < kC; ++c) {
      if (n_whole == n) {
        out(r, c, S::reduce16(sums[r][c]));
        continue;
      }
      float lanes[16];
      for (int v = 0; v < kVectors; ++v) S::store(lanes + v * S::kLanes, sums[r][c][v]);
      for (int64_t i = n_whole; i < n; ++i)
        lanes[i - n_whole] =
            __builtin_fmaf(Values::at(weights + r * row_bytes + i * Values::kBytes), x[c][i], lanes[i - n_whole]);
      typename S::F parts[kVectors];
      for (int v = 0; v < kVectors; ++v) parts[v] = S::load(lanes + v * S::kLanes);
      out(r, c, S::reduce16(parts));
    }
  }
}

template <class S, class Values, int kR, int kC>
void multiply_tile(const WeightMatrix& weight, int64_t row, const Column* columns) {
  const float* x[kC];
  for (int c = 0; c < kC; ++c) x[c] = columns[c].values;
  dot_tile<S, Values, kR, kC>(weight.data + row * weight.row_bytes, weight.row_bytes, x, weight.n_in,
                              [&](int r, int c, float value) { columns[c].out[row + r] = value; });
}

// Sums of a tile, its weights and a column's values fill the registers.
template <class S>
inline constexpr int kDotRows = S::kLanes == 16 ? 4 : 2;
template <class S>
inline constexpr int kDotColumns = S::kLanes == 16 ? 6 : 3;

// Rows [first, last) in groups of kR, then of halves of it.
template <class S, class Values, int kR, int kC>
void multiply_tiles_of(const WeightMatrix& weight, int64_t first, int64_t last, const Column* columns) {
  for (; first + kR <= last; first += kR) multiply_tile<S, Values, kR, kC>(weight, first, columns);
  if constexpr (kR > 1) {
    if (first < last) multiply_tiles_of<S, Values, kR / 2, kC>(weight, first, last, columns);
  }
}

// Some columns stay in the first cache levels while the rows pass by.
template <class S, class Values, int kC>
void multiply_values(const WeightMatrix& weight, int64_t first, int64_t last, std::span<const Column> columns) {
  const auto n = static_cast<int64_t>(columns.size());
  int64_t c = 0;
  for (; c + kC <= n; c += kC) multiply_tiles_of<S, Values, kDotRows<S>, kC>(weight, first, last, columns.data() + c);
  if constexpr (kC > 1) {
    constexpr int kFewer = kC > 3 ? kC / 2 : kC - 1;
    if (c < n) multiply_values<S, Values, kFewer>(weight, first, last, columns.subspan(static_cast<size_t>(c)));
  }
}

template <class S, class Values>
void multiply_values(const WeightMatrix& weight, int64_t first, int64_t last, std::span<const Column> columns) {
  multiply_values<S, Values, kDotColumns<S>>(weight, first, last, columns);
}

// Block types against F32 activations (exact profile): a block row at a time, dequantised.
template <class S>
void multiply_dequantized(const WeightMatrix& weight, int64_t first, int64_t last, std::span<const Column> columns) {
  constexpr int64_t kSegment = 256;
  const DTypeInfo& info = dtype_info(weight.type);
  alignas(64) float values[kSegment];
  for (int64_t row = first; row < last; ++row) {
    const std::byte* data = weight.data + row * weight.row_bytes;
    for (const Column& column : columns) {
      float lanes[16] = {};
      for (int64_t i = 0; i < weight.n_in; i += kSegment) {
        const int64_t n = weight.n_in - i < kSegment ? weight.n_in - i : kSegment;
        dequantize_row(weight.type, data + i / info.block_elements * info.block_bytes, values, n);
        for (int64_t k = 0; k < n; ++k) lanes[k % 16] = __builtin_fmaf(values[k], column.values[i + k], lanes[k % 16]);
      }
      typename S::F parts[16 / S::kLanes];
      for (int v = 0; v < 16 / S::kLanes; ++v) parts[v] = S::load(lanes + v * S::kLanes);
      column.out[row] = S::reduce16(parts);
    }
  }
}

template <class S>
void multiply_real(const WeightMatrix& weight, int64_t first, int64_t last, std::span<const Column> columns) {
  switch (weight.type) {
    case DType::kF32: return multiply_values<S, F32Values>(weight, first, last, columns);
    case DType::kF16: return multiply_values<S, F16Values>(weight, first, last, columns);
    case DType::kBF16: return multiply_values<S, BF16Values>(weight, first, last, columns);
    default: return multiply_dequantized<S>(weight, first, last, columns);
  }
}

template <class S>
float dot(const float* a, const float* b, int64_t n) {
  float result = 0.0f;
  dot_tile<S, F32Values, 1, 1>(reinterpret_cast<const std::byte*>(a), 0, &b, n,
                               [&](int, int, float value) { result = value; });
  return result;
}

}  // namespace ds4::cpu
