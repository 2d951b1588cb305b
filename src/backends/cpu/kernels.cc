#include "backends/cpu/kernels.h"

#include <bit>
#include <cstring>

#include "gguf/dequantize.h"
#include "ops/kv_rows.h"
#include "ops/reference/dot.h"

// One copy per x86 level, picked by the loader. Sanitizers start after the loader, so their builds have one copy.
#if defined(__x86_64__) && !defined(DS4_SANITIZED)
#define DS4_MULTIVERSION __attribute__((target_clones("arch=skylake-avx512", "arch=haswell", "default")))
#else
#define DS4_MULTIVERSION
#endif

namespace ds4::cpu {

DS4_MULTIVERSION float dot(const float* a, const float* b, int64_t n) {
  constexpr int kLanes = reference::kDotLanes;
  float lanes[kLanes] = {};
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) lanes[lane] += a[i + lane] * b[i + lane];
  }
  for (int lane = 0; i + lane < n; ++lane) lanes[lane] += a[i + lane] * b[i + lane];
  for (int width = kLanes / 2; width >= 1; width /= 2) {
    for (int lane = 0; lane < width; ++lane) lanes[lane] += lanes[lane + width];
  }
  return lanes[0];
}

DS4_MULTIVERSION void add_scaled(const float* x, float factor, int64_t n, float* sum) {
  for (int64_t i = 0; i < n; ++i) sum[i] += factor * x[i];
}

DS4_MULTIVERSION float dot_blocks(const WeightBlock32* w, const Q8_0Activation* x, int64_t n_blocks) {
  float sum = 0.0f;
  for (int64_t block = 0; block < n_blocks; ++block) {
    int32_t product = 0;
    for (int i = 0; i < 32; ++i) product += w[block].codes[i] * x[block].codes[i];
    sum += (w[block].scale * x[block].scale) * static_cast<float>(product);
  }
  return sum;
}

DS4_MULTIVERSION float dot_blocks(const WeightBlock256* w, const Q8_KActivation* x, int64_t n_blocks) {
  float sum = 0.0f;
  for (int64_t block = 0; block < n_blocks; ++block) {
    const WeightBlock256& wb = w[block];
    const Q8_KActivation& xb = x[block];
    int32_t product = 0;
    int32_t minimum = 0;
    for (int t = 0; t < 16; ++t) {
      int32_t part = 0;
      for (int i = 0; i < 16; ++i) part += wb.codes[16 * t + i] * xb.codes[16 * t + i];
      product += wb.scales[t] * part;
      minimum += wb.mins[t] * xb.sums[t];
    }
    sum += (xb.scale * wb.d) * static_cast<float>(product) - (xb.scale * wb.dmin) * static_cast<float>(minimum);
  }
  return sum;
}

namespace {

// E4M3 as an F32 with its exponent 120 too small: exact for subnormal codes too. KV rows hold no NaN codes.
DS4_MULTIVERSION void decode_e4m3(const uint8_t* codes, float scale, int n, float* x) {
  for (int i = 0; i < n; ++i) {
    const uint32_t magnitude = static_cast<uint32_t>(codes[i] & 0x7F) << 20;
    const uint32_t sign = static_cast<uint32_t>(codes[i] & 0x80) << 24;
    x[i] = std::bit_cast<float>(magnitude | sign) * 0x1p120f * scale;
  }
}

}  // namespace

void unpack_row(const std::byte* row, const KvRowFormat& format, float* x) {
  if (format.encoding != KvEncoding::kFp8) return unpack_kv_row(row, format, x);
  const int32_t n_codes = format.width - format.n_rot;
  for (int32_t first = 0; first < n_codes; first += kFp8Group) {
    const auto scale = static_cast<uint32_t>(row[n_codes + first / kFp8Group]);
    const int n = n_codes - first < kFp8Group ? n_codes - first : kFp8Group;
    decode_e4m3(reinterpret_cast<const uint8_t*>(row) + first, std::bit_cast<float>(scale << 23), n, x + first);
  }
  const int32_t n_groups = (n_codes + kFp8Group - 1) / kFp8Group;
  dequantize_row(DType::kF16, row + n_codes + n_groups, x + n_codes, format.n_rot);
}

void WeightRow::load(DType type, const std::byte* row, int64_t n, ActivationForm form) {
  form_ = form;
  n_ = n;
  switch (form) {
    case ActivationForm::kReal:
      if (type == DType::kF32) {
        real_ = reinterpret_cast<const float*>(row);
        return;
      }
      storage_.resize(static_cast<size_t>(n));
      dequantize_row(type, row, storage_.data(), n);
      real_ = storage_.data();
      return;
    case ActivationForm::kQ8_0:
      blocks_32_.resize(static_cast<size_t>(n / 32));
      unpack_blocks_32(type, row, n, blocks_32_.data());
      return;
    case ActivationForm::kQ8_K:
      blocks_256_.resize(static_cast<size_t>(n / 256));
      unpack_blocks_256(type, row, n, blocks_256_.data());
      return;
  }
}

float WeightRow::dot(const ActivationRow& x) const {
  switch (form_) {
    case ActivationForm::kReal: return cpu::dot(real_, x.real(), n_);
    case ActivationForm::kQ8_0: return dot_blocks(blocks_32_.data(), x.q8_0(), n_ / 32);
    case ActivationForm::kQ8_K: return dot_blocks(blocks_256_.data(), x.q8_k(), n_ / 256);
  }
  return 0.0f;
}

}  // namespace ds4::cpu
