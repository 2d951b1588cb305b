#pragma once

// Scalar number formats of files and KV rows, exact and branch-explicit: the definition that every
// kernel is tested against. Encoders round to nearest, ties to the even code. Sources: IEEE 754, the
// OCP MX specification (E4M3, E2M1, E8M0). Pure functions, any thread.

#include <bit>
#include <cstdint>

namespace ds4 {

float f16_to_f32(uint16_t bits);   // exact, subnormals honoured
uint16_t f32_to_f16(float value);  // overflow to infinity, NaN stays NaN

inline float bf16_to_f32(uint16_t bits) { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
uint16_t f32_to_bf16(float value);  // NaN is kept quiet

// E4M3 "fn": bias 7, no infinity, codes 0x7F and 0xFF are NaN, largest 448.
float e4m3_to_f32(uint8_t code);
uint8_t f32_to_e4m3(float value);  // saturates at 448; NaN gives 0x7F

// E8M0: 2^(code - 127); code 255 is NaN.
float e8m0_to_f32(uint8_t code);

// E2M1: codes 0..7 are 0, 0.5, 1, 1.5, 2, 3, 4, 6; bit 3 is the sign; code 8 is +0.
float e2m1_to_f32(uint8_t code);
uint8_t f32_to_e2m1(float value);  // saturates at 6; NaN gives 0

// Smallest integer k with 2^k >= value, for finite value > 0, by the bits (no log2).
int ceil_log2(float value);

// 2^exponent for -149 <= exponent <= 127, exact.
float exp2_int(int exponent);

}  // namespace ds4
