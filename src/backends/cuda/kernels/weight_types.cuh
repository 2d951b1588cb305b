#pragma once

// How weights of each type meet activations: the dot product of 32 consecutive elements ("unit") of a packed row with
// 8-bit codes, and single elements as floats. Layouts: gguf/blocks.h for rows as in the file, weight_layout.h for
// planes.

#include <cstdint>

#include "backends/cuda/kernels/iq_tables.cuh"
#include "backends/cuda/kernels/kernels.h"
#include "backends/cuda/kernels/number_formats.cuh"

namespace ds4::cuda {

template <WeightType kType>
inline constexpr bool kIsReal = kType == WeightType::kF32 || kType == WeightType::kF16 || kType == WeightType::kBF16;

struct ScaleMinPair {
  int scale, min;
};
__device__ inline ScaleMinPair q4k_scale(const uint8_t* scales, int b) {
  if (b < 4) return {scales[b] & 63, scales[b + 4] & 63};
  return {(scales[b + 4] & 15) | ((scales[b - 4] >> 6) << 4), (scales[b + 4] >> 4) | ((scales[b] >> 6) << 4)};
}

__device__ inline int load_2x16(const uint8_t* p) {
  const auto* halves = reinterpret_cast<const uint16_t*>(p);
  return static_cast<int>(halves[0] | (static_cast<uint32_t>(halves[1]) << 16));
}

// The 32 codes of one unit in eight words, with what they are multiplied by.
struct Unit {
  int codes[8];
  float d;       // of the sum of products
  float dmin;    // of the sums of activations
  int scale[2];  // of the first and second 16 codes
  int min[2];
};

// A row of a matrix.
struct WeightRow {
  const uint8_t* planes[kMaxPlanes];
  bool in_planes;
  int32_t n_units;
};
__device__ inline WeightRow weight_row(const Weight& weight, int64_t row) {
  WeightRow at;
  for (int p = 0; p < kMaxPlanes; ++p) at.planes[p] = weight.planes[p] + row * weight.row_bytes[p];
  at.in_planes = weight.in_planes;
  at.n_units = weight.n_units;
  return at;
}

// Of a packed word of four E2M1 codes in the low nibbles: four times twice their value, as bytes.
__device__ inline int doubled_e2m1_bytes(uint32_t word) {
  uint32_t bytes = 0;
  for (int j = 0; j < 4; ++j) bytes |= (static_cast<uint32_t>(doubled_e2m1((word >> (8 * j)) & 15u)) & 255u) << (8 * j);
  return static_cast<int>(bytes);
}

// From planes.
template <WeightType kType>
__device__ inline Unit load_plane_unit(const WeightRow& row, int64_t unit) {
  Unit u;
  u.dmin = 0.0f;
  u.scale[0] = u.scale[1] = 1;
  u.min[0] = u.min[1] = 0;
  if constexpr (kType == WeightType::kQ8_0) {
    for (int half = 0; half < 2; ++half) {
      *reinterpret_cast<int4*>(u.codes + 4 * half) =
          *reinterpret_cast<const int4*>(row.planes[0] + q8_half_offset(unit, half, row.n_units));
    }
    u.d = f16(reinterpret_cast<const uint16_t*>(row.planes[1])[unit]);
  } else if constexpr (kType == WeightType::kMXFP4 || kType == WeightType::kQ4_K) {
    const auto* words = reinterpret_cast<const uint32_t*>(row.planes[0] + unit * 16);
    for (int i = 0; i < 4; ++i) {
      const uint32_t low = words[i] & 0x0F0F0F0Fu, high = (words[i] >> 4) & 0x0F0F0F0Fu;
      u.codes[i] = kType == WeightType::kQ4_K ? static_cast<int>(low) : doubled_e2m1_bytes(low);
      u.codes[i + 4] = kType == WeightType::kQ4_K ? static_cast<int>(high) : doubled_e2m1_bytes(high);
    }
    if constexpr (kType == WeightType::kMXFP4) {
      u.d = e8m0(row.planes[1][unit]) * 0.5f;
    } else {
      u.scale[0] = u.scale[1] = row.planes[1][2 * unit];
      u.min[0] = u.min[1] = row.planes[1][2 * unit + 1];
    }
  } else if constexpr (kType == WeightType::kQ2_K) {
    const auto* words = reinterpret_cast<const uint32_t*>(row.planes[0] + unit * 8);
    for (int i = 0; i < 8; ++i) u.codes[i] = static_cast<int>((words[i / 4] >> (2 * (i % 4))) & 0x03030303u);
    for (int h = 0; h < 2; ++h) {
      u.scale[h] = row.planes[1][2 * unit + h] & 15;
      u.min[h] = row.planes[1][2 * unit + h] >> 4;
    }
  } else {
    static_assert(kType == WeightType::kIQ2_XXS);
    const auto* words = reinterpret_cast<const uint32_t*>(row.planes[0] + unit * 8);
    for (int g = 0; g < 4; ++g) {
      const uint2 grid = iq2xxs_grid((words[0] >> (8 * g)) & 255u);
      uint32_t bits = 0;
      for (int i = 0; i < 8; ++i) bits |= ((words[1] >> (4 * i + g)) & 1u) << i;
      u.codes[2 * g] = static_cast<int>(negate_bytes(grid.x, bits & 15u));
      u.codes[2 * g + 1] = static_cast<int>(negate_bytes(grid.y, bits >> 4));
    }
    const uint32_t scales = reinterpret_cast<const uint32_t*>(row.planes[1])[unit / 8];
    u.scale[0] = u.scale[1] = static_cast<int>(2 * ((scales >> (4 * (unit % 8))) & 15u) + 1);
    u.d = f16(reinterpret_cast<const uint16_t*>(row.planes[2])[unit / 8]) * 0.125f;
  }
  if constexpr (kType == WeightType::kQ2_K || kType == WeightType::kQ4_K) {
    u.d = f16(reinterpret_cast<const uint16_t*>(row.planes[2])[unit / 8 * 2]);
    u.dmin = f16(reinterpret_cast<const uint16_t*>(row.planes[2])[unit / 8 * 2 + 1]);
  }
  return u;
}

template <WeightType kType>
__device__ inline Unit load_unit(const WeightRow& at, int64_t unit) {
  if (at.in_planes) return load_plane_unit<kType>(at, unit);
  const uint8_t* row = at.planes[0];
  Unit u;
  u.dmin = 0.0f;
  u.scale[0] = u.scale[1] = 1;
  u.min[0] = u.min[1] = 0;
  if constexpr (kType == WeightType::kQ8_0) {
    const uint8_t* block = row + unit * 34;
    u.d = f16(*reinterpret_cast<const uint16_t*>(block));
    for (int i = 0; i < 8; ++i) u.codes[i] = load_2x16(block + 2 + 4 * i);
  } else if constexpr (kType == WeightType::kMXFP4) {
    const uint8_t* block = row + unit * 17;
    u.d = e8m0(block[0]) * 0.5f;
    for (int i = 0; i < 4; ++i) {
      uint32_t low = 0, high = 0;
      for (int j = 0; j < 4; ++j) {
        const uint32_t byte = block[1 + 4 * i + j];
        low |= (static_cast<uint32_t>(doubled_e2m1(byte & 15u)) & 255u) << (8 * j);
        high |= (static_cast<uint32_t>(doubled_e2m1(byte >> 4)) & 255u) << (8 * j);
      }
      u.codes[i] = static_cast<int>(low);
      u.codes[i + 4] = static_cast<int>(high);
    }
  } else if constexpr (kType == WeightType::kQ2_K) {
    const int g = static_cast<int>(unit % 8);
    const uint8_t* block = row + (unit / 8) * 84;
    const uint8_t* qs = block + 16 + 32 * (g / 4);
    const int shift = 2 * (g % 4);
    for (int i = 0; i < 8; ++i) u.codes[i] = (*reinterpret_cast<const int*>(qs + 4 * i) >> shift) & 0x03030303;
    for (int h = 0; h < 2; ++h) {
      u.scale[h] = block[2 * g + h] & 15;
      u.min[h] = block[2 * g + h] >> 4;
    }
    u.d = f16(*reinterpret_cast<const uint16_t*>(block + 80));
    u.dmin = f16(*reinterpret_cast<const uint16_t*>(block + 82));
  } else if constexpr (kType == WeightType::kQ4_K) {
    const int b = static_cast<int>(unit % 8);
    const uint8_t* block = row + (unit / 8) * 144;
    const uint8_t* qs = block + 16 + 32 * (b / 2);
    const int shift = 4 * (b % 2);
    for (int i = 0; i < 8; ++i) u.codes[i] = (*reinterpret_cast<const int*>(qs + 4 * i) >> shift) & 0x0F0F0F0F;
    const ScaleMinPair pair = q4k_scale(block + 4, b);
    u.scale[0] = u.scale[1] = pair.scale;
    u.min[0] = u.min[1] = pair.min;
    u.d = f16(*reinterpret_cast<const uint16_t*>(block));
    u.dmin = f16(*reinterpret_cast<const uint16_t*>(block + 2));
  } else {
    static_assert(kType == WeightType::kIQ2_XXS);
    const int g = static_cast<int>(unit % 8);
    const uint8_t* block = row + (unit / 8) * 66;
    const uint8_t* words = block + 2 + 8 * g;
    const auto indices = static_cast<uint32_t>(load_2x16(words));
    const auto signs = static_cast<uint32_t>(load_2x16(words + 4));
    for (int l = 0; l < 4; ++l) {
      const uint2 grid = iq2xxs_grid((indices >> (8 * l)) & 255u);
      const uint32_t code = (signs >> (7 * l)) & 127u;
      const uint32_t bits = code | ((__popc(code) & 1u) << 7);
      u.codes[2 * l] = static_cast<int>(negate_bytes(grid.x, bits & 15u));
      u.codes[2 * l + 1] = static_cast<int>(negate_bytes(grid.y, bits >> 4));
    }
    u.scale[0] = u.scale[1] = static_cast<int>(2 * (signs >> 28) + 1);
    u.d = f16(*reinterpret_cast<const uint16_t*>(block)) * 0.125f;
  }
  return u;
}

// codes: eight words of activations, scale: theirs.
__device__ inline float unit_dot(const Unit& u, const int* codes, float scale) {
  int products[2] = {0, 0}, sums[2] = {0, 0};
  for (int h = 0; h < 2; ++h) {
    for (int i = 4 * h; i < 4 * h + 4; ++i) {
      products[h] = __dp4a(u.codes[i], codes[i], products[h]);
      sums[h] = __dp4a(0x01010101, codes[i], sums[h]);
    }
  }
  const int product = u.scale[0] * products[0] + u.scale[1] * products[1];
  const int minimum = u.min[0] * sums[0] + u.min[1] * sums[1];
  return (scale * u.d) * static_cast<float>(product) - (scale * u.dmin) * static_cast<float>(minimum);
}

template <WeightType kType>
__device__ inline float real_weight(const WeightRow& at, int64_t i) {
  const uint8_t* row = at.planes[0];
  if constexpr (kType == WeightType::kF32) return reinterpret_cast<const float*>(row)[i];
  const uint16_t bits = reinterpret_cast<const uint16_t*>(row)[i];
  return kType == WeightType::kF16 ? f16(bits) : bf16(bits);
}

// Element i, dequantised exactly as gguf/dequantize.h does.
template <WeightType kType>
__device__ inline float weight_value(const WeightRow& row, int64_t i) {
  if constexpr (kIsReal<kType>) {
    return real_weight<kType>(row, i);
  } else {
    const Unit u = load_unit<kType>(row, i / 32);
    const int e = static_cast<int>(i % 32);
    const int code = static_cast<int8_t>(static_cast<uint32_t>(u.codes[e / 4]) >> (8 * (e % 4)));
    const int h = e / 16;
    const float value = (u.d * static_cast<float>(u.scale[h])) * static_cast<float>(code);
    return u.dmin == 0.0f ? value : value - u.dmin * static_cast<float>(u.min[h]);
  }
}

// Dot product of a weight row with one activation row, over the warp; every lane gets it.
template <WeightType kType, int kRows>
__device__ inline void warp_dots(const WeightRow& row, int64_t n_in, const Activations& x, const int64_t* offsets,
                                 int lane, float* sums) {
  for (int r = 0; r < kRows; ++r) sums[r] = 0.0f;
  if constexpr (kIsReal<kType>) {
    for (int64_t i = lane; i < n_in; i += 32) {
      const float w = real_weight<kType>(row, i);
      for (int r = 0; r < kRows; ++r) sums[r] = fmaf(w, x.x[offsets[r] + i], sums[r]);
    }
  } else if (x.codes == nullptr) {
    for (int64_t i = lane; i < n_in; i += 32) {
      const float w = weight_value<kType>(row, i);
      for (int r = 0; r < kRows; ++r) sums[r] = fmaf(w, x.x[offsets[r] + i], sums[r]);
    }
  } else {
    for (int64_t unit = lane; unit < n_in / 32; unit += 32) {
      const Unit u = load_unit<kType>(row, unit);
      for (int r = 0; r < kRows; ++r) {
        const int64_t at = offsets[r] + unit * 32;
        int codes[8];
        const int4* words = reinterpret_cast<const int4*>(x.codes + at);
        *reinterpret_cast<int4*>(codes) = words[0];
        *reinterpret_cast<int4*>(codes + 4) = words[1];
        sums[r] += unit_dot(u, codes, x.scales[at / 32]);
      }
    }
  }
  for (int r = 0; r < kRows; ++r) {
    for (int offset = 16; offset > 0; offset /= 2) sums[r] += __shfl_xor_sync(0xFFFFFFFFu, sums[r], offset);
  }
}

// body.operator()<type>() for the type of that value.
template <class Body>
auto with_type(WeightType type, const Body& body) {
  switch (type) {
    case WeightType::kF32: return body.template operator()<WeightType::kF32>();
    case WeightType::kF16: return body.template operator()<WeightType::kF16>();
    case WeightType::kBF16: return body.template operator()<WeightType::kBF16>();
    case WeightType::kQ8_0: return body.template operator()<WeightType::kQ8_0>();
    case WeightType::kQ2_K: return body.template operator()<WeightType::kQ2_K>();
    case WeightType::kQ4_K: return body.template operator()<WeightType::kQ4_K>();
    case WeightType::kIQ2_XXS: return body.template operator()<WeightType::kIQ2_XXS>();
    case WeightType::kMXFP4: break;
  }
  return body.template operator()<WeightType::kMXFP4>();
}

}  // namespace ds4::cuda
