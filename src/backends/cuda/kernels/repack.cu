// Weights from the file's blocks to the planes of weight_layout.h, once at load, and back. One thread per unit (back:
// per 256 weights); it moves 85 GB in well under a second, so it is written for clarity.

#include "backends/cuda/kernels/common.cuh"
#include "backends/cuda/kernels/kernels.h"
#include "backends/cuda/kernels/weight_types.cuh"

namespace ds4::cuda {
namespace {

constexpr int kThreads = 256;

// What one thread works on.
struct Place {
  uint8_t* planes[kMaxPlanes];  // of its row
  int64_t unit;
  int64_t n_units;
};

__device__ inline void put16(uint8_t* to, const uint8_t* from) {
  to[0] = from[0];
  to[1] = from[1];
}

__device__ void pack_q8(const uint8_t* row, const Place& at) {
  const uint8_t* block = row + at.unit * 34;
  for (int half = 0; half < 2; ++half) {
    uint8_t* to = at.planes[0] + q8_half_offset(at.unit, half, at.n_units);
    for (int i = 0; i < 16; ++i) to[i] = block[2 + 16 * half + i];
  }
  put16(at.planes[1] + 2 * at.unit, block);
}

__device__ void unpack_q8(uint8_t* row, const Place& at) {
  for (int64_t unit = at.unit; unit < at.unit + 8; ++unit) {
    uint8_t* block = row + unit * 34;
    put16(block, at.planes[1] + 2 * unit);
    for (int half = 0; half < 2; ++half) {
      const uint8_t* from = at.planes[0] + q8_half_offset(unit, half, at.n_units);
      for (int i = 0; i < 16; ++i) block[2 + 16 * half + i] = from[i];
    }
  }
}

__device__ void pack_mxfp4(const uint8_t* row, const Place& at) {
  const uint8_t* block = row + at.unit * 17;
  for (int i = 0; i < 16; ++i) at.planes[0][at.unit * 16 + i] = block[1 + i];
  at.planes[1][at.unit] = block[0];
}

__device__ void unpack_mxfp4(uint8_t* row, const Place& at) {
  for (int64_t unit = at.unit; unit < at.unit + 8; ++unit) {
    uint8_t* block = row + unit * 17;
    block[0] = at.planes[1][unit];
    for (int i = 0; i < 16; ++i) block[1 + i] = at.planes[0][unit * 16 + i];
  }
}

__device__ void pack_q4k(const uint8_t* row, const Place& at) {
  const int b = static_cast<int>(at.unit % 8);
  const uint8_t* block = row + at.unit / 8 * 144;
  const auto nibble = [&](int e) { return (block[16 + 32 * (b / 2) + e] >> (4 * (b % 2))) & 15; };
  for (int j = 0; j < 16; ++j) at.planes[0][at.unit * 16 + j] = static_cast<uint8_t>(nibble(j) | (nibble(j + 16) << 4));
  const ScaleMinPair pair = q4k_scale(block + 4, b);
  at.planes[1][2 * at.unit] = static_cast<uint8_t>(pair.scale);
  at.planes[1][2 * at.unit + 1] = static_cast<uint8_t>(pair.min);
  if (b == 0) {
    for (int i = 0; i < 4; ++i) at.planes[2][at.unit / 8 * 4 + i] = block[i];
  }
}

__device__ void unpack_q4k(uint8_t* row, const Place& at) {
  uint8_t* block = row + at.unit / 8 * 144;
  for (int i = 0; i < 4; ++i) block[i] = at.planes[2][at.unit / 8 * 4 + i];
  const uint8_t* pairs = at.planes[1] + 2 * at.unit;
  for (int b = 0; b < 4; ++b) {
    const int high_scale = pairs[2 * (b + 4)], high_min = pairs[2 * (b + 4) + 1];
    block[4 + b] = static_cast<uint8_t>(pairs[2 * b] | ((high_scale >> 4) << 6));
    block[8 + b] = static_cast<uint8_t>(pairs[2 * b + 1] | ((high_min >> 4) << 6));
    block[12 + b] = static_cast<uint8_t>((high_scale & 15) | ((high_min & 15) << 4));
  }
  const uint8_t* codes = at.planes[0] + at.unit * 16;
  const auto nibble = [&](int b, int e) { return (codes[16 * b + e % 16] >> (4 * (e / 16))) & 15; };
  for (int i = 0; i < 128; ++i) {
    const int b = 2 * (i / 32);
    block[16 + i] = static_cast<uint8_t>(nibble(b, i % 32) | (nibble(b + 1, i % 32) << 4));
  }
}

__device__ void pack_q2k(const uint8_t* row, const Place& at) {
  const int g = static_cast<int>(at.unit % 8);
  const uint8_t* block = row + at.unit / 8 * 84;
  for (int byte = 0; byte < 8; ++byte) {
    int value = 0;
    for (int j = 0; j < 4; ++j) {
      const int element = 16 * (byte / 4) + 4 * j + byte % 4;
      value |= ((block[16 + 32 * (g / 4) + element] >> (2 * (g % 4))) & 3) << (2 * j);
    }
    at.planes[0][at.unit * 8 + byte] = static_cast<uint8_t>(value);
  }
  put16(at.planes[1] + 2 * at.unit, block + 2 * g);
  if (g == 0) {
    for (int i = 0; i < 4; ++i) at.planes[2][at.unit / 8 * 4 + i] = block[80 + i];
  }
}

__device__ void unpack_q2k(uint8_t* row, const Place& at) {
  uint8_t* block = row + at.unit / 8 * 84;
  for (int i = 0; i < 16; ++i) block[i] = at.planes[1][2 * at.unit + i];
  for (int i = 0; i < 4; ++i) block[80 + i] = at.planes[2][at.unit / 8 * 4 + i];
  for (int i = 0; i < 64; ++i) {
    int value = 0;
    for (int j = 0; j < 4; ++j) {
      const int element = i % 32;
      const uint8_t* codes = at.planes[0] + (at.unit + 4 * (i / 32) + j) * 8;
      value |= ((codes[4 * (element / 16) + element % 4] >> (2 * (element % 16 / 4))) & 3) << (2 * j);
    }
    block[16 + i] = static_cast<uint8_t>(value);
  }
}

__device__ void pack_iq2(const uint8_t* row, const Place& at) {
  const uint8_t* block = row + at.unit / 8 * 66;
  const uint8_t* words = block + 2 + 8 * (at.unit % 8);
  const auto signs = static_cast<uint32_t>(load_2x16(words + 4));
  uint32_t across = 0;
  for (int g = 0; g < 4; ++g) {
    const uint32_t code = (signs >> (7 * g)) & 127u;
    const uint32_t bits = code | ((__popc(code) & 1u) << 7);
    for (int i = 0; i < 8; ++i) across |= ((bits >> i) & 1u) << (4 * i + g);
  }
  auto* to = reinterpret_cast<uint32_t*>(at.planes[0] + at.unit * 8);
  to[0] = static_cast<uint32_t>(load_2x16(words));
  to[1] = across;
  // The scales of a block are one word that eight threads would share: the first writes it.
  if (at.unit % 8 != 0) return;
  uint32_t scales = 0;
  for (int g = 0; g < 8; ++g) scales |= static_cast<uint32_t>(block[2 + 8 * g + 7] >> 4) << (4 * g);
  *reinterpret_cast<uint32_t*>(at.planes[1] + at.unit / 8 * 4) = scales;
  put16(at.planes[2] + at.unit / 8 * 2, block);
}

__device__ void unpack_iq2(uint8_t* row, const Place& at) {
  uint8_t* block = row + at.unit / 8 * 66;
  put16(block, at.planes[2] + at.unit / 8 * 2);
  const uint32_t scales = *reinterpret_cast<const uint32_t*>(at.planes[1] + at.unit / 8 * 4);
  for (int u = 0; u < 8; ++u) {
    const auto* from = reinterpret_cast<const uint32_t*>(at.planes[0] + (at.unit + u) * 8);
    uint32_t words[2] = {from[0], ((scales >> (4 * u)) & 15u) << 28};
    for (int g = 0; g < 4; ++g) {
      for (int i = 0; i < 7; ++i) words[1] |= ((from[1] >> (4 * i + g)) & 1u) << (7 * g + i);
    }
    for (int i = 0; i < 8; ++i) block[2 + 8 * u + i] = static_cast<uint8_t>(words[i / 4] >> (8 * (i % 4)));
  }
}

struct Repack {
  WeightType type;
  uint8_t* file;  // row 0 of the part
  uint8_t* planes[kMaxPlanes];
  int64_t plane_row_bytes[kMaxPlanes];
  int64_t file_row_bytes;
  int64_t n_rows, n_units;
};

template <bool kBack>
__global__ void repack_kernel(Repack args) {
  constexpr int kUnits = kBack ? 8 : 1;
  const int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x;
  const int64_t per_row = args.n_units / kUnits;
  if (i >= args.n_rows * per_row) return;
  const int64_t r = i / per_row;
  Place at{{}, i % per_row * kUnits, args.n_units};
  for (int p = 0; p < kMaxPlanes; ++p) at.planes[p] = args.planes[p] + r * args.plane_row_bytes[p];
  uint8_t* row = args.file + r * args.file_row_bytes;
  switch (args.type) {
    case WeightType::kQ8_0: return kBack ? unpack_q8(row, at) : pack_q8(row, at);
    case WeightType::kQ4_K: return kBack ? unpack_q4k(row, at) : pack_q4k(row, at);
    case WeightType::kQ2_K: return kBack ? unpack_q2k(row, at) : pack_q2k(row, at);
    case WeightType::kIQ2_XXS: return kBack ? unpack_iq2(row, at) : pack_iq2(row, at);
    case WeightType::kMXFP4: return kBack ? unpack_mxfp4(row, at) : pack_mxfp4(row, at);
    default: return;
  }
}

Repack repack_args(const PlanePart& part) {
  const WeightPlanes planes = weight_planes(part.type, part.n_all_rows, part.n_in);
  Repack args{part.type, part.file, {}, {}, file_row_bytes(part.type, part.n_in), part.n_rows, part.n_in / 32};
  for (int p = 0; p < kMaxPlanes; ++p) {
    args.planes[p] = part.planes + planes.offset[p] + part.first_row * planes.row_bytes[p];
    args.plane_row_bytes[p] = planes.row_bytes[p];
  }
  return args;
}

}  // namespace

cudaError_t repack(const PlanePart& part, cudaStream_t stream) {
  if (part.n_rows == 0) return cudaSuccess;
  repack_kernel<false>
      <<<blocks_for(part.n_rows * (part.n_in / 32), kThreads), kThreads, 0, stream>>>(repack_args(part));
  return cudaGetLastError();
}

cudaError_t unpack(const PlanePart& part, cudaStream_t stream) {
  if (part.n_rows == 0) return cudaSuccess;
  repack_kernel<true>
      <<<blocks_for(part.n_rows * (part.n_in / 256), kThreads), kThreads, 0, stream>>>(repack_args(part));
  return cudaGetLastError();
}

}  // namespace ds4::cuda
