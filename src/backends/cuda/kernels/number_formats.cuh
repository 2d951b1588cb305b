#pragma once

// The number formats of base/float_formats.h on the device, bit for bit.

#include <cuda_fp16.h>

#include <cstdint>

namespace ds4::cuda {

__device__ inline float f16(uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
__device__ inline uint16_t to_f16(float value) {
  const uint32_t bits = __float_as_uint(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return static_cast<uint16_t>(sign | 0x7E00u);
  if (magnitude >= 0x477FF000u) return static_cast<uint16_t>(sign | 0x7C00u);
  if (magnitude < 0x38800000u) {
    const float shifted = __fadd_rn(__uint_as_float(magnitude), 0.5f);
    return static_cast<uint16_t>(sign | (__float_as_uint(shifted) - 0x3F000000u));
  }
  const uint32_t rounded = magnitude + 0xFFFu + ((magnitude >> 13) & 1u);
  return static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13));
}
__device__ inline float bf16(uint16_t bits) { return __uint_as_float(static_cast<uint32_t>(bits) << 16); }
__device__ inline float exp2_int(int exponent) {
  return exponent < -126 ? __uint_as_float(1u << (exponent + 149))
                         : __uint_as_float(static_cast<uint32_t>(exponent + 127) << 23);
}
__device__ inline float e8m0(uint8_t code) {
  return code == 255 ? __uint_as_float(0x7FC00000u) : exp2_int(int{code} - 127);
}

__device__ inline float e4m3(uint8_t code) {
  const uint32_t sign = static_cast<uint32_t>(code & 0x80u) << 24;
  const uint32_t exponent = (code >> 3) & 15u;
  const uint32_t mantissa = code & 7u;
  if ((code & 0x7Fu) == 0x7Fu) return __uint_as_float(0x7FC00000u);
  if (exponent == 0) return __uint_as_float(__float_as_uint(static_cast<float>(mantissa) * 0x1p-9f) | sign);
  return __uint_as_float(sign | ((exponent + 120u) << 23) | (mantissa << 20));
}

__device__ inline uint8_t to_e4m3(float value) {
  const uint32_t bits = __float_as_uint(value);
  const uint32_t sign = (bits >> 24) & 0x80u;
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return 0x7F;
  if (magnitude >= 0x43E00000u) return static_cast<uint8_t>(sign | 0x7Eu);
  if (magnitude < 0x3C800000u) {
    const float shifted = __fadd_rn(__uint_as_float(magnitude), 0x1p14f);
    return static_cast<uint8_t>(sign | (__float_as_uint(shifted) & 0xFFu));
  }
  const uint32_t rounded = magnitude + 0x7FFFFu + ((magnitude >> 20) & 1u);
  const uint32_t code = (rounded - 0x3C000000u) >> 20;
  return static_cast<uint8_t>(sign | (code < 0x7Eu ? code : 0x7Eu));
}

__device__ inline float e2m1(uint32_t code) {
  const uint32_t index = code & 7u;
  const float magnitude = index < 2
                              ? 0.5f * static_cast<float>(index)
                              : static_cast<float>(2u + (index & 1u)) * exp2_int(static_cast<int>(index >> 1) - 2);
  return (code & 8u) != 0 && index != 0 ? -magnitude : magnitude;
}

__device__ inline uint32_t to_e2m1(float value) {
  if (value != value) return 0;
  const float m = fabsf(value);
  const uint32_t code = m > 5.0f     ? 7
                        : m >= 3.5f  ? 6
                        : m > 2.5f   ? 5
                        : m >= 1.75f ? 4
                        : m > 1.25f  ? 3
                        : m >= 0.75f ? 2
                        : m > 0.25f  ? 1
                                     : 0;
  return code | (code != 0 && (__float_as_uint(value) >> 31) != 0 ? 8u : 0u);
}

__device__ inline int ceil_log2(float value) {
  const uint32_t bits = __float_as_uint(value);
  const int exponent = static_cast<int>(bits >> 23);
  const uint32_t mantissa = bits & 0x7FFFFFu;
  if (exponent == 0) return -149 + (32 - __clz(static_cast<int>(mantissa - 1)));
  return exponent - 127 + (mantissa != 0 ? 1 : 0);
}

}  // namespace ds4::cuda
