// The CPU backend on a processor that the tests' framework is not at hand for (scripts/cross_check.sh): products of
// every weight type against the reference, and every case of the op table on every instruction set, bit for bit
// against the portable one. Ends with 1 when something differs.

#include <fmt/format.h>

#include "backends/cpu/cpu_backend.h"
#include "ops/multiply_data.h"
#include "ops/op_runner.h"

namespace ds4::test {

namespace {

int report(std::string_view isa, std::string_view problem) {
  if (problem.empty()) return 0;
  fmt::print("FAILED {}: {}\n", isa, problem);
  return 1;
}

int check_products(cpu::Isa isa) {
  int n_failed = 0;
  for (const WeightForm& form : weight_forms()) {
    for (const auto& shapes : {short_shapes(form), long_shapes(form), hard_shapes(form)}) {
      for (const MultiplyShape& shape : shapes)
        n_failed += report(cpu::isa_name(isa), MultiplyData(shape).difference(cpu::kernels_of(isa)));
    }
  }
  return n_failed;
}

int check_op(cpu::Isa isa, const OpCase& op_case) {
  int n_failed = 0;
  for (const NumericProfile profile : {NumericProfile::kExact, NumericProfile::kCanonical}) {
    const OpData data = op_case.make(profile);
    const auto portable = make_cpu_backend({.threads = 1, .profile = profile, .isa = cpu::Isa::kPortable});
    const auto backend = make_cpu_backend({.threads = 1, .profile = profile, .isa = isa});
    PlacedOp expected(*portable, data);
    PlacedOp actual(*backend, data);
    expected.run();
    actual.run();
    const std::string difference = differences(data, expected, actual, Comparing::kBitwise) + actual.damage();
    n_failed += report(cpu::isa_name(isa), difference.empty() ? "" : op_case.name + ": " + difference);
  }
  return n_failed;
}

int check_all() {
  const std::vector<OpCase> cases = op_cases();
  int n_failed = 0;
  std::string isas;
  for (const cpu::Isa isa : cpu::available_isas()) {
    isas += fmt::format(" {}", cpu::isa_name(isa));
    n_failed += check_products(isa);
    for (const OpCase& op_case : cases) n_failed += isa == cpu::Isa::kPortable ? 0 : check_op(isa, op_case);
  }
  fmt::print("cross check:{}; {} ops, {} failed\n", isas, cases.size(), n_failed);
  return n_failed == 0 ? 0 : 1;
}

}  // namespace

}  // namespace ds4::test

int main() { return ds4::test::check_all(); }
