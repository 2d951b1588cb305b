#include "ops/multiply_data.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>
#include <utility>

#include "gguf/blocks.h"
#include "gguf/iq_tables.h"
#include "ops/case_builder.h"
#include "ops/reference/matmul.h"

namespace ds4::test {

namespace {

std::string_view name_of(Values values) {
  switch (values) {
    case Values::kRandom: return "random";
    case Values::kExtreme: return "extreme";
    case Values::kSubnormal: return "subnormal";
  }
  return "?";
}

template <class T>
std::span<const std::byte> raw(const std::vector<T>& values) {
  return std::as_bytes(std::span(values));
}

bool same_bits(const void* a, const void* b, size_t n_bytes) { return n_bytes == 0 || std::memcmp(a, b, n_bytes) == 0; }

// Code bytes of the largest magnitude; factors stay as make_weight chose them.
void set_extreme_codes(DType type, std::byte* block) {
  const auto fill = [&](size_t offset, size_t n, int byte) { std::memset(block + offset, byte, n); };
  switch (type) {
    case DType::kQ8_0: return fill(offsetof(BlockQ8_0, qs), sizeof(BlockQ8_0::qs), 0x80);
    case DType::kMXFP4: return fill(offsetof(BlockMXFP4, qs), sizeof(BlockMXFP4::qs), 0xFF);
    case DType::kQ2_K:
      fill(offsetof(BlockQ2_K, scales), sizeof(BlockQ2_K::scales), 0xFF);
      return fill(offsetof(BlockQ2_K, qs), sizeof(BlockQ2_K::qs), 0xFF);
    case DType::kQ4_K:
      fill(offsetof(BlockQ4_K, scales), sizeof(BlockQ4_K::scales), 0xFF);
      return fill(offsetof(BlockQ4_K, qs), sizeof(BlockQ4_K::qs), 0xFF);
    case DType::kIQ2_XXS: {
      size_t largest = 0;
      int largest_sum = 0;
      for (size_t i = 0; i < kIq2xxsGrid.size(); ++i) {
        int sum = 0;
        for (const uint8_t magnitude : kIq2xxsGrid[i]) sum += magnitude;
        if (sum > largest_sum) {
          largest = i;
          largest_sum = sum;
        }
      }
      for (size_t g = 0; g < 8; ++g) {
        fill(offsetof(BlockIQ2_XXS, qs) + 8 * g, 4, static_cast<int>(largest));
        fill(offsetof(BlockIQ2_XXS, qs) + 8 * g + 4, 3, 0);
        fill(offsetof(BlockIQ2_XXS, qs) + 8 * g + 7, 1, 0xF0);
      }
      return;
    }
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kI32:
    case DType::kU8: return;
  }
}

// Factors below the normal numbers of their own format.
void set_subnormal_factors(DType type, std::byte* block, int index) {
  const auto put = [&](size_t offset) {
    const auto half = static_cast<uint16_t>(1 + index * 37 % 1023);
    std::memcpy(block + offset, &half, sizeof(half));
  };
  switch (type) {
    case DType::kQ8_0: return put(offsetof(BlockQ8_0, d));
    case DType::kMXFP4: block[offsetof(BlockMXFP4, e)] = static_cast<std::byte>(index % 3); return;
    case DType::kQ2_K: put(offsetof(BlockQ2_K, dmin)); return put(offsetof(BlockQ2_K, d));
    case DType::kQ4_K: put(offsetof(BlockQ4_K, dmin)); return put(offsetof(BlockQ4_K, d));
    case DType::kIQ2_XXS: return put(offsetof(BlockIQ2_XXS, d));
    case DType::kF32:
    case DType::kF16:
    case DType::kBF16:
    case DType::kI32:
    case DType::kU8: return;
  }
}

std::vector<std::byte> make_weights(const MultiplyShape& shape) {
  std::vector<std::byte> bytes = make_weight(shape.form.type, shape.n_rows * shape.n_in, 17);
  const size_t row_size = row_bytes(shape.form.type, shape.n_in).value();
  if (shape.values == Values::kRandom) std::memset(bytes.data() + (bytes.size() - row_size), 0, row_size);
  const DTypeInfo& info = dtype_info(shape.form.type);
  if (info.block_elements == 1) return bytes;
  int index = 0;
  for (size_t offset = 0; offset < bytes.size(); offset += info.block_bytes, ++index) {
    if (shape.values == Values::kExtreme) set_extreme_codes(shape.form.type, bytes.data() + offset);
    if (shape.values == Values::kSubnormal) set_subnormal_factors(shape.form.type, bytes.data() + offset, index);
  }
  return bytes;
}

std::vector<float> make_activations(const MultiplyShape& shape) {
  const int64_t n = shape.n_columns * shape.n_in;
  if (shape.values == Values::kSubnormal) return make_values({.scale = 0x1p-118f}, n, 23);
  std::vector<float> x = make_values({.kind = Fill::Kind::kOutlier}, n, 29);
  if (shape.values == Values::kRandom) {
    for (int64_t i = n - shape.n_in; i < n; ++i) x[static_cast<size_t>(i)] = 0.0f;
    return x;
  }
  // Whole columns of one sign, of the other, and of signs in turn.
  for (int64_t i = 0; i < n; ++i) {
    const int64_t column = i / shape.n_in;
    const bool is_negative = column % 3 == 1 || (column % 3 == 2 && i % 2 == 1);
    x[static_cast<size_t>(i)] = is_negative ? -3.0f : 3.0f;
  }
  return x;
}

// Elements that every kernel takes at once, at least.
int64_t block_of(const WeightForm& form) { return std::max<int64_t>(32, dtype_info(form.type).block_elements); }

size_t page_bytes() { return static_cast<size_t>(sysconf(_SC_PAGESIZE)); }

}  // namespace

GuardedBytes::GuardedBytes(std::span<const std::byte> content) {
  const size_t page = page_bytes();
  const size_t readable = (content.size() + page - 1) / page * page;
  mapping_bytes_ = readable + page;
  void* memory = mmap(nullptr, mapping_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(memory != MAP_FAILED, "no {} bytes of memory", mapping_bytes_);
  mapping_ = static_cast<std::byte*>(memory);
  CHECK(mprotect(mapping_ + readable, page, PROT_NONE) == 0, "no guard page");
  data_ = mapping_ + readable - content.size();
  if (!content.empty()) std::memcpy(data_, content.data(), content.size());
}

GuardedBytes::GuardedBytes(GuardedBytes&& other) noexcept
    : mapping_(std::exchange(other.mapping_, nullptr)), mapping_bytes_(other.mapping_bytes_), data_(other.data_) {}

GuardedBytes::~GuardedBytes() {
  if (mapping_ != nullptr) munmap(mapping_, mapping_bytes_);
}

std::vector<WeightForm> weight_forms() {
  std::vector<WeightForm> forms;
  for (const DType type : kWeightTypes) {
    forms.push_back({type, NumericProfile::kExact});
    if (activation_form(type, NumericProfile::kCanonical) != ActivationForm::kReal)
      forms.push_back({type, NumericProfile::kCanonical});
  }
  return forms;
}

std::vector<MultiplyShape> short_shapes(const WeightForm& form) {
  const int64_t block = block_of(form);
  return {{form, block, Values::kRandom}, {form, 2 * block, Values::kRandom}};
}

std::vector<MultiplyShape> long_shapes(const WeightForm& form) {
  return {{form, 2304, Values::kRandom, 33, 9}, {form, 4352, Values::kRandom, 33, 17}};
}

std::vector<MultiplyShape> hard_shapes(const WeightForm& form) {
  const int64_t block = block_of(form);
  return {{form, 2 * block, Values::kExtreme, 33}, {form, 2 * block, Values::kSubnormal, 33}};
}

std::string to_string(const MultiplyShape& shape) {
  return fmt::format("{} {} n_in {} {}", dtype_name(shape.form.type),
                     shape.form.profile == NumericProfile::kExact ? "exact" : "canonical", shape.n_in,
                     name_of(shape.values));
}

MultiplyData::MultiplyData(const MultiplyShape& shape)
    : shape_(shape),
      form_(activation_form(shape.form.type, shape.form.profile)),
      weight_bytes_(make_weights(shape)),
      values_(make_activations(shape)),
      expected_(static_cast<size_t>(shape.n_rows * shape.n_columns)),
      oracle_(expected_.size()),
      weight_(weight_bytes_),
      x_(raw(values_)) {
  std::vector<ActivationRow> rows(static_cast<size_t>(shape.n_columns));
  std::vector<int8_t> codes;
  std::vector<float> scales;
  std::vector<int16_t> sums;
  for (int64_t c = 0; c < shape.n_columns; ++c) {
    ActivationRow& row = rows[static_cast<size_t>(c)];
    row.set(values_.data() + c * shape.n_in, shape.n_in, form_);
    for (int64_t b = 0; form_ == ActivationForm::kQ8_0 && b < shape.n_in / 32; ++b) {
      codes.insert(codes.end(), std::begin(row.q8_0()[b].codes), std::end(row.q8_0()[b].codes));
      scales.push_back(row.q8_0()[b].scale);
      sums.push_back(static_cast<int16_t>(std::accumulate(codes.end() - 32, codes.end(), 0)));
    }
    for (int64_t b = 0; form_ == ActivationForm::kQ8_K && b < shape.n_in / 256; ++b) {
      codes.insert(codes.end(), std::begin(row.q8_k()[b].codes), std::end(row.q8_k()[b].codes));
      sums.insert(sums.end(), std::begin(row.q8_k()[b].sums), std::end(row.q8_k()[b].sums));
      scales.push_back(row.q8_k()[b].scale);
    }
  }
  parts_.emplace_back(raw(codes));
  parts_.emplace_back(raw(scales));
  parts_.emplace_back(raw(sums));
  const reference::MatvecShape matvec{shape.n_columns, shape.n_rows, shape.n_in, 1, shape.n_rows};
  reference::matvec<float>(shape.form.type, weight_bytes_.data(), matvec, rows.data(), expected_.data());
  reference::matvec<double>(shape.form.type, weight_bytes_.data(), matvec, rows.data(), oracle_.data());
}

std::string MultiplyData::difference(const cpu::Kernels& kernels) const {
  std::string problem = quantization_difference(kernels);
  for (const int64_t n_rows : {1, 31, 33, 32, 65}) {
    const bool is_wanted = n_rows == shape_.n_rows || (shape_.values == Values::kRandom && shape_.n_in <= 512);
    if (!is_wanted) continue;
    for (const int64_t n_columns : {1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65}) {
      if (problem.empty() && n_columns <= shape_.n_columns) problem = product_difference(kernels, n_rows, n_columns);
    }
  }
  return problem;
}

std::string MultiplyData::product_difference(const cpu::Kernels& kernels, int64_t n_rows, int64_t n_columns) const {
  const int64_t n_in = shape_.n_in;
  const int64_t first_row = shape_.n_rows - n_rows;
  const int64_t first_column = shape_.n_columns - n_columns;
  const GuardedBytes out(raw(std::vector<float>(static_cast<size_t>(n_columns * n_rows), -77.0f)));
  auto* results = reinterpret_cast<float*>(out.data());
  std::vector<cpu::Column> columns;
  // Odd numbers of columns come out of order, so that they are no fixed distance apart.
  const auto data_column = [&](int64_t i) { return first_column + (n_columns % 2 == 0 ? i : 2 * i % n_columns); };
  for (int64_t i = 0; i < n_columns; ++i) {
    const int64_t c = data_column(i);
    // Row o goes to out[o]: the array starts at first_row.
    cpu::Column column{.values = reinterpret_cast<const float*>(x_.data()) + c * n_in,
                       .out = results + i * n_rows - first_row};
    const int64_t block = form_ == ActivationForm::kQ8_K ? 256 : 32;
    if (form_ != ActivationForm::kReal) {
      const int64_t sum_group = form_ == ActivationForm::kQ8_K ? 16 : 32;
      column.codes = reinterpret_cast<const int8_t*>(parts_[0].data()) + c * n_in;
      column.scales = reinterpret_cast<const float*>(parts_[1].data()) + c * (n_in / block);
      column.sums = reinterpret_cast<const int16_t*>(parts_[2].data()) + c * (n_in / sum_group);
    }
    columns.push_back(column);
  }
  const cpu::WeightMatrix matrix{shape_.form.type, weight_.data(),
                                 static_cast<int64_t>(row_bytes(shape_.form.type, n_in).value()), n_in};
  kernels.multiply(matrix, form_, first_row, shape_.n_rows, columns);
  for (int64_t i = 0; i < n_columns; ++i) {
    for (int64_t r = 0; r < n_rows; ++r) {
      const float expected = expected_[static_cast<size_t>(data_column(i) * shape_.n_rows + first_row + r)];
      const float actual = results[i * n_rows + r];
      if (!same_bits(&expected, &actual, sizeof(expected)))
        return fmt::format("{}, {} rows, {} columns: row {} column {} is {} instead of {}", to_string(shape_), n_rows,
                           n_columns, r, i, actual, expected);
    }
  }
  return "";
}

std::string MultiplyData::quantization_difference(const cpu::Kernels& kernels) const {
  if (form_ == ActivationForm::kReal) return "";
  const auto n = static_cast<size_t>(shape_.n_columns * shape_.n_in);
  const bool is_q8_k = form_ == ActivationForm::kQ8_K;
  std::vector<int8_t> codes(n);
  std::vector<float> scales(n / (is_q8_k ? 256 : 32));
  std::vector<int16_t> sums(is_q8_k ? n / 16 : n / 32);
  const auto* x = reinterpret_cast<const float*>(x_.data());
  if (is_q8_k) {
    kernels.quantize_q8_k(x, static_cast<int64_t>(n), codes.data(), scales.data(), sums.data());
  } else {
    kernels.quantize_q8_0(x, static_cast<int64_t>(n), codes.data(), scales.data(), sums.data());
  }
  const auto wrong = [&](const char* what) { return fmt::format("{}: {} of activations", to_string(shape_), what); };
  if (!same_bits(codes.data(), parts_[0].data(), codes.size())) return wrong("codes");
  if (!same_bits(scales.data(), parts_[1].data(), scales.size() * sizeof(float))) return wrong("scales");
  if (!same_bits(sums.data(), parts_[2].data(), sums.size() * sizeof(int16_t))) return wrong("sums");
  return "";
}

std::string MultiplyData::oracle_difference() const {
  const OpArray weight{
      .name = "weight", .type = shape_.form.type, .shape = {shape_.n_rows, shape_.n_in}, .bytes = weight_bytes_};
  for (int64_t r = 0; r < shape_.n_rows; r += 13) {
    for (int64_t c = 0; c < shape_.n_columns; c += 11) {
      const double bound = dot_bound(weight, r, values_.data() + c * shape_.n_in, shape_.form.profile);
      const auto i = static_cast<size_t>(c * shape_.n_rows + r);
      const double error = std::fabs(static_cast<double>(expected_[i]) - static_cast<double>(oracle_[i]));
      if (!(error <= bound))
        return fmt::format("{}: row {} column {} is {}, the oracle's {}, off by more than {}", to_string(shape_), r, c,
                           expected_[i], oracle_[i], bound);
    }
  }
  return "";
}

}  // namespace ds4::test
