#pragma once

// Vectors for the quantisers' searches, by the compilers' vector extension: the same source for every instruction set,
// and because lanes never mix, the same results for every width. Included by the files that are compiled for one
// instruction set each; everything is inlined into them.

#include <array>
#include <cstddef>
#include <cstdint>

namespace ds4 {

template <size_t kWidth>
struct Simd {
  static constexpr size_t kLanes = kWidth;
  typedef float F __attribute__((vector_size(kWidth * sizeof(float))));
  typedef int32_t I __attribute__((vector_size(kWidth * sizeof(int32_t))));
};

// kCount lanes in vectors of the set's width.
template <class S, size_t kCount>
struct Lanes {
  static_assert(kCount % S::kLanes == 0);
  static constexpr size_t kVectors = kCount / S::kLanes;
  typename S::F v[kVectors] = {};

  float get(size_t lane) const { return v[lane / S::kLanes][lane % S::kLanes]; }
  void set(size_t lane, float value) { v[lane / S::kLanes][lane % S::kLanes] = value; }
};

template <class V>
inline V min_of(V a, V b) {
  return a < b ? a : b;
}
template <class V>
inline V max_of(V a, V b) {
  return a > b ? a : b;
}

// To the nearest integer, ties to even, for magnitudes below 2^22.
template <class V>
inline V round_even(V value) {
  constexpr float kShift = 12582912.0f;  // 1.5 * 2^23: the unit in the last place is 1
  return (value + kShift) - kShift;
}

}  // namespace ds4
