#pragma once

// Gives the emulated instructions the names of the real ones. Include before backends/cpu/simd_avx512.h, gemv_avx512.h
// or gemm_amx.h, in one translation unit only, which must not use the real ones.

#include "ops/emulated/amx_instructions.h"
#include "ops/emulated/avx512_instructions.h"
#include "ops/emulated/vbmi_instructions.h"

// The compiler's own macros go; clang has them, g++ without optimisation too.
#undef _mm512_extractf32x8_ps
#undef _mm512_inserti64x4
#undef _mm512_permute_ps
#undef _mm512_shuffle_i32x4
#undef _mm256_dpbusd_epi32
#undef _mm512_slli_epi32
#undef _mm512_gf2p8affine_epi64_epi8
#undef _mm512_i32gather_epi32
#undef _mm512_i64gather_epi64
#undef _mm512_inserti32x4
#undef _mm512_shuffle_ps
#undef _mm512_srli_epi16
#undef _mm512_srli_epi32
#undef _mm512_srli_epi64
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbssd
// NOLINTBEGIN(bugprone-reserved-identifier): the point is to take these names
#define __m512 ::ds4::emulated::Float512
#define __m512i ::ds4::emulated::Int512
#define _mm512_setzero_ps ::ds4::emulated::setzero_ps
#define _mm512_set1_ps ::ds4::emulated::set1_ps
#define _mm512_loadu_ps ::ds4::emulated::loadu_ps
#define _mm512_storeu_ps ::ds4::emulated::storeu_ps
#define _mm512_add_ps ::ds4::emulated::add_ps
#define _mm512_sub_ps ::ds4::emulated::sub_ps
#define _mm512_mul_ps ::ds4::emulated::mul_ps
#define _mm512_fmadd_ps ::ds4::emulated::fmadd_ps
#define _mm512_div_ps ::ds4::emulated::div_ps
#define _mm512_sqrt_ps ::ds4::emulated::sqrt_ps
#define _mm512_min_ps ::ds4::emulated::min_ps
#define _mm512_castps_si512 ::ds4::emulated::castps_si512
#define _mm512_permute_ps ::ds4::emulated::permute_ps
#define _mm512_max_ps ::ds4::emulated::max_ps
#define _mm512_abs_ps ::ds4::emulated::abs_ps
#define _mm512_cvtepi32_ps ::ds4::emulated::cvtepi32_ps
#define _mm512_cvtps_epi32 ::ds4::emulated::cvtps_epi32
#define _mm512_cvtsepi32_epi8 ::ds4::emulated::cvtsepi32_epi8
#define _mm512_cvtph_ps ::ds4::emulated::cvtph_ps
#define _mm512_cvtepu16_epi32 ::ds4::emulated::cvtepu16_epi32
#define _mm512_castsi512_ps ::ds4::emulated::castsi512_ps
#define _mm512_castps512_ps256 ::ds4::emulated::castps512_ps256
#define _mm512_extractf32x8_ps ::ds4::emulated::extractf32x8_ps
#define _mm512_setzero_si512 ::ds4::emulated::setzero_si512
#define _mm512_loadu_si512 ::ds4::emulated::loadu_si512
#define _mm512_storeu_si512 ::ds4::emulated::storeu_si512
#define _mm512_set1_epi32 ::ds4::emulated::set1_epi32
#define _mm512_set1_epi8 ::ds4::emulated::set1_epi8
#define _mm512_and_si512 ::ds4::emulated::and_si512
#define _mm512_xor_si512 ::ds4::emulated::xor_si512
#define _mm512_add_epi32 ::ds4::emulated::add_epi32
#define _mm512_sub_epi32 ::ds4::emulated::sub_epi32
#define _mm512_mullo_epi32 ::ds4::emulated::mullo_epi32
#define _mm512_slli_epi32 ::ds4::emulated::slli_epi32
#define _mm512_srli_epi32 ::ds4::emulated::srli_epi32
#define _mm512_srli_epi64 ::ds4::emulated::srli_epi64
#define _mm512_cvtepi64_epi32 ::ds4::emulated::cvtepi64_epi32
#define _mm512_cvtepu8_epi64 ::ds4::emulated::cvtepu8_epi64
#define _mm512_i64gather_epi64 ::ds4::emulated::i64gather_epi64
#define _mm512_mask_sub_epi8 ::ds4::emulated::mask_sub_epi8
#define _mm512_dpbusd_epi32 ::ds4::emulated::dpbusd_epi32
#define _mm256_dpbusd_epi32 ::ds4::emulated::dpbusd_epi32_256
#define _mm512_dpwssd_epi32 ::ds4::emulated::dpwssd_epi32
#define _mm512_castsi256_si512 ::ds4::emulated::castsi256_si512
#define _mm512_inserti64x4 ::ds4::emulated::inserti64x4
#define _mm512_unpacklo_epi32 ::ds4::emulated::unpacklo_epi32
#define _mm512_unpackhi_epi32 ::ds4::emulated::unpackhi_epi32
#define _mm512_unpacklo_epi64 ::ds4::emulated::unpacklo_epi64
#define _mm512_unpackhi_epi64 ::ds4::emulated::unpackhi_epi64
#define _mm512_shuffle_i32x4 ::ds4::emulated::shuffle_i32x4
#define _mm512_maskz_loadu_ps ::ds4::emulated::maskz_loadu_ps
#define _mm512_mask_storeu_ps ::ds4::emulated::mask_storeu_ps
#define _mm512_set1_epi16 ::ds4::emulated::set1_epi16
#define _mm512_set1_epi64 ::ds4::emulated::set1_epi64
#define _mm512_or_si512 ::ds4::emulated::or_si512
#define _mm512_add_epi8 ::ds4::emulated::add_epi8
#define _mm512_mullo_epi16 ::ds4::emulated::mullo_epi16
#define _mm512_srli_epi16 ::ds4::emulated::srli_epi16
#define _mm512_packs_epi32 ::ds4::emulated::packs_epi32
#define _mm512_cvtepi32_epi16 ::ds4::emulated::cvtepi32_epi16
#define _mm512_shuffle_ps ::ds4::emulated::shuffle_ps
#define _mm512_shuffle_epi8 ::ds4::emulated::shuffle_epi8
#define _mm512_unpacklo_epi8 ::ds4::emulated::unpacklo_epi8
#define _mm512_unpackhi_epi8 ::ds4::emulated::unpackhi_epi8
#define _mm512_unpacklo_epi16 ::ds4::emulated::unpacklo_epi16
#define _mm512_unpackhi_epi16 ::ds4::emulated::unpackhi_epi16
#define _mm512_permutex2var_epi64 ::ds4::emulated::permutex2var_epi64
#define _mm512_i32gather_epi32 ::ds4::emulated::i32gather_epi32
#define _mm512_movepi8_mask ::ds4::emulated::movepi8_mask
#define _mm512_mask_mov_epi8 ::ds4::emulated::mask_mov_epi8
#define _mm512_permutexvar_epi8 ::ds4::emulated::permutexvar_epi8
#define _mm512_mask_permutexvar_epi8 ::ds4::emulated::mask_permutexvar_epi8
#define _mm512_multishift_epi64_epi8 ::ds4::emulated::multishift_epi64_epi8
#define _mm512_gf2p8affine_epi64_epi8 ::ds4::emulated::gf2p8affine_epi64_epi8
#define _mm512_castsi128_si512 ::ds4::emulated::castsi128_si512
#define _mm512_inserti32x4 ::ds4::emulated::inserti32x4
#define _mm512_broadcast_i32x4 ::ds4::emulated::broadcast_i32x4
#define _mm512_broadcast_i64x4 ::ds4::emulated::broadcast_i64x4
#define _tile_loadconfig ::ds4::emulated::tile_loadconfig
#define _tile_release ::ds4::emulated::tile_release
#define _tile_zero ::ds4::emulated::tile_zero
#define _tile_loadd ::ds4::emulated::tile_loadd
#define _tile_stored ::ds4::emulated::tile_stored
#define _tile_dpbssd ::ds4::emulated::tile_dpbssd
// NOLINTEND(bugprone-reserved-identifier)
