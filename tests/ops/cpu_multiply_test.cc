// Products of every weight type on every instruction set, those that this processor runs and those that are emulated:
// the same bits as the reference in float, whatever the number of rows and columns, and nothing read or written past
// the arrays' ends.

#include "backends/cpu/kernels.h"

#include <gtest/gtest.h>

#include <ostream>

#include "ops/case_builder.h"
#include "ops/emulated/emulated_kernels.h"
#include "ops/multiply_data.h"
#include "ops/reference/dot.h"

namespace ds4::test {

namespace {

struct Target {
  std::string name;
  const cpu::Kernels* kernels;
};

std::vector<Target> targets() {
  std::vector<Target> all;
  for (const cpu::Isa isa : cpu::available_isas())
    all.push_back({std::string(cpu::isa_name(isa)), &cpu::kernels_of(isa)});
  const Target emulated[] = {{"emulated avx512", emulated_avx512_kernels()}};
  for (const Target& target : emulated) {
    if (target.kernels != nullptr) all.push_back(target);
  }
  return all;
}

constexpr int64_t kColumnCounts[] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 33, 64, 65};
constexpr int64_t kOddRowCounts[] = {1, 31, 33, 32, 65};

struct TypeAndProfile {
  DType type;
  NumericProfile profile;
};

std::vector<TypeAndProfile> weight_forms() {
  std::vector<TypeAndProfile> forms;
  for (const DType type : kWeightTypes) {
    forms.push_back({type, NumericProfile::kExact});
    if (activation_form(type, NumericProfile::kCanonical) != ActivationForm::kReal)
      forms.push_back({type, NumericProfile::kCanonical});
  }
  return forms;
}

void PrintTo(const TypeAndProfile& form, std::ostream* out) {
  *out << dtype_name(form.type) << (form.profile == NumericProfile::kExact ? "_exact" : "_canonical");
}

class CpuMultiply : public ::testing::TestWithParam<TypeAndProfile> {
 protected:
  // Whole blocks of the type, at least 32 values.
  int64_t block() const { return std::max<int64_t>(32, dtype_info(GetParam().type).block_elements); }
  MultiplyShape shape(int64_t n_in, Values values) const {
    return {.type = GetParam().type, .profile = GetParam().profile, .n_in = n_in, .values = values};
  }
};

TEST_P(CpuMultiply, GivesTheSameBitsForEveryNumberOfRowsAndColumns) {
  for (const int64_t n_in : {block(), 2 * block()}) {
    const MultiplyData data(shape(n_in, Values::kRandom));
    EXPECT_EQ(data.oracle_difference(), "");
    for (const Target& target : targets()) {
      SCOPED_TRACE(target.name);
      EXPECT_EQ(data.quantization_difference(*target.kernels), "");
      for (const int64_t n_columns : kColumnCounts) {
        for (const int64_t n_rows : kOddRowCounts) ASSERT_EQ(data.difference(*target.kernels, n_rows, n_columns), "");
      }
    }
  }
}

TEST_P(CpuMultiply, ContinuesSumsBeyondASegment) {
  for (const int64_t n_in : {2304, 4352}) {
    MultiplyShape long_rows = shape(n_in, Values::kRandom);
    long_rows.n_rows = 33;
    long_rows.n_columns = 9;
    const MultiplyData data(long_rows);
    EXPECT_EQ(data.oracle_difference(), "");
    for (const Target& target : targets()) {
      SCOPED_TRACE(target.name);
      for (const int64_t n_columns : {1, 5, 8, 9}) ASSERT_EQ(data.difference(*target.kernels, 33, n_columns), "");
    }
  }
}

// Sums of 16 bits would saturate or wrap around here first.
TEST_P(CpuMultiply, SurvivesExtremeCodesAndSubnormalScales) {
  for (const Values values : {Values::kExtreme, Values::kSubnormal}) {
    const MultiplyData data(shape(2 * block(), values));
    EXPECT_EQ(data.oracle_difference(), "");
    for (const Target& target : targets()) {
      SCOPED_TRACE(target.name);
      EXPECT_EQ(data.quantization_difference(*target.kernels), "");
      for (const int64_t n_columns : {1, 3, 5, 16, 31, 65})
        ASSERT_EQ(data.difference(*target.kernels, 33, n_columns), "");
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Types, CpuMultiply, ::testing::ValuesIn(weight_forms()), ::testing::PrintToStringParamName());

TEST(CpuMultiplyTest, EmulatedSetsAddAndMultiplyFloatsInOrder) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name);
    for (int64_t n = 0; n < 70; ++n) {
      const auto a = make_values({}, n, 1);
      const auto b = make_values({.scale = 100.0f}, n, 2);
      EXPECT_EQ(target.kernels->dot(a.data(), b.data(), n), reference::dot<float>(a.data(), b.data(), n)) << n;
      std::vector<float> expected = b;
      for (size_t i = 0; i < a.size(); ++i) expected[i] = std::fma(a[i], 0.3f, expected[i]);
      std::vector<float> actual = b;
      target.kernels->add_scaled(a.data(), 0.3f, n, actual.data());
      EXPECT_EQ(actual, expected) << n;
    }
  }
}

}  // namespace

}  // namespace ds4::test
