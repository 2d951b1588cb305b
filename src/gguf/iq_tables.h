#pragma once

// The code book of IQ2_XXS: 256 entries of eight magnitudes (8, 25 or 43), as bytes in element order, and
// the sign rule. Only seven sign bits are stored; the eighth makes the number of minus signs even.

#include <array>
#include <bit>
#include <cstdint>

namespace ds4 {

using Iq2xxsGrid = std::array<std::array<uint8_t, 8>, 256>;

extern const Iq2xxsGrid kIq2xxsGrid;

// Bit j is set when element j is negative. `code` is the stored 7-bit value.
constexpr uint8_t iq2xxs_signs(uint32_t code) {
  return static_cast<uint8_t>(code | (static_cast<uint32_t>(std::popcount(code) & 1) << 7));
}

}  // namespace ds4
