#include "ops/case_builder.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/float_formats.h"
#include "base/rng.h"
#include "gguf/blocks.h"
#include "gguf/dequantize.h"
#include "gguf/quantize.h"
#include "ops/activation_quant.h"
#include "ops/weight_blocks.h"

namespace ds4 {

namespace {

constexpr std::byte kCanary{0xFF};

uint64_t random_bits(uint64_t seed, int64_t index) {
  return splitmix64_mix(seed + (static_cast<uint64_t>(index) + 1) * kGoldenGamma);
}

// In [-1, 1), a multiple of 2^-23.
float random_unit(uint64_t seed, int64_t index) {
  return static_cast<float>(static_cast<int32_t>(random_bits(seed, index) >> 40) - (1 << 23)) * 0x1p-23f;
}

float make_value(Fill fill, int64_t i, uint64_t seed) {
  const float sign = (random_bits(seed, ~i) & 1) != 0 ? -1.0f : 1.0f;
  switch (fill.kind) {
    case Fill::Kind::kUniform: return random_unit(seed, i) * fill.scale;
    case Fill::Kind::kZero: return 0.0f;
    case Fill::Kind::kConstant: return fill.scale;
    case Fill::Kind::kSubnormal: return random_unit(seed, i) * 0x1p-127f;
    case Fill::Kind::kIntegers: {
      const auto limit = static_cast<int32_t>(fill.scale);
      return static_cast<float>(pick(seed, i, 2 * limit + 1) - limit);
    }
    case Fill::Kind::kHalves: return i % 32 == 0 ? 127.0f : sign * (static_cast<float>(pick(seed, i, 127)) + 0.5f);
    case Fill::Kind::kFp8Ties: {
      if (i % kFp8Group == 0) return 448.0f;
      const auto code = static_cast<uint8_t>(pick(seed, i, 0x7E));
      return sign * 0.5f * (e4m3_to_f32(code) + e4m3_to_f32(static_cast<uint8_t>(code + 1)));
    }
    case Fill::Kind::kFp4Ties: {
      if (i % kFp4Group == 0) return 6.0f;
      const auto code = static_cast<uint8_t>(pick(seed, i, 7));
      return sign * 0.5f * (e2m1_to_f32(code) + e2m1_to_f32(static_cast<uint8_t>(code + 1)));
    }
    case Fill::Kind::kOutlier: return random_unit(seed, i) * fill.scale * (i % 32 == 5 ? 1000.0f : 1.0f);
  }
  return 0.0f;
}

// Random bits with the given F16 exponent: 2^(exponent - 15) times [1, 2).
uint16_t random_half(uint64_t bits, uint32_t exponent) {
  return static_cast<uint16_t>((exponent << 10) | (bits & 0x3FF));
}

// Gives random block bytes factors that make elements of order one.
void set_factors(DType type, std::byte* block, uint64_t bits) {
  const auto put = [&](size_t offset, uint16_t half) { std::memcpy(block + offset, &half, sizeof(half)); };
  switch (type) {
    case DType::kQ8_0: return put(offsetof(BlockQ8_0, d), random_half(bits, 7));
    case DType::kQ2_K:
      put(offsetof(BlockQ2_K, d), random_half(bits, 8));
      return put(offsetof(BlockQ2_K, dmin), random_half(bits >> 10, 8));
    case DType::kQ4_K:
      put(offsetof(BlockQ4_K, d), random_half(bits, 4));
      return put(offsetof(BlockQ4_K, dmin), random_half(bits >> 10, 7));
    case DType::kIQ2_XXS: return put(offsetof(BlockIQ2_XXS, d), random_half(bits, 7));
    case DType::kMXFP4: block[offsetof(BlockMXFP4, e)] = static_cast<std::byte>(122 + bits % 5); return;
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kI32:
    case DType::kU8: return;
  }
}

// The activations as the product sees them.
std::vector<float> seen_activations(const float* x, int64_t n, ActivationForm form) {
  std::vector<float> seen(x, x + n);
  ActivationRow row;
  row.set(x, n, form);
  for (size_t i = 0; i < seen.size() && form != ActivationForm::kReal; ++i) {
    if (form == ActivationForm::kQ8_0) {
      const Q8_0Activation& block = row.q8_0()[i / 32];
      seen[i] = block.scale * static_cast<float>(block.codes[i % 32]);
    } else {
      const Q8_KActivation& block = row.q8_k()[i / 256];
      seen[i] = block.scale * static_cast<float>(block.codes[i % 256]);
    }
  }
  return seen;
}

// Magnitudes of a weight row's elements; those of types with minima count both parts, which may cancel.
std::vector<float> weight_magnitudes(const OpArray& weight, int64_t row) {
  std::vector<float> magnitudes = weight_row(weight, row);
  for (float& value : magnitudes) value = std::fabs(value);
  if (weight.type != DType::kQ2_K && weight.type != DType::kQ4_K) return magnitudes;
  const auto n = static_cast<int64_t>(magnitudes.size());
  std::vector<WeightBlock256> blocks(magnitudes.size() / 256);
  unpack_blocks_256(weight.type, weight.bytes.data() + static_cast<size_t>(row) * row_bytes(weight.type, n).value(), n,
                    blocks.data());
  for (size_t i = 0; i < magnitudes.size(); ++i) {
    const WeightBlock256& block = blocks[i / 256];
    const int16_t minimum = block.mins[i % 256 / 16];
    magnitudes[i] += 2.0f * std::fabs(block.dmin * static_cast<float>(minimum));
  }
  return magnitudes;
}

}  // namespace

int32_t pick(uint64_t seed, int64_t index, int32_t n) {
  return static_cast<int32_t>(random_bits(seed, index) % static_cast<uint64_t>(n));
}

std::vector<float> make_values(Fill fill, int64_t n, uint64_t seed) {
  std::vector<float> values(static_cast<size_t>(n));
  for (int64_t i = 0; i < n; ++i) values[static_cast<size_t>(i)] = make_value(fill, i, seed);
  return values;
}

std::vector<std::byte> bytes_of(const std::vector<float>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {bytes.begin(), bytes.end()};
}

std::vector<std::byte> bytes_of(const std::vector<int32_t>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {bytes.begin(), bytes.end()};
}

std::vector<std::byte> make_weight(DType type, int64_t n_elements, uint64_t seed) {
  std::vector<std::byte> bytes(row_bytes(type, n_elements).value());
  const DTypeInfo& info = dtype_info(type);
  if (info.block_elements == 1) {
    const std::vector<float> values = make_values({}, n_elements, seed);
    quantize_row(type, values.data(), bytes.data(), n_elements);
    return bytes;
  }
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(pick(seed, static_cast<int64_t>(i), 256));
  for (size_t offset = 0; offset < bytes.size(); offset += info.block_bytes) {
    set_factors(type, bytes.data() + offset, random_bits(~seed, static_cast<int64_t>(offset)));
  }
  return bytes;
}

CaseBuilder::CaseBuilder(std::string_view case_name, NumericProfile profile, int32_t n_rows)
    : seed_(fnv1a64(case_name)) {
  data_.profile = profile;
  data_.n_rows = n_rows;
}

uint64_t CaseBuilder::seed(std::string_view name) const { return splitmix64_mix(seed_ ^ fnv1a64(name)); }

OpArray& CaseBuilder::add(OpArray array) {
  data_.arrays.push_back(std::move(array));
  return data_.arrays.back();
}

OpArray& CaseBuilder::values(std::string_view name, Shape shape, Fill fill) {
  OpArray array{.name = std::string(name), .shape = shape};
  array.bytes = bytes_of(make_values(fill, shape.elements(), seed(name)));
  return add(std::move(array));
}

OpArray& CaseBuilder::row_values(std::string_view name, std::initializer_list<int64_t> row_shape, Fill fill) {
  OpArray& array = values(name, with_rows(row_shape), fill);
  array.per_row = true;
  return array;
}

OpArray& CaseBuilder::row_ints(std::string_view name, int64_t width, const std::vector<int32_t>& ints) {
  OpArray array{.name = std::string(name), .per_row = true, .type = DType::kI32};
  array.shape = width == 0 ? Shape{data_.n_rows} : Shape{data_.n_rows, width};
  array.bytes = bytes_of(ints);
  CHECK(static_cast<int64_t>(ints.size()) == array.shape.elements(), "{} ints for {}", ints.size(), name);
  return add(std::move(array));
}

OpArray& CaseBuilder::weight(std::string_view name, WeightUse use, DType type, Shape shape) {
  OpArray array{.name = std::string(name), .weight_use = use, .type = type, .shape = shape};
  array.bytes = make_weight(type, shape.elements(), seed(name));
  return add(std::move(array));
}

OpArray& CaseBuilder::bytes(std::string_view name, ArrayUse use, Shape shape) {
  OpArray array{.name = std::string(name), .use = use, .type = DType::kU8, .shape = shape};
  array.bytes.assign(static_cast<size_t>(shape.elements()), kCanary);
  return add(std::move(array));
}

OpArray& CaseBuilder::output(std::string_view name, std::initializer_list<int64_t> row_shape, Comparison compare) {
  OpArray array{.name = std::string(name), .use = ArrayUse::kOutput, .per_row = true, .shape = with_rows(row_shape)};
  array.bytes.assign(static_cast<size_t>(array.shape.elements()) * sizeof(float), kCanary);
  array.compare = std::move(compare);
  return add(std::move(array));
}

OpArray& CaseBuilder::scratch(std::string_view name, std::initializer_list<int64_t> row_shape) {
  OpArray& array = output(name, row_shape);
  array.use = ArrayUse::kScratch;
  return array;
}

Shape CaseBuilder::with_rows(std::initializer_list<int64_t> row_shape) const {
  std::vector<int64_t> extents = {data_.n_rows};
  extents.insert(extents.end(), row_shape.begin(), row_shape.end());
  return Shape(std::span<const int64_t>(extents));
}

void add_case(std::vector<OpCase>& cases, std::string_view op, std::string_view variant, int32_t n_rows,
              std::function<RunOp(CaseBuilder&)> build) {
  std::string name = fmt::format("{}_{}{}r{}", op, variant, variant.empty() ? "" : "_", n_rows);
  auto make = [name, n_rows, build = std::move(build)](NumericProfile profile) {
    CaseBuilder builder(name, profile, n_rows);
    RunOp run = build(builder);
    builder.data().run = std::move(run);
    return std::move(builder.data());
  };
  cases.push_back({std::string(op), std::move(name), std::move(make)});
}

std::vector<float> weight_row(const OpArray& weight, int64_t row) {
  const int64_t n = weight.shape.back();
  std::vector<float> values(static_cast<size_t>(n));
  dequantize_row(weight.type, weight.bytes.data() + static_cast<size_t>(row) * row_bytes(weight.type, n).value(),
                 values.data(), n);
  return values;
}

double dot_bound(const OpArray& weight, int64_t row, const float* x, NumericProfile profile) {
  const int64_t n = weight.shape.back();
  const ActivationForm form = activation_form(weight.type, profile);
  const std::vector<float> w = weight_magnitudes(weight, row);
  const std::vector<float> seen = seen_activations(x, n, form);
  double sum = 0.0;
  for (size_t i = 0; i < w.size(); ++i) sum += static_cast<double>(w[i]) * std::fabs(static_cast<double>(seen[i]));
  const auto terms =
      static_cast<double>(form == ActivationForm::kReal ? n / 8 : n / dtype_info(weight.type).block_elements);
  return (terms + 8.0) * kUnit * sum + kTiny;
}

double tie_bound(const OpArray& weight, int64_t row, const float* x, NumericProfile profile) {
  const int64_t n = weight.shape.back();
  if (activation_form(weight.type, profile) == ActivationForm::kReal) return 0.0;
  const std::vector<float> w = weight_magnitudes(weight, row);
  float largest_x = 0.0f;
  for (int64_t i = 0; i < n; ++i) largest_x = std::max(largest_x, std::fabs(x[i]));
  return 2.0 * static_cast<double>(*std::ranges::max_element(w)) * static_cast<double>(largest_x) / 127.0;
}

}  // namespace ds4
