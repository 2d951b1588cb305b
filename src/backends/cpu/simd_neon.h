#pragma once

// NEON with the dot product instructions of ARMv8.2 as the generic kernels want them (generic_kernels.h explains the
// interface). They multiply signed bytes with signed bytes into 32 bits, so that no code needs special care. Four steps
// of a column lie in one register and are picked by lane.

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace ds4::cpu {

struct Neon {
  static constexpr int kLanes = 4;
  static constexpr int kColumns = 8;
  static constexpr int kRowVectors = 1;
  static constexpr int kPlanes = 1;
  static constexpr bool kRaisesColumns = false;
  using F = float32x4_t;
  using I = int32x4_t;

  static F zero() { return vdupq_n_f32(0.0f); }
  static F set1(float x) { return vdupq_n_f32(x); }
  static F load(const float* p) { return vld1q_f32(p); }
  static void store(float* p, F x) { vst1q_f32(p, x); }
  static F add(F a, F b) { return vaddq_f32(a, b); }
  static F sub(F a, F b) { return vsubq_f32(a, b); }
  static F mul(F a, F b) { return vmulq_f32(a, b); }
  static F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
  static F div(F a, F b) { return vdivq_f32(a, b); }
  static F sqrt(F a) { return vsqrtq_f32(a); }
  // The second operand where either is NaN.
  static F max(F a, F b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
  static F min(F a, F b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
  static F abs(F a) { return vabsq_f32(a); }
  static F to_float(I x) { return vcvtq_f32_s32(x); }
  static float from_f16(uint16_t bits) {
    return vgetq_lane_f32(vcvt_f32_f16(vreinterpret_f16_u16(vdup_n_u16(bits))), 0);
  }
  static F load_f16(const std::byte* p) { return vcvt_f32_f16(vreinterpret_f16_u16(load_halves(p))); }
  static F load_bf16(const std::byte* p) { return vreinterpretq_f32_u32(vshll_n_u16(load_halves(p), 16)); }
  // E4M3 codes other than NaN: an F16 with its exponent 8 too small.
  static F load_e4m3(const std::byte* p) {
    uint32_t codes;
    std::memcpy(&codes, p, sizeof(codes));
    const int16x4_t wide = vget_low_s16(vmovl_s8(vcreate_s8(codes)));
    const uint16x4_t halves = vand_u16(vreinterpret_u16_s16(vshl_n_s16(wide, 7)), vdup_n_u16(0xBFFF));
    return vmulq_f32(vcvt_f32_f16(vreinterpret_f16_u16(halves)), vdupq_n_f32(256.0f));
  }
  // 2^n for whole n in [-126, 127].
  static F pow2(F n) {
    const F biased = vaddq_f32(n, vdupq_n_f32(0x1p23f + 127.0f));
    return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_f32(biased), 23));
  }
  static F swap_pairs(F x) { return vrev64q_f32(x); }
  // Nearest even, saturated to [-127, 127].
  static void store_codes(F x, int8_t* p) {
    const int16x4_t wide = vqmovn_s32(vcvtnq_s32_f32(max(x, set1(-127.0f))));
    const int8x8_t codes = vqmovn_s16(vcombine_s16(wide, wide));
    const uint32_t bits = vget_lane_u32(vreinterpret_u32_s8(codes), 0);
    std::memcpy(p, &bits, sizeof(bits));
  }
  static float reduce_max(F x) { return vmaxvq_f32(x); }
  // Sum of 16 partial sums as a tree of halves.
  static float reduce16(const F* parts) {
    const F four = add(add(parts[0], parts[2]), add(parts[1], parts[3]));
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
  }

  static I zero_i() { return vdupq_n_s32(0); }
  static I load_i(const void* p) { return vreinterpretq_s32_s8(load_codes(p)); }
  static I broadcast4(const void* p) {
    int32_t bits;
    std::memcpy(&bits, p, sizeof(bits));
    return vdupq_n_s32(bits);
  }
  // Products of 16-bit pairs, added to sum.
  static I madd(I sum, I a, I b) {
    const int16x8_t x = vreinterpretq_s16_s32(a);
    const int16x8_t y = vreinterpretq_s16_s32(b);
    const I low = vmull_s16(vget_low_s16(x), vget_low_s16(y));
    return vaddq_s32(sum, vpaddq_s32(low, vmull_high_s16(x, y)));
  }

  // Scales of neighbouring sub-blocks in 16-bit pairs: the first, the second.
  static I first_scale(I pairs) { return vshrq_n_s32(vshlq_n_s32(pairs, 16), 16); }
  static I second_scale(I pairs) { return vshrq_n_s32(pairs, 16); }

  // sums[v][c] = products of 32 codes a row. panels[v] [8 steps][4 rows][4].
  template <int kV, int kN, class Columns>
  static void dot_32(const int8_t* const* panels, const int32_t*, Columns x, I (*sums)[kN]) {
    for (int v = 0; v < kV; ++v) {
      for (int c = 0; c < kN; ++c) sums[v][c] = zero_i();
      add_dots<8, kN>(panels[v], x, sums[v]);
    }
  }

  // sums[v][c] += scales[v] * products of 4 * kSteps codes a row.
  template <int kSteps, int kV, int kN, class Columns>
  static void dot_small(const int8_t* const* panels, Columns x, const I* scales, I (*sums)[kN]) {
    for (int v = 0; v < kV; ++v) {
      I parts[kN];
      for (int c = 0; c < kN; ++c) parts[c] = zero_i();
      add_dots<kSteps, kN>(panels[v], x, parts);
#pragma GCC unroll 8
      for (int c = 0; c < kN; ++c) sums[v][c] = vmlaq_s32(sums[v][c], parts[c], scales[v]);
    }
  }
  template <int kV, int kN, class Columns>
  static void dot_signed(const int8_t* const* panels, Columns x, const I* scales, I (*sums)[kN]) {
    dot_small<8, kV, kN>(panels, x, scales, sums);
  }

  static int8x16_t load_codes(const void* p) { return vld1q_s8(static_cast<const int8_t*>(p)); }

  // codes[i] = table[low nibble i], codes[i + 16] = table[high nibble i] of 16 bytes.
  static void expand_nibbles(const uint8_t* packed, const int8_t* table, int8_t* codes) {
    const int8x16_t values = vld1q_s8(table);
    const uint8x16_t bytes = vld1q_u8(packed);
    vst1q_s8(codes, vqtbl1q_s8(values, vandq_u8(bytes, vdupq_n_u8(15))));
    vst1q_s8(codes + 16, vqtbl1q_s8(values, vshrq_n_u8(bytes, 4)));
  }
  static void pack_32(const int8_t* const* rows, int8_t* panel) { interleave_32(rows, panel); }
  // 4 rows of 32 codes -> panel [8 steps][4 rows][4].
  static void interleave_32(const int8_t* const* rows, int8_t* panel) {
    for (int first = 0; first < 32; first += 16) {
      const int32x4x4_t words = {
          {load_i(rows[0] + first), load_i(rows[1] + first), load_i(rows[2] + first), load_i(rows[3] + first)}};
      int32_t interleaved[16];
      vst4q_s32(interleaved, words);
      std::memcpy(panel + 4 * first, interleaved, sizeof(interleaved));
    }
  }

 private:
  static uint16x4_t load_halves(const std::byte* p) {
    uint64_t bits;
    std::memcpy(&bits, p, sizeof(bits));
    return vcreate_u16(bits);
  }

  template <int kSteps, int kN, class Columns>
  static void add_dots(const int8_t* panel, Columns x, I* sums) {
    static_assert(kSteps % 4 == 0);
#pragma GCC unroll 2
    for (int first = 0; first < kSteps; first += 4) {
      int8x16_t w[4];
#pragma GCC unroll 4
      for (int step = 0; step < 4; ++step) w[step] = load_codes(panel + (first + step) * 16);
#pragma GCC unroll 8
      for (int c = 0; c < kN; ++c) {
        const int8x16_t codes = load_codes(x.codes(c) + first * 4);
        sums[c] = vdotq_laneq_s32(sums[c], w[0], codes, 0);
        sums[c] = vdotq_laneq_s32(sums[c], w[1], codes, 1);
        sums[c] = vdotq_laneq_s32(sums[c], w[2], codes, 2);
        sums[c] = vdotq_laneq_s32(sums[c], w[3], codes, 3);
      }
    }
  }
};

}  // namespace ds4::cpu
