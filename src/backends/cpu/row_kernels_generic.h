#pragma once
// size-check: templates

// RowKernels as templates over a struct S of vector operations (generic_kernels.h explains the interface), light ops;
// attention_kernels.h has the rest. Operations and their order are the reference's, save for exp (vector_math.h).

#include <bit>
#include <cstring>

#include "backends/cpu/generic_kernels.h"
#include "backends/cpu/row_kernels.h"
#include "backends/cpu/vector_math.h"
#include "ops/kv_rows.h"
#include "ops/reference/compressor.h"
#include "ops/reference/hc.h"

namespace ds4::cpu {

// Four lanes in any instruction set, for what must not depend on the width of S.
typedef float F4 __attribute__((vector_size(16)));
typedef double D4 __attribute__((vector_size(32)));

template <class S>
F4 load4(const float* p) {
  F4 x;
  std::memcpy(&x, p, sizeof(x));
  return x;
}
template <class S>
void store4(float* p, F4 x) {
  std::memcpy(p, &x, sizeof(x));
}
template <class S>
void transpose4(F4* r) {
  const F4 a = __builtin_shufflevector(r[0], r[1], 0, 4, 1, 5);
  const F4 b = __builtin_shufflevector(r[2], r[3], 0, 4, 1, 5);
  const F4 c = __builtin_shufflevector(r[0], r[1], 2, 6, 3, 7);
  const F4 d = __builtin_shufflevector(r[2], r[3], 2, 6, 3, 7);
  r[0] = __builtin_shufflevector(a, b, 0, 1, 4, 5);
  r[1] = __builtin_shufflevector(a, b, 2, 3, 6, 7);
  r[2] = __builtin_shufflevector(c, d, 0, 1, 4, 5);
  r[3] = __builtin_shufflevector(c, d, 2, 3, 6, 7);
}

// Sum of squares in 16 partial sums (ops/reference/dot.h); squares of floats are exact in double.
template <class S>
double square_sum(const float* x, int64_t n) {
  D4 parts[4] = {};
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) {
      const D4 wide = __builtin_convertvector(load4<S>(x + i + 4 * k), D4);
      parts[k] += wide * wide;
    }
  }
  double lanes[16];
  std::memcpy(lanes, parts, sizeof(lanes));
  for (int lane = 0; i + lane < n; ++lane)
    lanes[lane] += static_cast<double>(x[i + lane]) * static_cast<double>(x[i + lane]);
  for (int width = 8; width >= 1; width /= 2) {
    for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  }
  return lanes[0];
}

template <class S>
void rms_norm(const float* x, const float* gain, float epsilon, int64_t n, float* out) {
  const auto mean = static_cast<float>(square_sum<S>(x, n) / static_cast<double>(n));
  const typename S::F r = S::set1(1.0f / __builtin_sqrtf(mean + epsilon));
  for (int64_t i = 0; i < n; i += S::kLanes) {
    typename S::F y = S::mul(load_some<S>(x + i, n - i), r);
    if (gain != nullptr) y = S::mul(y, load_some<S>(gain + i, n - i));
    store_some<S>(out + i, y, n - i);
  }
}

template <class S>
void swiglu(const float* gate, const float* up, float clamp, float factor, int64_t n, float* out) {
  const float limit = clamp > 0.0f ? clamp : __builtin_inff();
  const typename S::F highest = S::set1(limit);
  const typename S::F lowest = S::set1(-limit);
  const typename S::F weight = S::set1(factor);
  for (int64_t i = 0; i < n; i += S::kLanes) {
    const typename S::F a = S::min(highest, load_some<S>(gate + i, n - i));
    const typename S::F b = S::max(lowest, S::min(highest, load_some<S>(up + i, n - i)));
    store_some<S>(out + i, S::mul(S::mul(S::mul(a, sigmoid<S>(a)), b), weight), n - i);
  }
}

template <class S>
void sqrt_softplus_row(const float* x, int64_t n, float* out) {
  for (int64_t i = 0; i < n; i += S::kLanes)
    store_some<S>(out + i, sqrt_softplus<S>(load_some<S>(x + i, n - i)), n - i);
}

template <class S>
void steer(float* x, const float* direction, float scale, int64_t n) {
  float factor = 0.0f;
  const float* column = x;
  dot_tile<S, F32Values, 1, 1>(reinterpret_cast<const std::byte*>(direction), 0, &column, n,
                               [&](int, int, float dot) { factor = scale * dot; });
  const typename S::F by = S::set1(factor);
  for (int64_t i = 0; i < n; i += S::kLanes) {
    const typename S::F part = S::mul(by, load_some<S>(direction + i, n - i));
    store_some<S>(x + i, S::sub(load_some<S>(x + i, n - i), part), n - i);
  }
}

template <class S>
void hc_reduce(const float* streams, const float* weights, int64_t n_streams, int64_t width, float* out) {
  for (int64_t d = 0; d < width; d += S::kLanes) {
    typename S::F sum = S::zero();
    for (int64_t s = 0; s < n_streams; ++s)
      sum = S::add(sum, S::mul(S::set1(weights[s]), load_some<S>(streams + s * width + d, width - d)));
    store_some<S>(out + d, sum, width - d);
  }
}

template <class S>
void hc_expand(const float* y, const float* post, const float* comb, int64_t width, float* streams) {
  for (int64_t d = 0; d < width; d += S::kLanes) {
    const typename S::F own = load_some<S>(y + d, width - d);
    typename S::F old[4];
    for (int s = 0; s < 4; ++s) old[s] = load_some<S>(streams + s * width + d, width - d);
#pragma GCC unroll 4
    for (int c = 0; c < 4; ++c) {
      typename S::F sum = S::mul(own, S::set1(post[c]));
#pragma GCC unroll 4
      for (int s = 0; s < 4; ++s) sum = S::add(sum, S::mul(S::set1(comb[4 * s + c]), old[s]));
      store_some<S>(streams + c * width + d, sum, width - d);
    }
  }
}

// Every line of four, of which r[i] holds element i, becomes its elements over their sum and epsilon.
template <class S>
void normalise_lines(F4* r, F4 epsilon) {
  const F4 sum = (((F4{} + r[0]) + r[1]) + r[2]) + r[3] + epsilon;
  for (int i = 0; i < 4; ++i) r[i] /= sum;
}

template <class S>
void hc_mix(const float* mix, const float* scale, const float* base, const HcParams& params,
            const reference::HcMixRow& out) {
  float z[32] = {};  // 4 of pre, 4 of post, the rows of comb
  for (int i = 0; i < 24; ++i) z[i] = mix[i] * scale[i < 4 ? 0 : i < 8 ? 1 : 2] + base[i];
  for (int r = 8; r < 24; r += 4) {
    float top = z[r];
    for (int c = 1; c < 4; ++c) top = z[r + c] > top ? z[r + c] : top;
    for (int c = 0; c < 4; ++c) z[r + c] -= top;
  }
  for (int i = 0; i < 8; ++i) z[i] = -z[i];
  for (int i = 0; i < 32; i += S::kLanes) S::store(z + i, exp<S>(S::load(z + i)));
  for (int i = 0; i < 4; ++i) {
    out.pre[i] = 1.0f / (1.0f + z[i]) + params.epsilon;
    out.post[i] = 2.0f * (1.0f / (1.0f + z[4 + i]));
  }

  const F4 epsilon = {params.epsilon, params.epsilon, params.epsilon, params.epsilon};
  F4 r[4];
  for (int i = 0; i < 4; ++i) r[i] = load4<S>(z + 8 + 4 * i);
  transpose4<S>(r);
  normalise_lines<S>(r, F4{});
  for (F4& x : r) x += epsilon;
  transpose4<S>(r);
  for (int iteration = 0; iteration < params.sinkhorn_iterations; ++iteration) {
    if (iteration > 0) {
      transpose4<S>(r);
      normalise_lines<S>(r, epsilon);
      transpose4<S>(r);
    }
    normalise_lines<S>(r, epsilon);
  }
  for (int i = 0; i < 4; ++i) store4<S>(out.comb + 4 * i, r[i]);
}

template <class S>
void rotate(float* x, const float* cosines, const float* sines, int64_t n, bool inverse) {
  for (int64_t i = 0; i < n; i += S::kLanes) {
    const typename S::F values = load_some<S>(x + i, n - i);
    const typename S::F along = S::mul(values, load_some<S>(cosines + i, n - i));
    const typename S::F across = S::mul(S::swap_pairs(values), load_some<S>(sines + i, n - i));
    store_some<S>(x + i, inverse ? S::sub(along, across) : S::add(along, across), n - i);
  }
}

template <class S>
void pool(std::span<const reference::Candidate> candidates, int64_t width, float* out) {
  const auto score = [](const reference::Candidate& c, int64_t d, int64_t n) {
    const typename S::F own = load_some<S>(c.score + d, n);
    return c.bias == nullptr ? own : S::add(own, load_some<S>(c.bias + d, n));
  };
  for (int64_t d = 0; d < width; d += S::kLanes) {
    const int64_t n = width - d;
    typename S::F top = score(candidates.front(), d, n);
    for (const reference::Candidate& c : candidates) top = S::max(top, score(c, d, n));
    typename S::F weighted = S::zero();
    typename S::F total = S::zero();
    for (const reference::Candidate& c : candidates) {
      const typename S::F weight = exp<S>(S::sub(score(c, d, n), top));
      weighted = S::fma(weight, load_some<S>(c.kv + d, n), weighted);
      total = S::add(total, weight);
    }
    store_some<S>(out + d, S::div(weighted, total), n);
  }
}

// Stored rows.

// E8M0 code of the power of two that brings the largest of n values into range, as ops/kv_rows.cc has it.
template <class S>
uint32_t group_scale(const float* x, int64_t n, float smallest, float inverse_max) {
  typename S::F top = S::set1(smallest);
  for (int64_t i = 0; i < n; i += S::kLanes) top = S::max(top, S::abs(load_some<S>(x + i, n - i)));
  const auto bits = std::bit_cast<uint32_t>(S::reduce_max(top) * inverse_max);
  const uint32_t code = (bits >> 23) + ((bits & 0x7FFFFF) != 0 ? 1 : 0);
  return code < 1 ? 1 : code > 254 ? 254 : code;
}

template <class S>
float scale_of(uint32_t code) {
  return std::bit_cast<float>(code << 23);
}

// Drops the lowest bits of a float's, rounding to nearest even.
template <class S>
int32_t round_bits(int32_t bits, int dropped) {
  return (bits + (1 << (dropped - 1)) - 1 + ((bits >> dropped) & 1)) >> dropped;
}

template <class S>
void encode_e4m3(const float* x, float factor, int64_t n, std::byte* codes) {
  for (int64_t i = 0; i < n; ++i) {
    const auto bits = std::bit_cast<int32_t>(x[i] * factor);
    const int32_t magnitude = bits & 0x7FFFFFFF;
    // Below 2^-6 the step is 2^-9, the ulp of 2^14.
    const int32_t small = std::bit_cast<int32_t>(std::bit_cast<float>(magnitude) + 0x1p14f) & 0xFF;
    const int32_t normal = round_bits<S>(magnitude, 20) - 0x3C0;
    const int32_t code = magnitude < 0x3C800000 ? small : normal < 0x7E ? normal : 0x7E;
    codes[i] = static_cast<std::byte>(code | ((bits >> 24) & 0x80));
  }
}

template <class S>
void encode_f16(const float* x, int64_t n, std::byte* out) {
  for (int64_t i = 0; i < n; ++i) {
    const auto bits = std::bit_cast<int32_t>(x[i]);
    const int32_t magnitude = bits & 0x7FFFFFFF;
    const int32_t small = std::bit_cast<int32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3F000000;
    const int32_t normal = round_bits<S>(magnitude, 13) - 0x1C000;
    const int32_t code = magnitude < 0x38800000 ? small : normal < 0x7C00 ? normal : 0x7C00;
    const auto half = static_cast<uint16_t>(code | ((bits >> 16) & 0x8000));
    std::memcpy(out + 2 * i, &half, sizeof(half));
  }
}

template <class S>
void pack_row(const float* x, const KvRowFormat& format, std::byte* row) {
  if (format.encoding != KvEncoding::kFp8) return pack_kv_row(x, format, row);
  const int64_t n_codes = format.width - format.n_rot;
  std::byte* scales = row + n_codes;
  for (int64_t first = 0; first < n_codes; first += kFp8Group) {
    const int64_t n = n_codes - first < kFp8Group ? n_codes - first : kFp8Group;
    const uint32_t scale = group_scale<S>(x + first, n, 1e-4f, 1.0f / 448.0f);
    encode_e4m3<S>(x + first, 1.0f / scale_of<S>(scale), n, row + first);
    *scales++ = static_cast<std::byte>(scale);
  }
  encode_f16<S>(x + n_codes, format.n_rot, scales);
  std::byte* end = scales + 2 * format.n_rot;
  std::memset(end, 0, static_cast<size_t>(row + format.row_bytes - end));
}

template <class S>
void unpack_row(const std::byte* row, const KvRowFormat& format, float* x) {
  if (format.encoding != KvEncoding::kFp8) return unpack_kv_row(row, format, x);
  const int64_t n_codes = format.width - format.n_rot;
  const std::byte* scales = row + n_codes;
  for (int64_t first = 0; first < n_codes; first += kFp8Group) {
    const float scale = scale_of<S>(static_cast<uint32_t>(*scales++));
    const int64_t end = n_codes - first < kFp8Group ? n_codes : first + kFp8Group;
    int64_t i = first;
    for (; i + S::kLanes <= end; i += S::kLanes) S::store(x + i, S::mul(S::load_e4m3(row + i), S::set1(scale)));
    if (i == end) continue;
    std::byte rest[S::kLanes] = {};
    std::memcpy(rest, row + i, static_cast<size_t>(end - i));
    store_some<S>(x + i, S::mul(S::load_e4m3(rest), S::set1(scale)), end - i);
  }
  int64_t i = 0;
  for (; i + S::kLanes <= format.n_rot; i += S::kLanes) S::store(x + n_codes + i, S::load_f16(scales + 2 * i));
  for (; i < format.n_rot; ++i) {
    uint16_t half;
    std::memcpy(&half, scales + 2 * i, sizeof(half));
    x[n_codes + i] = S::from_f16(half);
  }
}

template <class S>
void hadamard_row(float* x, int64_t n) {
  if (n < 8) return hadamard(x, static_cast<int32_t>(n));
  const F4 even = {1.0f, -1.0f, 1.0f, -1.0f};
  const F4 low = {1.0f, 1.0f, -1.0f, -1.0f};
  for (int64_t i = 0; i < n; i += 4) {
    F4 v = load4<S>(x + i);
    v = __builtin_shufflevector(v, v, 0, 0, 2, 2) + __builtin_shufflevector(v, v, 1, 1, 3, 3) * even;
    v = __builtin_shufflevector(v, v, 0, 1, 0, 1) + __builtin_shufflevector(v, v, 2, 3, 2, 3) * low;
    store4<S>(x + i, v);
  }
  const auto norm = static_cast<float>(1.0 / __builtin_sqrt(static_cast<double>(n)));
  for (int64_t stride = 4; stride < n; stride *= 2) {
    const float factor = 2 * stride == n ? norm : 1.0f;
    const F4 factors = {factor, factor, factor, factor};
    for (int64_t block = 0; block < n; block += 2 * stride) {
      for (int64_t i = block; i < block + stride; i += 4) {
        const F4 a = load4<S>(x + i);
        const F4 b = load4<S>(x + i + stride);
        store4<S>(x + i, (a + b) * factors);
        store4<S>(x + i + stride, (a - b) * factors);
      }
    }
  }
}

// E2M1 steps by half up to 2, by 1 up to 4, by 2 up to 6: adding a number with that ulp rounds to nearest even.
template <class S>
void index_round(float* x, int64_t width) {
  hadamard_row<S>(x, width);
  for (int64_t first = 0; first < width; first += kFp4Group) {
    float* group = x + first;
    const float scale = scale_of<S>(group_scale<S>(group, kFp4Group, 6.0f * 0x1p-126f, 1.0f / 6.0f));
    const float inverse = 1.0f / scale;
    for (int i = 0; i < kFp4Group; ++i) {
      const float value = group[i] * inverse;
      const float magnitude = __builtin_fabsf(value);
      const float magic = magnitude < 2.0f ? 0x1.8p22f : magnitude < 4.0f ? 0x1.8p23f : 0x1.8p24f;
      const float rounded = (magnitude + magic) - magic;
      const float kept = rounded < 6.0f ? rounded : 6.0f;
      group[i] = __builtin_copysignf(kept, value) * scale + 0.0f;  // no minus zero
    }
  }
}

}  // namespace ds4::cpu
