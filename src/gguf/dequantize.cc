#include "gguf/dequantize.h"

#include <cstring>

#include "base/float_formats.h"
#include "gguf/blocks.h"
#include "gguf/iq_tables.h"

namespace ds4 {

namespace {

void dequantize_block(const BlockQ8_0& block, float* out) {
  const float d = f16_to_f32(block.d);
  for (int i = 0; i < BlockQ8_0::kElements; ++i) out[i] = d * static_cast<float>(block.qs[i]);
}

void dequantize_block(const BlockQ2_K& block, float* out) {
  const float d = f16_to_f32(block.d);
  const float dmin = f16_to_f32(block.dmin);
  for (int i = 0; i < BlockQ2_K::kElements; ++i) {
    const int half = i / 128;
    const int shift = 2 * ((i % 128) / 32);
    const uint8_t scale = block.scales[i / BlockQ2_K::kSubElements];
    const auto q = static_cast<float>((block.qs[32 * half + i % 32] >> shift) & 3);
    out[i] = d * static_cast<float>(scale & 15) * q - dmin * static_cast<float>(scale >> 4);
  }
}

void dequantize_block(const BlockQ4_K& block, float* out) {
  const float d = f16_to_f32(block.d);
  const float dmin = f16_to_f32(block.dmin);
  for (int b = 0; b < BlockQ4_K::kElements / BlockQ4_K::kSubElements; ++b) {
    const ScaleMin sub = q4k_scale_min(block.scales, b);
    const float step = d * static_cast<float>(sub.scale);
    const float minimum = dmin * static_cast<float>(sub.min);
    for (int l = 0; l < BlockQ4_K::kSubElements; ++l) {
      const int q = (block.qs[32 * (b / 2) + l] >> (4 * (b % 2))) & 15;
      out[BlockQ4_K::kSubElements * b + l] = step * static_cast<float>(q) - minimum;
    }
  }
}

void dequantize_block(const BlockIQ2_XXS& block, float* out) {
  const float d = f16_to_f32(block.d);
  for (int g = 0; g < BlockIQ2_XXS::kElements / 32; ++g) {
    const uint16_t* words = block.qs + 4 * g;
    const uint32_t signs_and_scale = words[2] | (static_cast<uint32_t>(words[3]) << 16);
    const float scale = d * (0.5f + static_cast<float>(signs_and_scale >> 28)) * 0.25f;
    for (int l = 0; l < 4; ++l) {
      const auto& entry = kIq2xxsGrid[(words[l / 2] >> (8 * (l % 2))) & 255u];
      const uint8_t signs = iq2xxs_signs((signs_and_scale >> (7 * l)) & 127u);
      for (size_t j = 0; j < 8; ++j) {
        const float magnitude = scale * static_cast<float>(entry[j]);
        *out++ = ((signs >> j) & 1) != 0 ? -magnitude : magnitude;
      }
    }
  }
}

void dequantize_block(const BlockMXFP4& block, float* out) {
  const float scale = e8m0_to_f32(block.e);
  for (int j = 0; j < BlockMXFP4::kElements / 2; ++j) {
    out[j] = e2m1_to_f32(block.qs[j] & 15) * scale;
    out[j + BlockMXFP4::kElements / 2] = e2m1_to_f32(block.qs[j] >> 4) * scale;
  }
}

// Blocks are copied out first: rows of odd-sized blocks are not aligned.
template <class Block>
void dequantize_blocks(const std::byte* source, float* out, int64_t n_elements) {
  for (int64_t i = 0; i < n_elements; i += Block::kElements, source += sizeof(Block)) {
    Block block;
    std::memcpy(&block, source, sizeof(Block));
    dequantize_block(block, out + i);
  }
}

template <float (*ToFloat)(uint16_t)>
void widen(const std::byte* source, float* out, int64_t n_elements) {
  for (int64_t i = 0; i < n_elements; ++i) {
    uint16_t bits;
    std::memcpy(&bits, source + 2 * i, 2);
    out[i] = ToFloat(bits);
  }
}

}  // namespace

void dequantize_row(DType type, const std::byte* source, float* out, int64_t n_elements) {
  CHECK(n_elements >= 0 && n_elements % dtype_info(type).block_elements == 0, "{} elements of {}", n_elements,
        dtype_name(type));
  switch (type) {
    case DType::kF32: std::memcpy(out, source, static_cast<size_t>(n_elements) * sizeof(float)); return;
    case DType::kF16: widen<f16_to_f32>(source, out, n_elements); return;
    case DType::kBF16: widen<bf16_to_f32>(source, out, n_elements); return;
    case DType::kQ8_0: dequantize_blocks<BlockQ8_0>(source, out, n_elements); return;
    case DType::kQ2_K: dequantize_blocks<BlockQ2_K>(source, out, n_elements); return;
    case DType::kQ4_K: dequantize_blocks<BlockQ4_K>(source, out, n_elements); return;
    case DType::kIQ2_XXS: dequantize_blocks<BlockIQ2_XXS>(source, out, n_elements); return;
    case DType::kMXFP4: dequantize_blocks<BlockMXFP4>(source, out, n_elements); return;
    case DType::kI32:
    case DType::kU8: break;
  }
  CHECK(false, "{} has no float values", dtype_name(type));
}

bool is_float_type(DType type) { return type != DType::kI32 && type != DType::kU8; }

}  // namespace ds4
