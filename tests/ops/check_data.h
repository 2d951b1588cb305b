#pragma once

// Inputs of the known-answer tests: the byte and activation patterns for which an independent program computed the
// expected values from the formulas.

#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <utility>
#include <vector>

#include "base/tensor.h"

namespace ds4::test {

inline std::vector<float> pattern_activations(int n) {
  std::vector<float> x;
  for (int i = 0; i < n; ++i) x.push_back(static_cast<float>((29 * i + 7) % 101 - 50) / 16.0f);
  return x;
}

// Bytes (73 i + 41) mod 256 with F16 fields replaced.
inline std::vector<std::byte> pattern_block(DType type, std::initializer_list<std::pair<size_t, uint16_t>> halves) {
  std::vector<std::byte> block(dtype_info(type).block_bytes);
  for (size_t i = 0; i < block.size(); ++i) block[i] = static_cast<std::byte>((73 * i + 41) & 255);
  for (const auto& [offset, bits] : halves) std::memcpy(block.data() + offset, &bits, sizeof(bits));
  return block;
}

inline constexpr uint16_t kHalfEighth = 0x3000;     // 0.125
inline constexpr uint16_t kHalfSixteenth = 0x2C00;  // 0.0625

}  // namespace ds4::test
