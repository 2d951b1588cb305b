#pragma once
// size-check: templates

// What the few-column kernels of AVX-512 share (gemv_avx512.h): groups of sixteen weight rows, sums across lanes for
// all of them together, and columns in the order in which weights are unpacked.

#include <immintrin.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "backends/cpu/kernels.h"
#include "gguf/blocks.h"

namespace ds4::cpu {

// Unnamed: compiled with flags of its own.
namespace {

inline constexpr int64_t kGroupRows = 16;
inline constexpr int64_t kGroupPairs = kGroupRows / 2;

inline __m512i load_512(const void* p) { return _mm512_loadu_si512(p); }
inline __m512i broadcast_128(const void* p) {
  return _mm512_broadcast_i32x4(_mm_loadu_si128(static_cast<const __m128i*>(p)));
}
inline __m512i broadcast_256(const void* p) {
  return _mm512_broadcast_i64x4(_mm256_loadu_si256(static_cast<const __m256i*>(p)));
}
inline __m512i two_halves(const void* low, const void* high) {
  const __m256i first = _mm256_loadu_si256(static_cast<const __m256i*>(low));
  return _mm512_inserti64x4(_mm512_castsi256_si512(first), _mm256_loadu_si256(static_cast<const __m256i*>(high)), 1);
}
inline __m512i even_words(__m512i a, __m512i b) {
  return _mm512_castps_si512(_mm512_shuffle_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), 0x88));
}
inline __m512i odd_words(__m512i a, __m512i b) {
  return _mm512_castps_si512(_mm512_shuffle_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), 0xDD));
}
// Of every quarter: sums of neighbours, two of a, then two of b.
inline __m512i add_neighbours(__m512i a, __m512i b) { return _mm512_add_epi32(even_words(a, b), odd_words(a, b)); }
// Sums of neighbouring quarters, two of a, then two of b.
inline __m512i add_quarters(__m512i a, __m512i b) {
  return _mm512_add_epi32(_mm512_shuffle_i32x4(a, b, 0x88), _mm512_shuffle_i32x4(a, b, 0xDD));
}
// Lane r: the sum of what add_neighbours left of row r in pairs[r / 2].
inline __m512i add_pairs(const __m512i* pairs) {
  const __m512i a = add_neighbours(pairs[0], pairs[1]);
  const __m512i b = add_neighbours(pairs[2], pairs[3]);
  const __m512i c = add_neighbours(pairs[4], pairs[5]);
  const __m512i d = add_neighbours(pairs[6], pairs[7]);
  return add_quarters(add_quarters(a, b), add_quarters(c, d));
}

// Sixteen rows from one block on; those beyond the last repeat it.
struct RowGroup {
  const std::byte* rows[kGroupRows];
  __m512i offsets;  // bytes from the first
  __mmask16 mask;   // lanes that are rows

  // n_rows of the matrix's rows are left.
  RowGroup(const std::byte* first, int64_t row_bytes, int64_t n_rows) {
    alignas(64) int32_t distances[kGroupRows];
    for (int64_t r = 0; r < kGroupRows; ++r) {
      const int64_t distance = std::min(r, n_rows - 1) * row_bytes;
      rows[r] = first + distance;
      distances[r] = static_cast<int32_t>(distance);
    }
    offsets = load_512(distances);
    mask = static_cast<__mmask16>((1u << std::min(n_rows, kGroupRows)) - 1);
  }
  // The four bytes at `offset` of every row.
  __m512i words(int64_t offset) const { return _mm512_i32gather_epi32(offsets, rows[0] + offset, 1); }
};

inline __m512 low_halves(__m512i words) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(words)); }
inline __m512 high_halves(__m512i words) { return low_halves(_mm512_srli_epi32(words, 16)); }

// A column's blocks of 32 as they are.
struct Column32 {
  static constexpr int64_t kBlocks = int64_t{1} << 40;  // all of them
  const int8_t* codes = nullptr;
  const int16_t* sums = nullptr;

  template <class Kernel>
  void set(const Column& column, int64_t first, int64_t) {
    codes = column.codes + first * 32;
    sums = column.sums + first;
  }
};

// A segment of a column's blocks of 256 in the order in which a kernel unpacks weights.
struct Column256 {
  static constexpr int64_t kBlocks = 16;
  struct alignas(64) Arranged {
    int8_t codes[256];
    int32_t words[16];
  };
  Arranged blocks[kBlocks];

  template <class Kernel>
  void set(const Column& column, int64_t first, int64_t n) {
    for (int64_t b = 0; b < n; ++b)
      Kernel::arrange(column.codes + (first + b) * 256, column.sums + (first + b) * 16, blocks[b]);
  }
};

// Two 16-bit numbers as one word.
inline int32_t word_of(int low, int high) {
  return static_cast<int32_t>((static_cast<uint32_t>(low) & 0xFFFFu) | static_cast<uint32_t>(high) << 16);
}

// kernel.unpack for pairs of rows, kernel.dot for every column with them: sums of rows by lanes.
template <class Kernel, int kN>
void multiply_pairs(const Kernel& kernel, const RowGroup& group, int64_t offset, int64_t block, const Column256* x,
                    __m512i* sums) {
  constexpr auto kBytes = static_cast<int64_t>(sizeof(typename Kernel::Block));
  __m512i pairs[kN][kGroupPairs];
#pragma GCC unroll 2
  for (int p = 0; p < kGroupPairs; ++p) {
    const std::byte* a = group.rows[2 * p] + offset;
    const std::byte* b = group.rows[2 * p + 1] + offset;
    // From the second cache to the first, two blocks ahead: some 4 % of the time of Q4_K and IQ2_XXS.
    for (int64_t line = 2 * kBytes; line < 3 * kBytes; line += 64) {
      _mm_prefetch(a + line, _MM_HINT_T0);
      _mm_prefetch(b + line, _MM_HINT_T0);
    }
    typename Kernel::Pair pair;
    kernel.unpack(a, b, pair);
#pragma GCC unroll 8
    for (int c = 0; c < kN; ++c) pairs[c][p] = Kernel::dot(pair, x[c].blocks[block]);
  }
#pragma GCC unroll 8
  for (int c = 0; c < kN; ++c) sums[c] = add_pairs(pairs[c]);
}

}  // namespace

}  // namespace ds4::cpu
