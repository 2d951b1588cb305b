#pragma once

// A weight matrix and activation rows that are hard on kernels, with the products that every kernel must give, bit for
// bit. All arrays end where readable memory ends. No test framework here: scripts/cross_check.sh builds this for other
// processors.

#include <span>
#include <string>
#include <vector>

#include "backends/cpu/kernels.h"
#include "ops/ops.h"

namespace ds4::test {

// Memory whose last byte lies before a page that cannot be read.
class GuardedBytes {
 public:
  explicit GuardedBytes(std::span<const std::byte> content);
  ~GuardedBytes();
  GuardedBytes(GuardedBytes&& other) noexcept;
  GuardedBytes(const GuardedBytes&) = delete;
  GuardedBytes& operator=(const GuardedBytes&) = delete;
  GuardedBytes& operator=(GuardedBytes&&) = delete;

  std::byte* data() const { return data_; }

 private:
  std::byte* mapping_;
  size_t mapping_bytes_;
  std::byte* data_;
};

enum class Values : uint8_t {
  kRandom,     // every code possible; a row and a column of zeros
  kExtreme,    // all codes of the largest magnitude, in step with activations of the largest
  kSubnormal,  // scales and products below the normal numbers
};

// A weight type and how it meets activations: every one that kernels multiply.
struct WeightForm {
  DType type;
  NumericProfile profile;
};
std::vector<WeightForm> weight_forms();

struct MultiplyShape {
  WeightForm form;
  int64_t n_in;
  Values values;
  int64_t n_rows = 65;
  int64_t n_columns = 65;
};
std::string to_string(const MultiplyShape& shape);

// One block and two.
std::vector<MultiplyShape> short_shapes(const WeightForm& form);
// Rows longer than the segment of elements that a panel holds.
std::vector<MultiplyShape> long_shapes(const WeightForm& form);
// Where sums of 16 bits would saturate or wrap around first, and where subnormal numbers might be flushed.
std::vector<MultiplyShape> hard_shapes(const WeightForm& form);

class MultiplyData {
 public:
  explicit MultiplyData(const MultiplyShape& shape);

  // Empty when the activations' forms and the products of ever other numbers of rows and columns have the expected
  // bits, else the first difference.
  std::string difference(const cpu::Kernels& kernels) const;
  // Empty when the expected products lie within their derived bound of products in double.
  std::string oracle_difference() const;

 private:
  // Of the last n_rows rows and the last n_columns columns: a kernel meets first > 0.
  std::string product_difference(const cpu::Kernels& kernels, int64_t n_rows, int64_t n_columns) const;
  std::string quantization_difference(const cpu::Kernels& kernels) const;

  MultiplyShape shape_;
  ActivationForm form_;
  std::vector<std::byte> weight_bytes_;
  std::vector<float> values_;
  std::vector<float> expected_;  // [n_columns][n_rows]
  std::vector<float> oracle_;
  // As kernels see them.
  GuardedBytes weight_;
  GuardedBytes x_;
  std::vector<GuardedBytes> parts_;  // codes, scales, sums
};

}  // namespace ds4::test
