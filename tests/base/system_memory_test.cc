#include "base/system_memory.h"

#include <gtest/gtest.h>

namespace ds4 {
namespace {

TEST(SystemMemoryTest, ReadsWhatIsAvailable) {
  EXPECT_EQ(parse_available_memory("MemTotal:  100 kB\nMemFree: 1 kB\nMemAvailable:     42 kB\n"), 42u * 1024);
  EXPECT_EQ(parse_available_memory("MemTotal:  100 kB\n"), std::nullopt);
  EXPECT_EQ(parse_available_memory("MemAvailable: many"), std::nullopt);
}

TEST(SystemMemoryTest, AGroupLeavesWhatItDoesNotUse) {
  EXPECT_EQ(parse_group_memory("1000\n", "400\n"), 600u);
  EXPECT_EQ(parse_group_memory("1000\n", "1400\n"), 0u);
  EXPECT_EQ(parse_group_memory("max\n", "400\n"), std::nullopt);
  EXPECT_EQ(parse_group_memory("9223372036854771712\n", "400\n"), std::nullopt);
  EXPECT_EQ(parse_group_memory("1000\n", ""), std::nullopt);
}

TEST(SystemMemoryTest, ThisMachineSays) {
  const std::optional<uint64_t> bytes = available_memory_bytes();
  ASSERT_TRUE(bytes.has_value());
  EXPECT_GT(*bytes, uint64_t{1} << 20);
}

}  // namespace
}  // namespace ds4
