#pragma once
// size-check: templates

// The few-column kernels of AVX-512 (gemv_avx512.h) for Q8_0, MXFP4, Q2_K and Q4_K. Codes are the unsigned side of
// vpdpbusd, raised where they have signs; the columns' sums take that off again.

#include <cstring>

#include "backends/cpu/block_codes.h"
#include "backends/cpu/gemv_avx512_rows.h"

namespace ds4::cpu {

// Unnamed: compiled with flags of its own.
namespace {

struct GemvQ8_0 {
  using Block = BlockQ8_0;
  using X = Column32;
  static constexpr bool kHasMins = false;

  // Codes plus 128 are unsigned; the column's sum takes that off again. A vector holds two rows, four apart, so that
  // the sums come out in the order of the rows.
  template <int kN>
  static void multiply(const RowGroup& group, int64_t offset, int64_t block, const X* x, __m512i* sums) {
    __m512i pairs[kN][kGroupPairs];
#pragma GCC unroll 8
    for (int p = 0; p < kGroupPairs; ++p) {
      const int64_t row = p / 4 * 8 + p % 4;
      const int64_t codes = offset + static_cast<int64_t>(offsetof(BlockQ8_0, qs));
      const __m512i raised =
          _mm512_xor_si512(two_halves(group.rows[row] + codes, group.rows[row + 4] + codes), _mm512_set1_epi8(-128));
#pragma GCC unroll 8
      for (int c = 0; c < kN; ++c)
        pairs[c][p] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), raised, broadcast_256(x[c].codes + block * 32));
    }
#pragma GCC unroll 8
    for (int c = 0; c < kN; ++c) {
      const __m512i* p = pairs[c];
      const __m512i low = add_neighbours(add_neighbours(p[0], p[1]), add_neighbours(p[2], p[3]));
      const __m512i high = add_neighbours(add_neighbours(p[4], p[5]), add_neighbours(p[6], p[7]));
      sums[c] = _mm512_sub_epi32(add_quarters(low, high), _mm512_set1_epi32(128 * x[c].sums[block]));
    }
  }
  static __m512 scales(const RowGroup& group, int64_t offset) { return low_halves(group.words(offset)); }
};

struct GemvMXFP4 {
  using Block = BlockMXFP4;
  using X = Column32;
  static constexpr bool kHasMins = false;

  __m512i values;  // plus 12, by code

  GemvMXFP4() {
    alignas(64) uint8_t table[64];
    for (int i = 0; i < 64; ++i) table[i] = static_cast<uint8_t>(kDoubledE2M1[i % 16] + 12);
    values = load_512(table);
  }
  // A vector holds the packed bytes of four rows, four apart. The byte permutation looks at six bits, of which the
  // table ignores two.
  template <int kN>
  void multiply(const RowGroup& group, int64_t offset, int64_t block, const X* x, __m512i* sums) const {
    const auto bytes = [&](int64_t row) {
      return _mm_loadu_si128(
          reinterpret_cast<const __m128i*>(group.rows[row] + offset + static_cast<int64_t>(offsetof(BlockMXFP4, qs))));
    };
    __m512i parts[kN][4];
#pragma GCC unroll 4
    for (int row = 0; row < 4; ++row) {
      __m512i packed = _mm512_castsi128_si512(bytes(row));
      packed = _mm512_inserti32x4(packed, bytes(row + 4), 1);
      packed = _mm512_inserti32x4(packed, bytes(row + 8), 2);
      packed = _mm512_inserti32x4(packed, bytes(row + 12), 3);
      const __m512i low = _mm512_permutexvar_epi8(packed, values);
      const __m512i high = _mm512_permutexvar_epi8(_mm512_srli_epi16(packed, 4), values);
#pragma GCC unroll 8
      for (int c = 0; c < kN; ++c) {
        const int8_t* codes = x[c].codes + block * 32;
        const __m512i first = _mm512_dpbusd_epi32(_mm512_setzero_si512(), low, broadcast_128(codes));
        parts[c][row] = _mm512_dpbusd_epi32(first, high, broadcast_128(codes + 16));
      }
    }
#pragma GCC unroll 8
    for (int c = 0; c < kN; ++c) {
      const __m512i* p = parts[c];
      const __m512i all = add_neighbours(add_neighbours(p[0], p[1]), add_neighbours(p[2], p[3]));
      sums[c] = _mm512_sub_epi32(all, _mm512_set1_epi32(12 * x[c].sums[block]));
    }
  }
  static __m512 scales(const RowGroup& group, int64_t offset) {
    const __m512i codes = _mm512_and_si512(group.words(offset), _mm512_set1_epi32(255));
    return _mm512_castsi512_ps(_mm512_i32gather_epi32(codes, kHalfE8m0.values, 4));
  }
};

// Quarters of 16-bit words, each eight times byte `of[k]` of the quarter that a byte shuffle takes them from.
inline __m512i spread_words(const int (&of)[8]) {
  alignas(64) int16_t control[32];
  for (int i = 0; i < 32; ++i) control[i] = static_cast<int16_t>(0x8000 | of[i / 4]);
  return load_512(control);
}

struct GemvQ2_K {
  using Block = BlockQ2_K;
  using X = Column256;
  static constexpr bool kHasMins = true;

  struct Pair {
    __m512i weights[2][4];
  };
  // Which sub-block scales a quarter of vector j.
  __m512i spread[4];

  GemvQ2_K() {
    for (int j = 0; j < 4; ++j) {
      const int low = 2 * j;
      const int high = 8 + 2 * j;
      spread[j] = spread_words({low, low, low + 1, low + 1, high, high, high + 1, high + 1});
    }
  }
  // Element 128 n + 32 j + l goes to byte 32 n + l of vector j. The sums in pairs, of even and of odd sub-blocks.
  static void arrange(const int8_t* codes, const int16_t* sums, X::Arranged& to) {
    for (int j = 0; j < 4; ++j)
      _mm512_storeu_si512(to.codes + 64 * j, two_halves(codes + 32 * j, codes + 128 + 32 * j));
    for (int i = 0; i < 4; ++i) {
      to.words[2 * i] = word_of(sums[4 * i], sums[4 * i + 2]);
      to.words[2 * i + 1] = word_of(sums[4 * i + 1], sums[4 * i + 3]);
    }
  }
  // A code times its scale is at most 45 and stays a byte, so two are multiplied at once.
  void unpack_row(const std::byte* block, __m512i* weights) const {
    const __m512i packed = load_512(block + offsetof(BlockQ2_K, qs));
    const __m512i scales = _mm512_and_si512(broadcast_128(block + offsetof(BlockQ2_K, scales)), _mm512_set1_epi8(15));
    const __m512i codes[4] = {packed, _mm512_srli_epi16(packed, 2), _mm512_srli_epi16(packed, 4),
                              _mm512_srli_epi16(packed, 6)};
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j)
      weights[j] =
          _mm512_mullo_epi16(_mm512_and_si512(codes[j], _mm512_set1_epi8(3)), _mm512_shuffle_epi8(scales, spread[j]));
  }
  void unpack(const std::byte* a, const std::byte* b, Pair& pair) const {
    unpack_row(a, pair.weights[0]);
    unpack_row(b, pair.weights[1]);
  }
  static __m512i dot(const Pair& pair, const X::Arranged& x) {
    __m512i sums[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      const __m512i codes = load_512(x.codes + 64 * j);
      sums[0] = _mm512_dpbusd_epi32(sums[0], pair.weights[0][j], codes);
      sums[1] = _mm512_dpbusd_epi32(sums[1], pair.weights[1][j], codes);
    }
    return add_neighbours(sums[0], sums[1]);
  }
  // A lane is a row throughout.
  template <int kN>
  static void multiply_mins(const RowGroup& group, int64_t offset, int64_t block, const X* x, __m512i* sums) {
    for (int c = 0; c < kN; ++c) sums[c] = _mm512_setzero_si512();
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const __m512i packed = group.words(offset + 4 * i);
      const __m512i even = _mm512_and_si512(_mm512_srli_epi16(packed, 4), _mm512_set1_epi16(15));
      const __m512i odd = _mm512_srli_epi16(packed, 12);
#pragma GCC unroll 8
      for (int c = 0; c < kN; ++c) {
        const int32_t* words = x[c].blocks[block].words + 2 * i;
        sums[c] = _mm512_dpwssd_epi32(sums[c], even, _mm512_set1_epi32(words[0]));
        sums[c] = _mm512_dpwssd_epi32(sums[c], odd, _mm512_set1_epi32(words[1]));
      }
    }
  }
  static __m512i factors(const RowGroup& group, int64_t offset) {
    return group.words(offset + static_cast<int64_t>(offsetof(BlockQ2_K, d)));
  }
};

struct GemvQ4_K {
  using Block = BlockQ4_K;
  using X = Column256;
  static constexpr bool kHasMins = true;

  struct Pair {
    __m512i codes[2][4];
    __m512i scales[2][2];
  };
  // Of the eight scales as bytes: those of vectors 0 and 1, and of 2 and 3, after they were packed together.
  __m512i spread[2];

  GemvQ4_K() {
    spread[0] = spread_words({0, 1, 0, 1, 2, 3, 2, 3});
    spread[1] = spread_words({4, 5, 4, 5, 6, 7, 6, 7});
  }
  // Vectors of groups 0 and 2, 1 and 3, 4 and 6, 5 and 7. The groups' sums in the pairs that unpacked minima have.
  static void arrange(const int8_t* codes, const int16_t* sums, X::Arranged& to) {
    for (int v = 0; v < 4; ++v) {
      const int8_t* group = codes + 32 * (v / 2 * 4 + v % 2);
      _mm512_storeu_si512(to.codes + 64 * v, two_halves(group, group + 64));
    }
    const auto sum = [&](int group) { return sums[2 * group] + sums[2 * group + 1]; };
    for (int i = 0; i < 2; ++i) {
      to.words[2 * i] = word_of(sum(4 * i), sum(4 * i + 2));
      to.words[2 * i + 1] = word_of(sum(4 * i + 1), sum(4 * i + 3));
    }
  }
  void unpack_row(const std::byte* block, __m512i* codes, __m512i* scales) const {
    const __m512i nibble = _mm512_set1_epi8(15);
    const std::byte* qs = block + offsetof(BlockQ4_K, qs);
    const __m512i first = load_512(qs);
    const __m512i second = load_512(qs + 64);
    codes[0] = _mm512_and_si512(first, nibble);
    codes[1] = _mm512_and_si512(_mm512_srli_epi16(first, 4), nibble);
    codes[2] = _mm512_and_si512(second, nibble);
    codes[3] = _mm512_and_si512(_mm512_srli_epi16(second, 4), nibble);
    uint32_t packed[3];
    std::memcpy(packed, block + offsetof(BlockQ4_K, scales), sizeof(packed));
    const uint64_t low = packed[0] & 0x3F3F3F3F;
    const uint64_t high = (packed[2] & 0x0F0F0F0F) | ((packed[0] >> 2) & 0x30303030);
    const __m512i bytes = _mm512_set1_epi64(static_cast<long long>(low | high << 32));
    scales[0] = _mm512_shuffle_epi8(bytes, spread[0]);
    scales[1] = _mm512_shuffle_epi8(bytes, spread[1]);
  }
  void unpack(const std::byte* a, const std::byte* b, Pair& pair) const {
    unpack_row(a, pair.codes[0], pair.scales[0]);
    unpack_row(b, pair.codes[1], pair.scales[1]);
  }
  // Four products fit in 16 bits, so that two vectors of them meet their scales at once.
  static __m512i dot(const Pair& pair, const X::Arranged& x) {
    __m512i sums[2];
#pragma GCC unroll 2
    for (int r = 0; r < 2; ++r) {
      __m512i products[4];
#pragma GCC unroll 4
      for (int v = 0; v < 4; ++v)
        products[v] = _mm512_dpbusd_epi32(_mm512_setzero_si512(), pair.codes[r][v], load_512(x.codes + 64 * v));
      const __m512i low = _mm512_packs_epi32(products[0], products[1]);
      const __m512i high = _mm512_packs_epi32(products[2], products[3]);
      sums[r] = _mm512_dpwssd_epi32(_mm512_setzero_si512(), low, pair.scales[r][0]);
      sums[r] = _mm512_dpwssd_epi32(sums[r], high, pair.scales[r][1]);
    }
    return add_neighbours(sums[0], sums[1]);
  }
  template <int kN>
  static void multiply_mins(const RowGroup& group, int64_t offset, int64_t block, const X* x, __m512i* sums) {
    const auto field = [](__m512i bits, int mask) { return _mm512_and_si512(bits, _mm512_set1_epi32(mask)); };
    const __m512i top_scales = group.words(offset + static_cast<int64_t>(offsetof(BlockQ4_K, scales)) + 4);
    const __m512i mixed = group.words(offset + static_cast<int64_t>(offsetof(BlockQ4_K, scales)) + 8);
    const __m512i mins[2] = {field(top_scales, 0x3F3F3F3F),
                             _mm512_or_si512(field(_mm512_srli_epi32(mixed, 4), 0x0F0F0F0F),
                                             field(_mm512_srli_epi32(top_scales, 2), 0x30303030))};
    for (int c = 0; c < kN; ++c) sums[c] = _mm512_setzero_si512();
#pragma GCC unroll 2
    for (int i = 0; i < 2; ++i) {
      const __m512i even = field(mins[i], 0x00FF00FF);
      const __m512i odd = _mm512_srli_epi16(mins[i], 8);
#pragma GCC unroll 8
      for (int c = 0; c < kN; ++c) {
        const int32_t* words = x[c].blocks[block].words + 2 * i;
        sums[c] = _mm512_dpwssd_epi32(sums[c], even, _mm512_set1_epi32(words[0]));
        sums[c] = _mm512_dpwssd_epi32(sums[c], odd, _mm512_set1_epi32(words[1]));
      }
    }
  }
  static __m512i factors(const RowGroup& group, int64_t offset) { return group.words(offset); }
};

}  // namespace

}  // namespace ds4::cpu
