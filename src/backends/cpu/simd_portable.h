#pragma once

// Plain loops over eight lanes as the generic kernels want them (generic_kernels.h): for processors without a set of
// their own, and the twin that every other set is compared with.

#include <cmath>
#include <cstdint>
#include <cstring>

#include "base/float_formats.h"

namespace ds4::cpu {

struct Portable {
  static constexpr int kLanes = 8;
  static constexpr int kColumns = 4;
  static constexpr int kRowVectors = 1;
  static constexpr int kPlanes = 1;
  static constexpr bool kRaisesColumns = false;
  struct F {
    float lane[kLanes];
  };
  struct I {
    int32_t lane[kLanes];
  };

  template <class Result, class Body>
  static Result each(const Body& body) {
    Result result;
    for (int i = 0; i < kLanes; ++i) result.lane[i] = body(i);
    return result;
  }

  static F zero() { return {}; }
  static F set1(float x) {
    return each<F>([&](int) { return x; });
  }
  static F load(const float* p) {
    return each<F>([&](int i) { return p[i]; });
  }
  static void store(float* p, F x) { std::memcpy(p, x.lane, sizeof(x.lane)); }
  static F add(F a, F b) {
    return each<F>([&](int i) { return a.lane[i] + b.lane[i]; });
  }
  static F sub(F a, F b) {
    return each<F>([&](int i) { return a.lane[i] - b.lane[i]; });
  }
  static F mul(F a, F b) {
    return each<F>([&](int i) { return a.lane[i] * b.lane[i]; });
  }
  static F fma(F a, F b, F c) {
    return each<F>([&](int i) { return std::fma(a.lane[i], b.lane[i], c.lane[i]); });
  }
  static F div(F a, F b) {
    return each<F>([&](int i) { return a.lane[i] / b.lane[i]; });
  }
  static F sqrt(F a) {
    return each<F>([&](int i) { return std::sqrt(a.lane[i]); });
  }
  static F max(F a, F b) {
    return each<F>([&](int i) { return a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static F min(F a, F b) {
    return each<F>([&](int i) { return a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]; });
  }
  static F abs(F a) {
    return each<F>([&](int i) { return std::fabs(a.lane[i]); });
  }
  static F to_float(I x) {
    return each<F>([&](int i) { return static_cast<float>(x.lane[i]); });
  }
  static float from_f16(uint16_t bits) { return f16_to_f32(bits); }
  static F load_f16(const std::byte* p) {
    return each<F>([&](int i) { return f16_to_f32(half(p, i)); });
  }
  static F load_bf16(const std::byte* p) {
    return each<F>([&](int i) { return bf16_to_f32(half(p, i)); });
  }
  static F load_e4m3(const std::byte* p) {
    return each<F>([&](int i) { return e4m3_to_f32(static_cast<uint8_t>(p[i])); });
  }
  static F pow2(F n) {
    return each<F>(
        [&](int i) { return std::bit_cast<float>(std::bit_cast<uint32_t>(n.lane[i] + (0x1p23f + 127.0f)) << 23); });
  }
  static F swap_pairs(F x) {
    return each<F>([&](int i) { return x.lane[i ^ 1]; });
  }
  static void store_codes(F x, int8_t* p) {
    for (int i = 0; i < kLanes; ++i) {
      const float rounded = std::nearbyint(x.lane[i]);
      p[i] = static_cast<int8_t>(rounded > 127.0f ? 127.0f : rounded > -127.0f ? rounded : -127.0f);
    }
  }
  static float reduce_max(F x) {
    float top = x.lane[0];
    for (const float value : x.lane) top = value > top ? value : top;
    return top;
  }
  static float reduce16(const F* parts) {
    F sum = add(parts[0], parts[1]);
    for (int width = kLanes / 2; width >= 1; width /= 2) {
      for (int i = 0; i < width; ++i) sum.lane[i] += sum.lane[i + width];
    }
    return sum.lane[0];
  }

  static I zero_i() { return {}; }
  static I load_i(const void* p) {
    I result;
    std::memcpy(result.lane, p, sizeof(result.lane));
    return result;
  }
  static I broadcast4(const void* p) {
    int32_t bits;
    std::memcpy(&bits, p, sizeof(bits));
    return each<I>([&](int) { return bits; });
  }
  static I madd(I sum, I a, I b) {
    return each<I>(
        [&](int i) { return sum.lane[i] + low(a.lane[i]) * low(b.lane[i]) + high(a.lane[i]) * high(b.lane[i]); });
  }

  static I first_scale(I pairs) {
    return each<I>([&](int i) { return low(pairs.lane[i]); });
  }
  static I second_scale(I pairs) {
    return each<I>([&](int i) { return high(pairs.lane[i]); });
  }
  template <int kV, int kN, class Columns>
  static void dot_32(const int8_t* const* panels, const int32_t*, Columns x, I (*sums)[kN]) {
    for (int v = 0; v < kV; ++v) {
      for (int c = 0; c < kN; ++c) sums[v][c] = dot_steps(8, panels[v], x.codes(c));
    }
  }
  template <int kSteps, int kV, int kN, class Columns>
  static void dot_small(const int8_t* const* panels, Columns x, const I* scales, I (*sums)[kN]) {
    for (int v = 0; v < kV; ++v) {
      for (int c = 0; c < kN; ++c) add_scaled_products(dot_steps(kSteps, panels[v], x.codes(c)), scales[v], sums[v][c]);
    }
  }
  template <int kV, int kN, class Columns>
  static void dot_signed(const int8_t* const* panels, Columns x, const I* scales, I (*sums)[kN]) {
    dot_small<8, kV, kN>(panels, x, scales, sums);
  }

  static void expand_nibbles(const uint8_t* packed, const int8_t* table, int8_t* codes) {
    for (int i = 0; i < 16; ++i) {
      codes[i] = table[packed[i] & 15];
      codes[i + 16] = table[packed[i] >> 4];
    }
  }
  static void pack_32(const int8_t* const* rows, int8_t* panel) { interleave_32(rows, panel); }
  static void interleave_32(const int8_t* const* rows, int8_t* panel) {
    for (int step = 0; step < 8; ++step) {
      for (int r = 0; r < kLanes; ++r) std::memcpy(panel + (step * kLanes + r) * 4, rows[r] + step * 4, 4);
    }
  }

 private:
  static uint16_t half(const std::byte* p, int i) {
    uint16_t bits;
    std::memcpy(&bits, p + 2 * i, sizeof(bits));
    return bits;
  }
  static int32_t low(int32_t pair) { return static_cast<int16_t>(pair & 0xFFFF); }
  static int32_t high(int32_t pair) { return pair >> 16; }

  static I dot_steps(int n_steps, const int8_t* panel, const int8_t* x) {
    I sums = {};
    for (int step = 0; step < n_steps; ++step) {
      for (int i = 0; i < kLanes; ++i) {
        for (int k = 0; k < 4; ++k) sums.lane[i] += panel[(step * kLanes + i) * 4 + k] * x[step * 4 + k];
      }
    }
    return sums;
  }
  static void add_scaled_products(I products, I scale, I& sum) {
    for (int i = 0; i < kLanes; ++i) sum.lane[i] += products.lane[i] * scale.lane[i];
  }
};

}  // namespace ds4::cpu
