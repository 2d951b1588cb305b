#include "base/cpu_topology.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <thread>

namespace ds4 {
namespace {

using Cpus = std::vector<int>;

TEST(CpuListTest, RangesAndSingleNumbersInAnyMixture) {
  EXPECT_EQ(parse_cpu_list("0\n"), Cpus({0}));
  EXPECT_EQ(parse_cpu_list("0-3"), Cpus({0, 1, 2, 3}));
  EXPECT_EQ(parse_cpu_list("0-1,8,10-11\n"), Cpus({0, 1, 8, 10, 11}));
  EXPECT_EQ(parse_cpu_list("\n"), Cpus());
}

TEST(CpuListTest, OtherTextIsNoList) {
  for (const char* text : {"x", "1,", "-1", "1-", "3-1", "1 2", "0-9999999", "99999999999", "0-40000,0-40000"}) {
    EXPECT_EQ(parse_cpu_list(text), std::nullopt) << text;
  }
}

TEST(CpuQuotaTest, TheQuotaIsRoundedUpAndOptional) {
  EXPECT_EQ(parse_cpu_quota("150000 100000\n"), 2);
  EXPECT_EQ(parse_cpu_quota("200000 100000\n"), 2);
  EXPECT_EQ(parse_cpu_quota("1000 100000\n"), 1);
  for (const char* text : {"max 100000\n", "", "100000", "0 100000", "100000 0", "100000 x"}) {
    EXPECT_EQ(parse_cpu_quota(text), std::nullopt) << text;
  }
}

TEST(SpreadOverCpusTest, FewThreadsAreSpreadOverAllCoresOfTheirOwn) {
  const Cpus cores = {0, 2, 4, 6, 8, 10, 12, 14};
  const Cpus siblings = {1, 3, 5, 7, 9, 11, 13, 15};
  EXPECT_EQ(spread_over_cpus(cores, siblings, 2), Cpus({0, 8}));
  EXPECT_EQ(spread_over_cpus(cores, siblings, 8), cores);
  EXPECT_EQ(spread_over_cpus(cores, siblings, 3), Cpus({0, 4, 10}));
}

TEST(SpreadOverCpusTest, MoreThreadsThanCoresUseSiblingsAndThenBeginAgain) {
  EXPECT_EQ(spread_over_cpus(Cpus({0, 2}), Cpus({1, 3}), 5), Cpus({0, 2, 1, 3, 0}));
  EXPECT_EQ(spread_over_cpus(Cpus(), Cpus(), 5), Cpus());
}

TEST(CpuTopologyTest, ThisMachineHasProcessorsAndMemory) {
  EXPECT_GE(usable_cpu_count(), 1);
  EXPECT_FALSE(memory_nodes().empty());
  const Cpus cpus = cpus_for_threads(3);
  EXPECT_TRUE(cpus.empty() || cpus.size() == 3);
}

TEST(CpuTopologyTest, AThreadCanBePinnedToAProcessorItMayUse) {
  const Cpus cpus = cpus_for_threads(1);
  std::jthread([&] {
    EXPECT_FALSE(pin_this_thread(-1));
    if (!cpus.empty()) {
      EXPECT_TRUE(pin_this_thread(cpus[0]));
      EXPECT_EQ(usable_cpu_count(), 1);
    }
  }).join();
}

TEST(CpuTopologyTest, InterleavingKeepsMemoryUsable) {
  // Closed containers refuse the policy: then nothing changes.
  std::vector<std::byte> memory(100000, std::byte{5});
  interleave_memory(memory, memory_nodes());
  interleave_memory(std::span(memory).first(10), memory_nodes());
  std::jthread([] { interleave_this_thread(memory_nodes()); }).join();
  EXPECT_EQ(std::ranges::count(memory, std::byte{5}), 100000);
  EXPECT_FALSE(interleave_memory(memory, std::array{5000}));
}

}  // namespace
}  // namespace ds4
