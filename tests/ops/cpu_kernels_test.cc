#include "backends/cpu/kernels.h"

#include <gtest/gtest.h>

#include "backends/cpu/row_kernels.h"
#include "ops/case_builder.h"
#include "ops/kv_rows.h"

namespace ds4::test {

namespace {

TEST(CpuKernelsTest, UnpackRowEqualsTheDefinitionForEveryCodeAndScale) {
  const KvRowFormat format = case_row_format(KvEncoding::kFp8, 148, 20);  // two whole groups and an F16 tail
  std::vector<float> expected(148);
  std::vector<float> actual(148);
  for (int scale = 1; scale < 255; ++scale) {
    std::vector<std::byte> row(static_cast<size_t>(format.row_bytes));
    for (size_t i = 0; i < 128; ++i) {
      const size_t code = (2 * i + static_cast<size_t>(scale) % 2) % 256;
      row[i] = static_cast<std::byte>((code & 0x7F) == 0x7F ? 0 : code);  // packed rows hold no NaN
    }
    row[128] = static_cast<std::byte>(scale);
    row[129] = static_cast<std::byte>(255 - scale);
    for (size_t i = 130; i < 170; ++i) row[i] = static_cast<std::byte>((i * 7 + static_cast<size_t>(scale)) % 120);
    unpack_kv_row(row.data(), format, expected.data());
    for (const cpu::Isa isa : cpu::available_isas()) {
      cpu::kernels_of(isa).rows->unpack_row(row.data(), format, actual.data());
      for (size_t i = 0; i < expected.size(); ++i)
        ASSERT_EQ(actual[i], expected[i]) << cpu::isa_name(isa) << " scale " << scale << " value " << i;
    }
  }
}

}  // namespace

}  // namespace ds4::test
