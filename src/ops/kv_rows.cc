#include "ops/kv_rows.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/float_formats.h"

namespace ds4 {

namespace {

constexpr float kSmallestFp8Amax = 1e-4f;
constexpr float kInverseFp8Max = 1.0f / 448.0f;
constexpr float kSmallestFp4Amax = 6.0f * 0x1p-126f;
constexpr float kInverseFp4Max = 1.0f / 6.0f;
constexpr int kE8M0Bias = 127;

// E8M0 code of the power of two that brings the group's largest value into range; never above 254.
uint8_t group_scale(const float* x, int32_t n, float smallest, float inverse_max) {
  float amax = smallest;
  for (int32_t i = 0; i < n; ++i) amax = std::max(amax, std::fabs(x[i]));
  return static_cast<uint8_t>(std::clamp(ceil_log2(amax * inverse_max) + kE8M0Bias, 1, 254));
}

void pack_fp8(const float* x, const KvRowFormat& format, std::byte* row) {
  const int32_t n_codes = format.width - format.n_rot;
  const int32_t n_groups = (n_codes + kFp8Group - 1) / kFp8Group;
  for (int32_t group = 0; group < n_groups; ++group) {
    const int32_t first = group * kFp8Group;
    const int32_t n = std::min(kFp8Group, n_codes - first);
    const uint8_t scale = group_scale(x + first, n, kSmallestFp8Amax, kInverseFp8Max);
    const float inverse = 1.0f / e8m0_to_f32(scale);  // exact: a power of two
    for (int32_t i = first; i < first + n; ++i) row[i] = static_cast<std::byte>(f32_to_e4m3(x[i] * inverse));
    row[n_codes + group] = static_cast<std::byte>(scale);
  }
  for (int32_t i = 0; i < format.n_rot; ++i) {
    const uint16_t half = f32_to_f16(x[n_codes + i]);
    std::memcpy(row + n_codes + n_groups + 2 * i, &half, 2);
  }
}

void unpack_fp8(const std::byte* row, const KvRowFormat& format, float* x) {
  const int32_t n_codes = format.width - format.n_rot;
  const int32_t n_groups = (n_codes + kFp8Group - 1) / kFp8Group;
  for (int32_t group = 0; group < n_groups; ++group) {
    const float scale = e8m0_to_f32(static_cast<uint8_t>(row[n_codes + group]));
    const int32_t end = std::min((group + 1) * kFp8Group, n_codes);
    for (int32_t i = group * kFp8Group; i < end; ++i) x[i] = e4m3_to_f32(static_cast<uint8_t>(row[i])) * scale;
  }
  for (int32_t i = 0; i < format.n_rot; ++i) {
    uint16_t half = 0;
    std::memcpy(&half, row + n_codes + n_groups + 2 * i, 2);
    x[n_codes + i] = f16_to_f32(half);
  }
}

void pack_fp4(const float* x, const KvRowFormat& format, std::byte* row) {
  for (int32_t first = 0; first < format.width; first += kFp4Group) {
    const uint8_t scale = group_scale(x + first, kFp4Group, kSmallestFp4Amax, kInverseFp4Max);
    const float inverse = 1.0f / e8m0_to_f32(scale);
    for (int32_t i = first; i < first + kFp4Group; i += 2) {
      const int low = f32_to_e2m1(x[i] * inverse);
      const int high = f32_to_e2m1(x[i + 1] * inverse);
      row[i / 2] = static_cast<std::byte>(low | (high << 4));
    }
    row[format.width / 2 + first / kFp4Group] = static_cast<std::byte>(scale);
  }
}

void unpack_fp4(const std::byte* row, const KvRowFormat& format, float* x) {
  for (int32_t i = 0; i < format.width; ++i) {
    const auto pair = static_cast<uint8_t>(row[i / 2]);
    const float scale = e8m0_to_f32(static_cast<uint8_t>(row[format.width / 2 + i / kFp4Group]));
    x[i] = e2m1_to_f32(static_cast<uint8_t>((i % 2 == 0 ? pair : pair >> 4) & 15)) * scale;
  }
}

}  // namespace

void pack_kv_row(const float* x, const KvRowFormat& format, std::byte* row) {
  std::memset(row, 0, static_cast<size_t>(format.row_bytes));
  switch (format.encoding) {
    case KvEncoding::kF32: std::memcpy(row, x, static_cast<size_t>(format.width) * sizeof(float)); return;
    case KvEncoding::kFp8: pack_fp8(x, format, row); return;
    case KvEncoding::kFp4: pack_fp4(x, format, row); return;
  }
}

void unpack_kv_row(const std::byte* row, const KvRowFormat& format, float* x) {
  switch (format.encoding) {
    case KvEncoding::kF32: std::memcpy(x, row, static_cast<size_t>(format.width) * sizeof(float)); return;
    case KvEncoding::kFp8: unpack_fp8(row, format, x); return;
    case KvEncoding::kFp4: unpack_fp4(row, format, x); return;
  }
}

void hadamard(float* x, int32_t n) {
  for (int32_t stride = 1; stride < n; stride *= 2) {
    for (int32_t block = 0; block < n; block += 2 * stride) {
      for (int32_t i = block; i < block + stride; ++i) {
        const float a = x[i];
        const float b = x[i + stride];
        x[i] = a + b;
        x[i + stride] = a - b;
      }
    }
  }
  const auto norm = static_cast<float>(1.0 / std::sqrt(static_cast<double>(n)));
  for (int32_t i = 0; i < n; ++i) x[i] *= norm;
}

}  // namespace ds4
