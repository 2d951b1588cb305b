#pragma once

// Rows of Flash for tensor cores: 512 values, 448 of them E4M3 with a power of two per 64, 64 of them F16, in 584
// bytes. As F16 they are exact but for codes below 2^-24, and as long as no scale exceeds 2^7 (a row of values above
// 57344, which the norm before it does not make); such values are cut off at infinity's neighbour by the saturating
// scale.

#include "backends/cuda/kernels/kv_rows.cuh"
#include "backends/cuda/kernels/tensor_cores.cuh"

namespace ds4::cuda {

inline constexpr int kRowWidth = 512;
inline constexpr int kRowTail = 64;
inline constexpr int kRowCodes = kRowWidth - kRowTail;
inline constexpr int kPackedBytes = 584;
inline constexpr int kPieces = kRowWidth / 8;  // a piece is 8 values

// What 8 values come from.
struct PackedPiece {
  uint32_t words[5];  // codes, or halves three bytes behind the first word
  uint32_t scale;
};

__device__ inline PackedPiece load_piece(const uint8_t* row, int piece) {
  PackedPiece p{};
  if (piece < kRowCodes / 8) {
    const uint2 codes = *reinterpret_cast<const uint2*>(row + 8 * piece);
    p.words[0] = codes.x;
    p.words[1] = codes.y;
    p.scale = row[kRowCodes + piece / 8];
  } else {
    const auto* tail = reinterpret_cast<const uint32_t*>(row + kRowCodes + 4) + 4 * (piece - kRowCodes / 8);
    for (int i = 0; i < 5; ++i) p.words[i] = tail[i];
  }
  return p;
}

// E4M3 bits in an F16 are 2^-8 of the value, for subnormals too.
__device__ inline uint32_t two_codes(uint32_t spread, __half2 scale) {
  const uint32_t bits = (spread & 0x80008000u) | ((spread & 0x7F007F00u) >> 1);
  return half2_bits(__hmul2(*reinterpret_cast<const __half2*>(&bits), scale));
}

__device__ inline uint4 unpack_piece(const PackedPiece& p, int piece) {
  if (piece >= kRowCodes / 8) {
    return make_uint4(__funnelshift_r(p.words[0], p.words[1], 24), __funnelshift_r(p.words[1], p.words[2], 24),
                      __funnelshift_r(p.words[2], p.words[3], 24), __funnelshift_r(p.words[3], p.words[4], 24));
  }
  const int exponent = min(static_cast<int>(p.scale) - 127 + 8, 15);
  const __half2 scale = __float2half2_rn(exp2_int(max(exponent, -126)));
  return make_uint4(
      two_codes(__byte_perm(p.words[0], 0, 0x1404), scale), two_codes(__byte_perm(p.words[0], 0, 0x3424), scale),
      two_codes(__byte_perm(p.words[1], 0, 0x1404), scale), two_codes(__byte_perm(p.words[1], 0, 0x3424), scale));
}

// Softmax weights are taken to this base.
__device__ inline float weight_of(float logit, float top) { return expf(logit - top); }

__device__ inline int visible_rows(int position, int ratio) { return ratio == 0 ? 0 : (position + 1) / ratio; }

}  // namespace ds4::cuda
