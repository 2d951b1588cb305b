// Products of every weight type on every instruction set, those that this processor runs and those that are emulated:
// the same bits as the reference in float, whatever the number of rows and columns, and nothing read or written past
// the arrays' ends.

#include "backends/cpu/kernels.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "backends/cpu/cpu_backend.h"
#include "backends/cpu/cpu_ops.h"
#include "backends/host_backend.h"
#include "ops/case_builder.h"
#include "ops/emulated/emulated_kernels.h"
#include "ops/multiply_data.h"
#include "ops/op_runner.h"
#include "ops/reference/dot.h"

namespace ds4::test {

namespace {

struct Target {
  std::string name;
  const cpu::Kernels* kernels;
};

std::vector<Target> emulated_targets() {
  std::vector<Target> all = {{"emulated avx512", emulated_avx512_kernels()},
                             {"emulated avx512 with vbmi", emulated_vbmi_kernels()},
                             {"emulated amx", emulated_amx_kernels()}};
  std::erase_if(all, [](const Target& target) { return target.kernels == nullptr; });
  return all;
}

std::vector<Target> targets() {
  std::vector<Target> all = emulated_targets();
  for (const cpu::Isa isa : cpu::available_isas())
    all.push_back({std::string(cpu::isa_name(isa)), &cpu::kernels_of(isa)});
  return all;
}

void check(const std::vector<MultiplyShape>& shapes) {
  for (const MultiplyShape& shape : shapes) {
    const MultiplyData data(shape);
    EXPECT_EQ(data.oracle_difference(), "");
    for (const Target& target : targets()) EXPECT_EQ(data.difference(*target.kernels), "") << target.name;
  }
}

class CpuMultiply : public ::testing::TestWithParam<WeightForm> {};

TEST_P(CpuMultiply, GivesTheSameBitsForEveryNumberOfRowsAndColumns) { check(short_shapes(GetParam())); }
TEST_P(CpuMultiply, ContinuesSumsBeyondASegment) { check(long_shapes(GetParam())); }
TEST_P(CpuMultiply, SurvivesExtremeCodesAndSubnormalScales) { check(hard_shapes(GetParam())); }

std::string form_name(const ::testing::TestParamInfo<WeightForm>& info) {
  return fmt::format("{}_{}", dtype_name(info.param.type),
                     info.param.profile == NumericProfile::kExact ? "exact" : "canonical");
}

INSTANTIATE_TEST_SUITE_P(Types, CpuMultiply, ::testing::ValuesIn(weight_forms()), form_name);

#ifdef DS4_SANITIZED
constexpr size_t kCaseStep = 11;  // emulated instructions are slow there
#else
constexpr size_t kCaseStep = 1;
#endif

// conformance_test.cc has the sets that this processor runs.
TEST(CpuMultiplyTest, EveryOpHasThePortableBitsOnEmulatedSets) {
  const std::vector<OpCase> cases = op_cases();
  for (size_t i = 0; i < cases.size(); i += kCaseStep) {
    const OpCase& op_case = cases[i];
    for (const NumericProfile profile : {NumericProfile::kExact, NumericProfile::kCanonical}) {
      const OpData data = op_case.make(profile);
      const auto portable = make_cpu_backend({.threads = 1, .profile = profile, .isa = cpu::Isa::kPortable});
      PlacedOp expected(*portable, data);
      expected.run();
      for (const Target& target : emulated_targets()) {
        HostBackend backend("emulated", profile,
                            std::make_unique<CpuOps>(ThreadPoolOptions{.n_threads = 1}, *target.kernels, profile));
        PlacedOp actual(backend, data);
        actual.run();
        EXPECT_EQ(differences(data, expected, actual, Comparing::kBitwise), "") << op_case.name << " " << target.name;
      }
    }
  }
}

TEST(CpuMultiplyTest, DotAddsInTheReferencesOrder) {
  for (const Target& target : targets()) {
    SCOPED_TRACE(target.name);
    for (int64_t n = 0; n < 70; ++n) {
      const auto a = make_values({}, n, 1);
      const auto b = make_values({.scale = 100.0f}, n, 2);
      EXPECT_EQ(target.kernels->dot(a.data(), b.data(), n), reference::dot<float>(a.data(), b.data(), n)) << n;
    }
  }
}

}  // namespace

}  // namespace ds4::test
