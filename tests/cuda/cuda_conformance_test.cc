// Every case of the op table on the CUDA backend against the oracle, and that its results depend on the inputs only.
// Without a device every test says so and is skipped.

#include <gtest/gtest.h>

#include <algorithm>
#include <ostream>
#include <string_view>

#include "backends/cuda/cuda_backend.h"
#include "backends/host_backend.h"
#include "ops/op_runner.h"

namespace ds4::test {

void PrintTo(const OpCase& op_case, std::ostream* out);
void PrintTo(const OpCase& op_case, std::ostream* out) { *out << op_case.name; }

namespace {

constexpr NumericProfile kProfiles[] = {NumericProfile::kExact, NumericProfile::kCanonical};

// Products of many rows run on other kernels than those of few, with another order of sums (docs/numerics.md).
bool has_one_order(std::string_view op, int32_t n_rows) {
  constexpr int32_t kFewRows = 16;
  constexpr std::string_view kProducts[] = {"matmul", "matmul_grouped", "experts", "shared_expert", "hc_pre"};
  return n_rows <= kFewRows || std::ranges::find(kProducts, op) == std::end(kProducts);
}

class CudaOp : public ::testing::TestWithParam<OpCase> {
 protected:
  void SetUp() override {
    for (size_t i = 0; i < 2; ++i) {
      Result<std::unique_ptr<Backend>> made = make_cuda_backend({.device = 0, .profile = kProfiles[i]});
      if (!made.ok()) GTEST_SKIP() << made.error().message;
      backends_[i] = made.take_value();
    }
  }
  std::unique_ptr<Backend> backends_[2];
};

TEST_P(CudaOp, AgreesWithTheOracle) {
  for (size_t i = 0; i < 2; ++i) {
    SCOPED_TRACE(i == 0 ? "profile exact" : "profile canonical");
    const OpData data = GetParam().make(kProfiles[i]);
    if (const std::string reason = unsupported(*backends_[i], data); !reason.empty()) GTEST_SKIP() << reason;
    const auto oracle = make_reference_backend(ReferenceReal::kDouble, kProfiles[i]);
    PlacedOp expected(*oracle, data);
    expected.run(data.run_composed ? OpForm::kComposed : OpForm::kFused);
    PlacedOp actual(*backends_[i], data);
    actual.run();
    EXPECT_EQ(differences(data, expected, actual, Comparing::kAsDeclared), "");
    EXPECT_EQ(actual.damage(), "");

    PlacedOp in_parts(*backends_[i], data);
    in_parts.run(OpForm::kFused, BatchCut::kParts);
    const Comparing parts = has_one_order(GetParam().op, data.n_rows) ? Comparing::kBitwise : Comparing::kAsDeclared;
    EXPECT_EQ(differences(data, actual, in_parts, parts), "") << "rows alone differ from the batch";
    PlacedOp again(*backends_[i], data);
    again.run();
    EXPECT_EQ(differences(data, actual, again, Comparing::kBitwise), "") << "a repetition differs";
  }
}

INSTANTIATE_TEST_SUITE_P(Device, CudaOp, ::testing::ValuesIn(op_cases()),
                         [](const auto& parameter) { return parameter.param.name; });

}  // namespace
}  // namespace ds4::test
