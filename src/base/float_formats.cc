#include "base/float_formats.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/check.h"

namespace ds4 {

namespace {

constexpr std::array<float, 8> kE2M1Values = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};

std::array<float, 256> make_e4m3_table() {
  std::array<float, 256> table{};
  for (int code = 0; code < 256; ++code) {
    const int exponent = (code >> 3) & 15;
    const auto mantissa = static_cast<float>(code & 7);
    float magnitude = exponent == 0 ? std::ldexp(mantissa, -9) : std::ldexp(1.0f + mantissa / 8.0f, exponent - 7);
    if ((code & 0x7F) == 0x7F) magnitude = std::numeric_limits<float>::quiet_NaN();
    table[static_cast<size_t>(code)] = (code & 0x80) != 0 ? -magnitude : magnitude;
  }
  return table;
}

// Rounds away the lowest `dropped_bits` of a float's bits, to nearest even, by integer addition.
uint32_t round_mantissa(uint32_t bits, int dropped_bits) {
  const uint32_t half = (1u << (dropped_bits - 1)) - 1;
  return bits + half + ((bits >> dropped_bits) & 1u);
}

}  // namespace

float f16_to_f32(uint16_t bits) {
  const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
  const uint32_t exponent = (bits >> 10) & 0x1Fu;
  const uint32_t mantissa = bits & 0x3FFu;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24f;
    return std::bit_cast<float>(std::bit_cast<uint32_t>(magnitude) | sign);
  }
  if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000u | (mantissa << 13));
  return std::bit_cast<float>(sign | ((exponent + 112u) << 23) | (mantissa << 13));
}

uint16_t f32_to_f16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return static_cast<uint16_t>(sign | 0x7E00u);
  if (magnitude >= 0x477FF000u) return static_cast<uint16_t>(sign | 0x7C00u);  // 65520 and above
  if (magnitude < 0x38800000u) {                                               // below 2^-14: subnormal
    // Adding 0.5 puts the ulp at 2^-24, so the addition itself rounds to nearest even.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return static_cast<uint16_t>(sign | (std::bit_cast<uint32_t>(shifted) - 0x3F000000u));
  }
  return static_cast<uint16_t>(sign | ((round_mantissa(magnitude, 13) - 0x38000000u) >> 13));
}

uint16_t f32_to_bf16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<uint16_t>((bits >> 16) | 0x40u);
  return static_cast<uint16_t>(round_mantissa(bits, 16) >> 16);
}

float e4m3_to_f32(uint8_t code) {
  static const std::array<float, 256> kTable = make_e4m3_table();
  return kTable[code];
}

uint8_t f32_to_e4m3(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint8_t>((bits >> 24) & 0x80u);
  const uint32_t magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return 0x7F;
  if (magnitude >= 0x43E00000u) return static_cast<uint8_t>(sign | 0x7Eu);  // 448 and above
  if (magnitude < 0x3C800000u) {                                            // below 2^-6: subnormal, step 2^-9
    // Adding 2^14 puts the ulp at 2^-9, so the addition itself rounds to nearest even.
    const float shifted = std::bit_cast<float>(magnitude) + 0x1p14f;
    return static_cast<uint8_t>(sign | (std::bit_cast<uint32_t>(shifted) & 0xFFu));
  }
  const uint32_t code = (round_mantissa(magnitude, 20) - 0x3C000000u) >> 20;
  return static_cast<uint8_t>(sign | std::min(code, 0x7Eu));
}

float e8m0_to_f32(uint8_t code) {
  if (code == 255) return std::numeric_limits<float>::quiet_NaN();
  return exp2_int(static_cast<int>(code) - 127);
}

float e2m1_to_f32(uint8_t code) {
  const float magnitude = kE2M1Values[code & 7u];
  return (code & 8u) != 0 && magnitude != 0.0f ? -magnitude : magnitude;
}

uint8_t f32_to_e2m1(float value) {
  if (std::isnan(value)) return 0;
  const float magnitude = std::fabs(value);
  // Midpoints between neighbours; a tie goes to the even code, so the bound is inclusive below even codes.
  uint8_t code = 0;
  if (magnitude > 5.0f)
    code = 7;
  else if (magnitude >= 3.5f)
    code = 6;
  else if (magnitude > 2.5f)
    code = 5;
  else if (magnitude >= 1.75f)
    code = 4;
  else if (magnitude > 1.25f)
    code = 3;
  else if (magnitude >= 0.75f)
    code = 2;
  else if (magnitude > 0.25f)
    code = 1;
  return static_cast<uint8_t>(code | (std::signbit(value) && code != 0 ? 8u : 0u));
}

int ceil_log2(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  DCHECK(value > 0.0f && bits < 0x7F800000u, "ceil_log2 of {}", value);
  const auto exponent = static_cast<int>(bits >> 23);
  const uint32_t mantissa = bits & 0x7FFFFFu;
  if (exponent == 0) return -149 + (32 - std::countl_zero(mantissa - 1));  // subnormal: mantissa * 2^-149
  return exponent - 127 + (mantissa != 0 ? 1 : 0);
}

float exp2_int(int exponent) {
  DCHECK(exponent >= -149 && exponent <= 127, "exponent {}", exponent);
  if (exponent < -126) return std::bit_cast<float>(1u << (exponent + 149));
  return std::bit_cast<float>(static_cast<uint32_t>(exponent + 127) << 23);
}

}  // namespace ds4
