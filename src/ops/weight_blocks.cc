#include "ops/weight_blocks.h"

#include <bit>
#include <cstring>

#include "base/check.h"
#include "base/float_formats.h"
#include "gguf/blocks.h"
#include "gguf/iq_tables.h"

namespace ds4 {

namespace {

// Twice the E2M1 values, so that they are integers; the scale is halved.
constexpr int8_t kDoubledE2M1[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

void unpack(const BlockQ8_0& block, WeightBlock32& out) {
  out.scale = f16_to_f32(block.d);
  std::memcpy(out.codes, block.qs, sizeof(out.codes));
}

void unpack(const BlockMXFP4& block, WeightBlock32& out) {
  out.scale = e8m0_to_f32(block.e) * 0.5f;
  for (int j = 0; j < 16; ++j) {
    out.codes[j] = kDoubledE2M1[block.qs[j] & 15];
    out.codes[j + 16] = kDoubledE2M1[block.qs[j] >> 4];
  }
}

void unpack(const BlockQ2_K& block, WeightBlock256& out) {
  out.d = f16_to_f32(block.d);
  out.dmin = f16_to_f32(block.dmin);
  for (int t = 0; t < 16; ++t) {
    out.scales[t] = block.scales[t] & 15;
    out.mins[t] = block.scales[t] >> 4;
  }
  for (int n = 0; n < 2; ++n) {
    for (int j = 0; j < 4; ++j) {
      for (int l = 0; l < 32; ++l)
        out.codes[128 * n + 32 * j + l] = static_cast<int8_t>((block.qs[32 * n + l] >> (2 * j)) & 3);
    }
  }
}

void unpack(const BlockQ4_K& block, WeightBlock256& out) {
  out.d = f16_to_f32(block.d);
  out.dmin = f16_to_f32(block.dmin);
  for (int b = 0; b < 8; ++b) {
    const ScaleMin scale_min = q4k_scale_min(block.scales, b);
    for (int t = 2 * b; t < 2 * b + 2; ++t) {
      out.scales[t] = scale_min.scale;
      out.mins[t] = scale_min.min;
    }
    for (int l = 0; l < 32; ++l)
      out.codes[32 * b + l] = static_cast<int8_t>((block.qs[32 * (b / 2) + l] >> (4 * (b & 1))) & 15);
  }
}

void unpack(const BlockIQ2_XXS& block, WeightBlock256& out) {
  out.d = f16_to_f32(block.d) * 0.125f;
  out.dmin = 0.0f;
  std::memset(out.mins, 0, sizeof(out.mins));
  for (int g = 0; g < 8; ++g) {
    const uint16_t* words = block.qs + 4 * g;
    const uint32_t grid_indices = words[0] | (static_cast<uint32_t>(words[1]) << 16);
    const uint32_t signs_and_scale = words[2] | (static_cast<uint32_t>(words[3]) << 16);
    const auto scale = static_cast<int16_t>(2 * (signs_and_scale >> 28) + 1);
    out.scales[2 * g] = scale;
    out.scales[2 * g + 1] = scale;
    for (uint32_t l = 0; l < 4; ++l) {
      const auto& entry = kIq2xxsGrid[(grid_indices >> (8 * l)) & 255];
      const uint8_t signs = iq2xxs_signs((signs_and_scale >> (7 * l)) & 127);
      for (uint32_t j = 0; j < 8; ++j) {
        const auto magnitude = static_cast<int8_t>(entry[j]);
        out.codes[32 * g + static_cast<int>(8 * l + j)] =
            (signs >> j) & 1 ? static_cast<int8_t>(-magnitude) : magnitude;
      }
    }
  }
}

template <class Block, class Unpacked>
void unpack_row(const std::byte* row, int64_t n_elements, Unpacked* out) {
  for (int64_t i = 0; i < n_elements / Block::kElements; ++i) {
    Block block;  // rows of a file have no alignment to speak of
    std::memcpy(&block, row + i * static_cast<int64_t>(sizeof(Block)), sizeof(Block));
    unpack(block, out[i]);
  }
}

}  // namespace

void unpack_blocks_32(DType type, const std::byte* row, int64_t n_elements, WeightBlock32* out) {
  if (type == DType::kQ8_0) return unpack_row<BlockQ8_0>(row, n_elements, out);
  if (type == DType::kMXFP4) return unpack_row<BlockMXFP4>(row, n_elements, out);
  CHECK(false, "{} has no blocks of 32", dtype_name(type));
}

void unpack_blocks_256(DType type, const std::byte* row, int64_t n_elements, WeightBlock256* out) {
  if (type == DType::kQ2_K) return unpack_row<BlockQ2_K>(row, n_elements, out);
  if (type == DType::kQ4_K) return unpack_row<BlockQ4_K>(row, n_elements, out);
  if (type == DType::kIQ2_XXS) return unpack_row<BlockIQ2_XXS>(row, n_elements, out);
  CHECK(false, "{} has no blocks of 256", dtype_name(type));
}

}  // namespace ds4
