#pragma once

// Scales, minima and codes that the search for Q2_K and Q4_K found (gguf/quantize_affine.h), into the blocks of the
// file.

#include <cstddef>
#include <cstdint>

#include "gguf/blocks.h"

namespace ds4 {

template <class Found>
void pack_block(const Found& found, BlockQ2_K& block) {
  block.d = found.d;
  block.dmin = found.dmin;
  for (size_t b = 0; b < 16; ++b) block.scales[b] = static_cast<uint8_t>(found.scales[b] | (found.minima[b] << 4));
  for (size_t i = 0; i < BlockQ2_K::kElements; ++i) {
    uint8_t& packed = block.qs[32 * (i / 128) + i % 32];
    packed = static_cast<uint8_t>(packed | (found.codes[i] << (2 * ((i % 128) / 32))));
  }
}

template <class Found>
void pack_block(const Found& found, BlockQ4_K& block) {
  block.d = found.d;
  block.dmin = found.dmin;
  for (size_t b = 0; b < 4; ++b) {
    block.scales[b] = static_cast<uint8_t>(found.scales[b] | ((found.scales[b + 4] >> 4) << 6));
    block.scales[b + 4] = static_cast<uint8_t>(found.minima[b] | ((found.minima[b + 4] >> 4) << 6));
    block.scales[b + 8] = static_cast<uint8_t>((found.scales[b + 4] & 15) | ((found.minima[b + 4] & 15) << 4));
  }
  for (size_t i = 0; i < BlockQ4_K::kElements; ++i) {
    uint8_t& packed = block.qs[32 * (i / 64) + i % 32];
    packed = static_cast<uint8_t>(packed | (found.codes[i] << (4 * ((i / 32) % 2))));
  }
}

}  // namespace ds4
