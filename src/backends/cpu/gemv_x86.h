#pragma once
// size-check: templates

// Products with few columns on x86: decode reads every weight once, so rows are unpacked in registers as they stream by
// and nothing is interleaved. The sums are those of the panels (generic_kernels.h), bit for bit. S: Avx2 or a set
// above.

#include <immintrin.h>

#include "backends/cpu/generic_kernels.h"
#include "backends/cpu/panel_kernels.h"
#include "backends/cpu/sign_bytes_x86.h"

namespace ds4::cpu {

// Unnamed: every set that includes this compiles it with flags of its own.
namespace {

// [i] = sum of the eight lanes of parts[i].
inline __m256i sum_lanes(const __m256i* parts) {
  const __m256i a = _mm256_hadd_epi32(_mm256_hadd_epi32(parts[0], parts[1]), _mm256_hadd_epi32(parts[2], parts[3]));
  const __m256i b = _mm256_hadd_epi32(_mm256_hadd_epi32(parts[4], parts[5]), _mm256_hadd_epi32(parts[6], parts[7]));
  return _mm256_add_epi32(_mm256_permute2x128_si256(a, b, 0x20), _mm256_permute2x128_si256(a, b, 0x31));
}

inline __m256i load_codes(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }

struct RowsQ8_0 {
  static constexpr int64_t kBytes = sizeof(BlockQ8_0);
  static __m256i codes(const std::byte* block) { return load_codes(block + offsetof(BlockQ8_0, qs)); }
  static __m256 scales(const std::byte* const* blocks) {
    int16_t d[8];
    for (int r = 0; r < 8; ++r) std::memcpy(&d[r], blocks[r], sizeof(d[r]));
    return _mm256_cvtph_ps(_mm_set_epi16(d[7], d[6], d[5], d[4], d[3], d[2], d[1], d[0]));
  }
};

struct RowsMXFP4 {
  static constexpr int64_t kBytes = sizeof(BlockMXFP4);
  static __m256i codes(const std::byte* block) {
    const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block + offsetof(BlockMXFP4, qs)));
    const __m256i nibbles = _mm256_and_si256(_mm256_set_m128i(_mm_srli_epi16(packed, 4), packed), _mm256_set1_epi8(15));
    const __m128i values = _mm_loadu_si128(reinterpret_cast<const __m128i*>(kDoubledE2M1));
    return _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(values), nibbles);
  }
  static __m256 scales(const std::byte* const* blocks) {
    alignas(32) float d[8];
    for (int r = 0; r < 8; ++r) d[r] = half_e8m0(static_cast<uint8_t>(*blocks[r]));
    return _mm256_load_ps(d);
  }
};

// Eight rows at a time, so that the lanes of their products are summed together.
template <class S, class Rows, int kN>
void gemv_32(const WeightMatrix& weight, int64_t first, int64_t last, const Column* columns) {
  const int64_t n_blocks = weight.n_in / 32;
  for (int64_t row = first; row < last; row += 8) {
    const int64_t n_rows = last - row < 8 ? last - row : 8;
    const std::byte* blocks[8];
    for (int64_t r = 0; r < 8; ++r) blocks[r] = weight.data + (row + (r < n_rows ? r : n_rows - 1)) * weight.row_bytes;
    __m256 totals[kN];
    for (int c = 0; c < kN; ++c) totals[c] = _mm256_setzero_ps();
    // Eight short streams are nothing that a processor would foresee: the next rows come while these are computed.
    const std::byte* next = blocks[0] + 8 * weight.row_bytes;
    for (int64_t b = 0; b < n_blocks; ++b) {
      for (int64_t line = 0; line < 8 * Rows::kBytes; line += 64) _mm_prefetch(next + line, _MM_HINT_T1);
      next += 8 * Rows::kBytes;
      const __m256 scale = Rows::scales(blocks);
#pragma GCC unroll 4
      for (int c = 0; c < kN; ++c) {
        const __m256i x = load_codes(columns[c].codes + b * 32);
        __m256i products[8];
#pragma GCC unroll 8
        for (int r = 0; r < 8; ++r) products[r] = S::dot_row(Rows::codes(blocks[r]), x);
        const __m256 factor = _mm256_mul_ps(scale, _mm256_set1_ps(columns[c].scales[b]));
        totals[c] = _mm256_add_ps(totals[c], _mm256_mul_ps(factor, _mm256_cvtepi32_ps(sum_lanes(products))));
      }
      for (const std::byte*& block : blocks) block += Rows::kBytes;
    }
    for (int c = 0; c < kN; ++c) {
      alignas(32) float out[8];
      _mm256_store_ps(out, totals[c]);
      for (int64_t r = 0; r < n_rows; ++r) columns[c].out[row + r] = out[r];
    }
  }
}

// A block of 256 in registers: products of codes with signed activations, scales per 16 products of pairs.
struct Unpacked256 {
  __m256i codes[8];
  __m256i signs[8];  // of IQ2_XXS: 1 or -1 per code
  __m256i scales[8];
  __m256i mins;
  float d = 0.0f;
  float dmin = 0.0f;
};

// Byte i of the result's 16-bit lanes: byte `low` of the source in lanes 0 to 7, byte `high` in lanes 8 to 15.
inline __m256i spread_scales(__m256i bytes, int low, int high) {
  const auto pair = [](int byte) { return static_cast<int16_t>(0x8000 | byte); };
  return _mm256_shuffle_epi8(bytes, _mm256_set_m128i(_mm_set1_epi16(pair(high)), _mm_set1_epi16(pair(low))));
}

inline void unpack(const BlockQ2_K& block, Unpacked256& out) {
  const __m128i packed = _mm_loadu_si128(reinterpret_cast<const __m128i*>(block.scales));
  const __m128i scales = _mm_and_si128(packed, _mm_set1_epi8(15));
  const __m256i both = _mm256_broadcastsi128_si256(scales);
  out.mins = _mm256_cvtepu8_epi16(_mm_and_si128(_mm_srli_epi16(packed, 4), _mm_set1_epi8(15)));
#pragma GCC unroll 8
  for (int g = 0; g < 8; ++g) {
    const __m256i quads = load_codes(block.qs + 32 * (g / 4));
    out.codes[g] = _mm256_and_si256(_mm256_srli_epi16(quads, 2 * (g % 4)), _mm256_set1_epi8(3));
    out.scales[g] = spread_scales(both, 2 * g, 2 * g + 1);
  }
  out.d = _cvtsh_ss(block.d);
  out.dmin = _cvtsh_ss(block.dmin);
}

inline void unpack(const BlockQ4_K& block, Unpacked256& out) {
  uint32_t packed[3];
  std::memcpy(packed, block.scales, sizeof(packed));
  const uint32_t scales_low = packed[0] & 0x3F3F3F3F;
  const uint32_t scales_high = (packed[2] & 0x0F0F0F0F) | ((packed[0] >> 6 & 0x03030303) << 4);
  const uint32_t mins_low = packed[1] & 0x3F3F3F3F;
  const uint32_t mins_high = (packed[2] >> 4 & 0x0F0F0F0F) | ((packed[1] >> 6 & 0x03030303) << 4);
  const __m128i scales = _mm_set_epi32(0, 0, static_cast<int>(scales_high), static_cast<int>(scales_low));
  const __m128i mins = _mm_set_epi32(0, 0, static_cast<int>(mins_high), static_cast<int>(mins_low));
  out.mins = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(mins, mins));
  const __m256i both = _mm256_broadcastsi128_si256(scales);
#pragma GCC unroll 8
  for (int g = 0; g < 8; ++g) {
    const __m256i pairs = load_codes(block.qs + 32 * (g / 2));
    out.codes[g] = _mm256_and_si256(g % 2 == 0 ? pairs : _mm256_srli_epi16(pairs, 4), _mm256_set1_epi8(15));
    out.scales[g] = spread_scales(both, g, g);
  }
  out.d = _cvtsh_ss(block.d);
  out.dmin = _cvtsh_ss(block.dmin);
}

inline void unpack(const BlockIQ2_XXS& block, Unpacked256& out) {
  const __m256i first = load_codes(block.qs);
  const __m256i second = load_codes(block.qs + 16);
  const __m256 odd_words = _mm256_shuffle_ps(_mm256_castsi256_ps(first), _mm256_castsi256_ps(second), 0xDD);
  const __m256i words = _mm256_permute4x64_epi64(_mm256_castps_si256(odd_words), 0xD8);
  const __m256i scales = _mm256_or_si256(_mm256_slli_epi32(_mm256_srli_epi32(words, 28), 1), _mm256_set1_epi32(1));
  alignas(32) int32_t scale_pairs[8];
  alignas(32) int32_t signs[8];
  _mm256_store_si256(reinterpret_cast<__m256i*>(scale_pairs), _mm256_or_si256(scales, _mm256_slli_epi32(scales, 16)));
  _mm256_store_si256(reinterpret_cast<__m256i*>(signs), sign_bytes(words));
  const __m256i spread = _mm256_set_epi64x(0x0303030303030303, 0x0202020202020202, 0x0101010101010101, 0);
  const __m256i bit = _mm256_set1_epi64x(static_cast<long long>(0x8040201008040201));
#pragma GCC unroll 8
  for (int g = 0; g < 8; ++g) {
    uint32_t i;
    std::memcpy(&i, block.qs + 4 * g, sizeof(i));
    const auto grid = [](uint32_t index) { return static_cast<long long>(grid_word<Unpacked256>(index & 255)); };
    out.codes[g] = _mm256_set_epi64x(grid(i >> 24), grid(i >> 16), grid(i >> 8), grid(i));
    const __m256i bytes = _mm256_and_si256(_mm256_shuffle_epi8(_mm256_set1_epi32(signs[g]), spread), bit);
    out.signs[g] = _mm256_or_si256(_mm256_cmpeq_epi8(bytes, bit), _mm256_set1_epi8(1));
    out.scales[g] = _mm256_set1_epi32(scale_pairs[g]);
  }
  out.d = _cvtsh_ss(block.d) * 0.125f;
}

template <class Block>
float contribution(const Unpacked256& w, const Column& column, int64_t b) {
  const int8_t* codes = column.codes + b * 256;
  __m256i products = _mm256_setzero_si256();
#pragma GCC unroll 8
  for (int g = 0; g < 8; ++g) {
    __m256i x = load_codes(codes + 32 * g);
    if constexpr (BlockTraits<Block>::kSigned) x = _mm256_sign_epi8(x, w.signs[g]);
    products = _mm256_add_epi32(products, _mm256_madd_epi16(_mm256_maddubs_epi16(w.codes[g], x), w.scales[g]));
  }
  __m256i minima = _mm256_setzero_si256();
  if constexpr (BlockTraits<Block>::kHasMins) minima = _mm256_madd_epi16(w.mins, load_codes(column.sums + b * 16));
  const __m256i halves = _mm256_hadd_epi32(products, minima);
  const __m128i quarters = _mm_add_epi32(_mm256_castsi256_si128(halves), _mm256_extracti128_si256(halves, 1));
  const __m128 sums = _mm_cvtepi32_ps(_mm_hadd_epi32(quarters, quarters));
  const float product = (column.scales[b] * w.d) * _mm_cvtss_f32(sums);
  if constexpr (!BlockTraits<Block>::kHasMins) return product;
  return product - (column.scales[b] * w.dmin) * _mm_cvtss_f32(_mm_movehdup_ps(sums));
}

template <class Block, int kN>
void gemv_256(const WeightMatrix& weight, int64_t first, int64_t last, const Column* columns) {
  const int64_t n_blocks = weight.n_in / 256;
  for (int64_t row = first; row < last; ++row) {
    const std::byte* data = weight.data + row * weight.row_bytes;
    float totals[kN] = {};
    for (int64_t b = 0; b < n_blocks; ++b) {
      Unpacked256 unpacked;
      unpack(*reinterpret_cast<const Block*>(data + b * static_cast<int64_t>(sizeof(Block))), unpacked);
#pragma GCC unroll 4
      for (int c = 0; c < kN; ++c) totals[c] += contribution<Block>(unpacked, columns[c], b);
    }
    for (int c = 0; c < kN; ++c) columns[c].out[row] = totals[c];
  }
}

// kernel(columns, integral constant) in groups of four, two and one.
template <class Kernel>
void in_groups(std::span<const Column> columns, const Kernel& kernel) {
  const auto n = static_cast<int64_t>(columns.size());
  int64_t c = 0;
  for (; c + 4 <= n; c += 4) kernel(columns.data() + c, std::integral_constant<int, 4>());
  if (n - c >= 2) {
    kernel(columns.data() + c, std::integral_constant<int, 2>());
    c += 2;
  }
  if (c < n) kernel(columns.data() + c, std::integral_constant<int, 1>());
}

template <class S, class Rows>
void multiply_rows_32(const WeightMatrix& weight, int64_t first, int64_t last, std::span<const Column> columns) {
  in_groups(columns, [&](const Column* group, auto n) { gemv_32<S, Rows, n>(weight, first, last, group); });
}

template <class Block>
void multiply_rows_256(const WeightMatrix& weight, int64_t first, int64_t last, std::span<const Column> columns) {
  in_groups(columns, [&](const Column* group, auto n) { gemv_256<Block, n>(weight, first, last, group); });
}

// Fewer columns than this do not repay the unpacking of a panel.
inline constexpr size_t kPanelColumns = 6;

template <class S>
void multiply_x86(const WeightMatrix& weight, ActivationForm form, int64_t first, int64_t last,
                  std::span<const Column> columns) {
  if (form == ActivationForm::kReal) return multiply_real<S>(weight, first, last, columns);
  const bool few = columns.size() < kPanelColumns;
  switch (weight.type) {
    case DType::kQ8_0:
      if (few) return multiply_rows_32<S, RowsQ8_0>(weight, first, last, columns);
      return multiply_panels<S, BlockQ8_0>(weight, first, last, columns);
    case DType::kMXFP4:
      if (few) return multiply_rows_32<S, RowsMXFP4>(weight, first, last, columns);
      return multiply_panels<S, BlockMXFP4>(weight, first, last, columns);
    case DType::kQ2_K:
      if (few) return multiply_rows_256<BlockQ2_K>(weight, first, last, columns);
      return multiply_panels<S, BlockQ2_K>(weight, first, last, columns);
    case DType::kQ4_K:
      if (few) return multiply_rows_256<BlockQ4_K>(weight, first, last, columns);
      return multiply_panels<S, BlockQ4_K>(weight, first, last, columns);
    case DType::kIQ2_XXS:
      if (few) return multiply_rows_256<BlockIQ2_XXS>(weight, first, last, columns);
      return multiply_panels<S, BlockIQ2_XXS>(weight, first, last, columns);
    default: __builtin_unreachable();  // other types take real activations
  }
}

}  // namespace

}  // namespace ds4::cpu
