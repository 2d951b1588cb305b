#pragma once

// How a weight matrix lies in device memory: as planes, each read by a warp with full 16-byte loads, in place of the
// file's blocks of 17 to 144 bytes, whose parts lie at odd addresses. Offsets only, for host and device; repack.cu
// moves the bytes. A tensor of E experts is one matrix of E * R rows.
//
// A unit is 32 weights of a row, a tile 32 units; the last tile of a row may have fewer. Plane p of row r starts at
// offset[p] + r * row_bytes[p]:
//   Q8_0     0: 32 codes a unit; in the tile that starts at byte t, of u units, half h of unit l is at t + (h*u + l)*16
//            1: F16 scale a unit
//   Q4_K     0: 16 bytes a unit, byte j = element j (low nibble) and element j + 16 (high nibble)
//            1: scale and minimum as bytes, a unit    2: F16 d, F16 dmin per 256
//   Q2_K     0: two words a unit, (word w >> 2j) & 0x03030303 = elements 16w + 4j .. 16w + 4j + 3
//            1: two bytes a unit, one per 16: scale (low nibble), minimum (high)    2: F16 d, F16 dmin per 256
//   IQ2_XXS  0: two words a unit: four grid indices, then the signs ACROSS the groups: bit 4*i + g belongs to element i
//               of group g of 8, so that (word << (2 - g)) & 0x44444444 (right by 1 for g = 3) lies one sign per nibble
//            1: eight 4-bit scales per 256, one u32    2: F16 d per 256
//   MXFP4    0: 16 bytes a unit, nibbles as Q4_K    1: E8M0 byte a unit
// F32, F16, BF16, and rows that are no multiple of 256: as in the file.

#include <cstdint>

#ifdef __CUDACC__
#define DS4_HOST_DEVICE __host__ __device__
#else
#define DS4_HOST_DEVICE
#endif

namespace ds4::cuda {

// As DType, for the types that kernels read.
enum class WeightType : int32_t { kF32, kF16, kBF16, kQ8_0, kQ2_K, kQ4_K, kIQ2_XXS, kMXFP4 };

inline constexpr int32_t kMaxPlanes = 3;
inline constexpr int64_t kPlaneAlignment = 256;
inline constexpr int64_t kUnitsOfTile = 32;

struct WeightPlanes {
  int32_t n_planes = 1;
  int64_t offset[kMaxPlanes] = {};
  int64_t row_bytes[kMaxPlanes] = {};
  int64_t size_bytes = 0;
};

DS4_HOST_DEVICE constexpr bool has_planes(WeightType type, int64_t n_in) {
  return type != WeightType::kF32 && type != WeightType::kF16 && type != WeightType::kBF16 && n_in > 0 &&
         n_in % 256 == 0;
}

// Of a row as in the file; n_in is whole blocks.
DS4_HOST_DEVICE constexpr int64_t file_row_bytes(WeightType type, int64_t n_in) {
  switch (type) {
    case WeightType::kF32: return n_in * 4;
    case WeightType::kF16:
    case WeightType::kBF16: return n_in * 2;
    case WeightType::kQ8_0: return n_in / 32 * 34;
    case WeightType::kQ2_K: return n_in / 256 * 84;
    case WeightType::kQ4_K: return n_in / 256 * 144;
    case WeightType::kIQ2_XXS: return n_in / 256 * 66;
    case WeightType::kMXFP4: break;
  }
  return n_in / 32 * 17;
}

// Of plane `plane` of one row of `n_units` units; 0 when there is no such plane. Precondition: has_planes.
DS4_HOST_DEVICE constexpr int64_t plane_row_bytes(WeightType type, int32_t plane, int64_t n_units) {
  switch (type) {
    case WeightType::kQ8_0: return plane == 0 ? n_units * 32 : plane == 1 ? n_units * 2 : 0;
    case WeightType::kQ4_K: return plane == 0 ? n_units * 16 : plane == 1 ? n_units * 2 : n_units / 2;
    case WeightType::kQ2_K: return plane == 0 ? n_units * 8 : plane == 1 ? n_units * 2 : n_units / 2;
    case WeightType::kIQ2_XXS: return plane == 0 ? n_units * 8 : plane == 1 ? n_units / 2 : n_units / 4;
    case WeightType::kMXFP4: return plane == 0 ? n_units * 16 : plane == 1 ? n_units : 0;
    default: return 0;
  }
}

DS4_HOST_DEVICE constexpr WeightPlanes weight_planes(WeightType type, int64_t n_rows, int64_t n_in) {
  WeightPlanes planes;
  if (!has_planes(type, n_in)) {
    planes.row_bytes[0] = file_row_bytes(type, n_in);
    planes.size_bytes = n_rows * planes.row_bytes[0];
    return planes;
  }
  planes.n_planes = 0;
  for (int32_t p = 0; p < kMaxPlanes; ++p) {
    planes.row_bytes[p] = plane_row_bytes(type, p, n_in / 32);
    if (planes.row_bytes[p] == 0) break;
    planes.offset[p] = (planes.size_bytes + kPlaneAlignment - 1) / kPlaneAlignment * kPlaneAlignment;
    planes.size_bytes = planes.offset[p] + n_rows * planes.row_bytes[p];
    planes.n_planes = p + 1;
  }
  return planes;
}

// Of a Q8_0 row's codes: where half `half` (16 codes) of a unit lies.
DS4_HOST_DEVICE constexpr int64_t q8_half_offset(int64_t unit, int64_t half, int64_t n_units) {
  const int64_t first = unit / kUnitsOfTile * kUnitsOfTile;
  const int64_t n = n_units - first < kUnitsOfTile ? n_units - first : kUnitsOfTile;
  return first * 32 + (half * n + (unit - first)) * 16;
}

// A matrix on the device: planes[0] alone when it lies as in the file.
struct Weight {
  WeightType type = WeightType::kF32;
  bool in_planes = false;
  int32_t n_units = 0;  // of a row, with planes
  const uint8_t* planes[kMaxPlanes] = {};
  int64_t row_bytes[kMaxPlanes] = {};
};

// Of the matrix that starts at `data`.
inline Weight weight_at(WeightType type, const uint8_t* data, int64_t n_rows, int64_t n_in) {
  const WeightPlanes planes = weight_planes(type, n_rows, n_in);
  Weight weight{.type = type, .in_planes = has_planes(type, n_in), .n_units = static_cast<int32_t>(n_in / 32)};
  for (int32_t p = 0; p < planes.n_planes; ++p) {
    weight.planes[p] = data + planes.offset[p];
    weight.row_bytes[p] = planes.row_bytes[p];
  }
  return weight;
}

}  // namespace ds4::cuda
