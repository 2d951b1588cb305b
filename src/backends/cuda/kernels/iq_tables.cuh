// size-check: data
#pragma once

// The code book of IQ2_XXS on the device (gguf/iq_tables.h), and the bytes that its signs and those of MXFP4 give.

#include <cuda_runtime.h>

#include <cstdint>

namespace ds4::cuda {

// Two bits per element from bit 0: 0 is 8, 1 is 25, 2 is 43.
static __device__ const uint16_t kIq2xxsCodes[256] = {
#include "gguf/iq2_grid_codes.inc"
};

// Eight magnitudes as bytes.
__device__ inline uint2 iq2xxs_grid(uint32_t index) {
  const uint32_t code = kIq2xxsCodes[index];
  uint32_t words[2] = {0, 0};
  for (uint32_t j = 0; j < 8; ++j) {
    const uint32_t two = (code >> (2 * j)) & 3u;
    words[j / 4] |= (two == 0 ? 8u : two == 1 ? 25u : 43u) << (8 * (j % 4));
  }
  return {words[0], words[1]};
}

// Bytes with their sign turned where the bit of their index is set; none is 0.
__device__ inline uint32_t negate_bytes(uint32_t bytes, uint32_t bits) {
  uint32_t mask = 0;
  for (uint32_t j = 0; j < 4; ++j) mask |= ((bits >> j) & 1u) * (0xFFu << (8 * j));
  return __vadd4(bytes ^ mask, mask & 0x01010101u);
}

// Twice the E2M1 value of a code.
__device__ inline int doubled_e2m1(uint32_t code) {
  const uint32_t index = code & 7u;
  const int magnitude = index < 4 ? static_cast<int>(index) : index == 4 ? 4 : index == 5 ? 6 : index == 6 ? 8 : 12;
  return (code & 8u) != 0 ? -magnitude : magnitude;
}

}  // namespace ds4::cuda
