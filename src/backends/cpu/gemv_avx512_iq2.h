#pragma once
// size-check: templates

// The few-column kernel of AVX-512 (gemv_avx512.h) for IQ2_XXS, with VBMI and GFNI.

#include "backends/cpu/gemv_avx512_rows.h"
#include "gguf/iq_tables.h"

namespace ds4::cpu {

// Unnamed: compiled with flags of its own.
namespace {

// The grid as bits of eight elements: which are not 8, and which are 43.
struct GridPlanes {
  alignas(64) uint8_t above_8[256];
  alignas(64) uint8_t is_43[256];
};
inline GridPlanes make_grid_planes() {
  GridPlanes planes{};
  for (size_t i = 0; i < kIq2xxsGrid.size(); ++i) {
    for (unsigned j = 0; j < 8; ++j) {
      const unsigned magnitude = kIq2xxsGrid[i][j];
      planes.above_8[i] = static_cast<uint8_t>(planes.above_8[i] | static_cast<unsigned>(magnitude != 8) << j);
      planes.is_43[i] = static_cast<uint8_t>(planes.is_43[i] | static_cast<unsigned>(magnitude == 43) << j);
    }
  }
  return planes;
}

// Eight bytes, the first one lowest.
constexpr long long eight_bytes(const uint8_t (&bytes)[8]) {
  uint64_t word = 0;
  for (unsigned i = 0; i < 8; ++i) word |= uint64_t{bytes[i]} << (8 * i);
  return static_cast<long long>(word);
}
// A matrix for the affine instruction: bit i of a result is the parity of the byte's bits in rows[i].
constexpr long long bit_matrix(const uint8_t (&rows)[8]) {
  return eight_bytes({rows[7], rows[6], rows[5], rows[4], rows[3], rows[2], rows[1], rows[0]});
}
// Bits of 128 + w, but for a constant, for a byte with bit `top` set where the magnitude is above 8, and the next lower
// ones where it is 43, where w is negative, and where both w is negative and the magnitude above 8.
constexpr long long weight_matrix(unsigned top) {
  const auto above = static_cast<uint8_t>(1u << top);
  const auto most = static_cast<uint8_t>(1u << (top - 1));
  const auto sign = static_cast<uint8_t>(1u << (top - 2));
  const auto both = static_cast<uint8_t>(1u << (top - 3));
  return bit_matrix({above, static_cast<uint8_t>(most | both), both, both, static_cast<uint8_t>(above | most | sign),
                     static_cast<uint8_t>(most | sign), sign, sign});
}
inline constexpr int kPlus8 = 0x88;  // 128 + w where no bit is set

// The grid is looked up as planes of bits, for 64 groups of eight weights at a time: a table of 64 bytes is one byte
// permutation. Bits of four planes make a weight, by transposing 8x8 bits (affine instruction with the planes as
// matrix) and a linear map to the byte 128 + w, signs included, so that nothing is done to activations but to
// start from -128 times their sum.
struct GemvIQ2_XXS {
  using Block = BlockIQ2_XXS;
  using X = Column256;
  static constexpr bool kHasMins = false;

  struct Pair {
    __m512i weights[2][4];
    __m512i scales;
  };
  __m512i above_8[4];
  __m512i is_43[4];

  GemvIQ2_XXS() {
    static const GridPlanes planes = make_grid_planes();
    for (int i = 0; i < 4; ++i) {
      above_8[i] = load_512(planes.above_8 + 64 * i);
      is_43[i] = load_512(planes.is_43 + 64 * i);
    }
  }
  // Vector l has the l-th eight elements of every group, so that one vector of scales suits all four.
  static void arrange(const int8_t* codes, const int16_t*, X::Arranged& to) {
    alignas(64) static constexpr int64_t kFirst[8] = {0, 4, 8, 12, 1, 5, 9, 13};
    alignas(64) static constexpr int64_t kLast[8] = {2, 6, 10, 14, 3, 7, 11, 15};
    const __m512i first = load_512(kFirst);
    const __m512i last = load_512(kLast);
    const __m512i x[4] = {load_512(codes), load_512(codes + 64), load_512(codes + 128), load_512(codes + 192)};
    const __m512i a = _mm512_permutex2var_epi64(x[0], first, x[1]);
    const __m512i b = _mm512_permutex2var_epi64(x[2], first, x[3]);
    const __m512i c = _mm512_permutex2var_epi64(x[0], last, x[1]);
    const __m512i d = _mm512_permutex2var_epi64(x[2], last, x[3]);
    const __m512i vectors[4] = {_mm512_shuffle_i32x4(a, b, 0x44), _mm512_shuffle_i32x4(a, b, 0xEE),
                                _mm512_shuffle_i32x4(c, d, 0x44), _mm512_shuffle_i32x4(c, d, 0xEE)};
    __m512i excess = _mm512_setzero_si512();
    for (int l = 0; l < 4; ++l) {
      _mm512_storeu_si512(to.codes + 64 * l, vectors[l]);
      excess = _mm512_dpbusd_epi32(excess, _mm512_set1_epi8(-128), vectors[l]);
    }
    _mm512_storeu_si512(to.words, _mm512_sub_epi32(_mm512_setzero_si512(), excess));
  }
  // Entries of a table of 256 bytes. bit_6, bit_7: where those bits of the index are set.
  static __m512i look_up(const __m512i* table, __m512i index, __mmask64 bit_6, __mmask64 bit_7) {
    __m512i low = _mm512_permutexvar_epi8(index, table[0]);
    low = _mm512_mask_permutexvar_epi8(low, bit_6, index, table[1]);
    __m512i high = _mm512_permutexvar_epi8(index, table[2]);
    high = _mm512_mask_permutexvar_epi8(high, bit_6, index, table[3]);
    return _mm512_mask_mov_epi8(low, bit_7, high);
  }
  // Eight bytes of planes, of two lookups, become eight weights of each.
  static void weights_of(__m512i planes, __m512i& first, __m512i& second) {
    const __m512i columns = _mm512_set1_epi64(bit_matrix({0x80, 0x40, 0x20, 0x10, 0x08, 0x04, 0x02, 0x01}));
    const __m512i bits = _mm512_gf2p8affine_epi64_epi8(columns, planes, 0);
    first = _mm512_gf2p8affine_epi64_epi8(bits, _mm512_set1_epi64(weight_matrix(7)), kPlus8);
    second = _mm512_gf2p8affine_epi64_epi8(bits, _mm512_set1_epi64(weight_matrix(3)), kPlus8);
  }
  // Quarters of a vector hold groups 2 k and 2 k + 1 of row a, then of b; of each the bytes of lookups 0 and 1, then 2
  // and 3, so that unpacking leaves every lookup in its group's place.
  void unpack(const std::byte* a, const std::byte* b, Pair& pair) const {
    const __m512i index_order = _mm512_set1_epi64(eight_bytes({0, 8, 32, 40, 16, 24, 48, 56}));
    const __m512i sign_order = _mm512_set1_epi64(eight_bytes({0, 7, 32, 39, 14, 21, 46, 53}));
    const __m512i parity = _mm512_set1_epi64(bit_matrix({1, 2, 4, 8, 16, 32, 64, 127}));
    const __m512i in_a = load_512(a + offsetof(BlockIQ2_XXS, qs));
    const __m512i in_b = load_512(b + offsetof(BlockIQ2_XXS, qs));
    const __m512i index = _mm512_multishift_epi64_epi8(index_order, even_words(in_a, in_b));
    const __m512i high = odd_words(in_a, in_b);
    const __m512i signs = _mm512_gf2p8affine_epi64_epi8(_mm512_multishift_epi64_epi8(sign_order, high), parity, 0);
    pair.scales = _mm512_or_si512(_mm512_srli_epi32(high, 27), _mm512_set1_epi32(1));
    const __mmask64 bit_7 = _mm512_movepi8_mask(index);
    const __mmask64 bit_6 = _mm512_movepi8_mask(_mm512_add_epi8(index, index));
    const __m512i above = look_up(above_8, index, bit_6, bit_7);
    const __m512i most = look_up(is_43, index, bit_6, bit_7);
    const __m512i both = _mm512_and_si512(signs, above);
    const __m512i magnitudes_a = _mm512_unpacklo_epi8(above, most);
    const __m512i magnitudes_b = _mm512_unpackhi_epi8(above, most);
    const __m512i signs_a = _mm512_unpacklo_epi8(signs, both);
    const __m512i signs_b = _mm512_unpackhi_epi8(signs, both);
    weights_of(_mm512_unpacklo_epi16(magnitudes_a, signs_a), pair.weights[0][0], pair.weights[0][1]);
    weights_of(_mm512_unpackhi_epi16(magnitudes_a, signs_a), pair.weights[0][2], pair.weights[0][3]);
    weights_of(_mm512_unpacklo_epi16(magnitudes_b, signs_b), pair.weights[1][0], pair.weights[1][1]);
    weights_of(_mm512_unpackhi_epi16(magnitudes_b, signs_b), pair.weights[1][2], pair.weights[1][3]);
  }
  static __m512i dot(const Pair& pair, const X::Arranged& x) {
    __m512i sums[2] = {load_512(x.words), load_512(x.words)};
#pragma GCC unroll 4
    for (int l = 0; l < 4; ++l) {
      const __m512i codes = load_512(x.codes + 64 * l);
      sums[0] = _mm512_dpbusd_epi32(sums[0], pair.weights[0][l], codes);
      sums[1] = _mm512_dpbusd_epi32(sums[1], pair.weights[1][l], codes);
    }
    return _mm512_mullo_epi32(add_neighbours(sums[0], sums[1]), pair.scales);
  }
  static __m512 scales(const RowGroup& group, int64_t offset) {
    return _mm512_mul_ps(low_halves(group.words(offset)), _mm512_set1_ps(0.125f));
  }
};

}  // namespace

}  // namespace ds4::cpu
