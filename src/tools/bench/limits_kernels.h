#pragma once

// Inner loops that do nothing but one kind of arithmetic as fast as an instruction set allows, for the limits that
// measurements are compared with. Each file limits_<isa>.cc is compiled for its instruction set and holds plain
// functions only, so that no code made for it can be linked into the rest of the program; limits.cc calls them where
// the processor has the instructions. Each call runs `rounds` rounds of the multiply-adds named here. Any thread.

#include <cstdint>

namespace ds4 {

inline constexpr int64_t kPortableMacs = 1024;
void portable_int8_rounds(int64_t rounds);
void portable_f32_rounds(int64_t rounds);
// A checksum of memory, read once. n_bytes is a multiple of 512.
uint64_t portable_read(const void* memory, int64_t n_bytes);

inline constexpr int64_t kAvx2Int8Macs = 8 * 32;
inline constexpr int64_t kAvx2F32Macs = 12 * 8;
void avx2_int8_rounds(int64_t rounds);  // maddubs, madd, add
void avx2_f32_rounds(int64_t rounds);
uint64_t avx2_read(const void* memory, int64_t n_bytes);

inline constexpr int64_t kAvxVnniInt8Macs = 12 * 32;
void avxvnni_int8_rounds(int64_t rounds);

inline constexpr int64_t kAvx512Int8Macs = 12 * 64;
inline constexpr int64_t kAvx512F32Macs = 12 * 16;
inline constexpr int64_t kAvx512Bf16Macs = 12 * 32;
void avx512_int8_rounds(int64_t rounds);  // VNNI
void avx512_f32_rounds(int64_t rounds);
void avx512_bf16_rounds(int64_t rounds);

inline constexpr int64_t kAmxInt8Macs = int64_t{4} * 16 * 16 * 64;
inline constexpr int64_t kAmxBf16Macs = int64_t{4} * 16 * 16 * 32;
void amx_int8_rounds(int64_t rounds);
void amx_bf16_rounds(int64_t rounds);

inline constexpr int64_t kNeonInt8Macs = 12 * 16;
inline constexpr int64_t kNeonF32Macs = 12 * 4;
void neon_int8_rounds(int64_t rounds);  // sdot
void neon_f32_rounds(int64_t rounds);

}  // namespace ds4
