#include "engine/memory_plan.h"

#include <gtest/gtest.h>

namespace ds4 {
namespace {

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kGiB = uint64_t{1} << 30;

// Flash's sizes.
MemoryRequest flash() {
  return {.page_bytes = 900'608,
          .frontier_bytes = 15'420'416,
          .scratch_bytes = 300 * kMiB,
          .weight_bytes = 81 * kGiB,
          .ctx_tokens = 131'072,
          .n_slots = 4,
          .available_bytes = 128 * kGiB};
}

TEST(MemoryPlanTest, EverySlotCanBeFullAndSomethingIsLeftToRemember) {
  const MemoryPlan plan = plan_memory(flash()).value();
  EXPECT_EQ(plan.kv.n_pages, 2 * 4 * 512);
  EXPECT_EQ(plan.kv_bytes, 4096u * 900'608);
  EXPECT_EQ(plan.checkpoint_bytes, 2 * kGiB);
  EXPECT_EQ(plan.warning, "");
}

TEST(MemoryPlanTest, WithoutRememberingOnlySlotsCount) {
  MemoryRequest request = flash();
  request.remembers = false;
  const MemoryPlan plan = plan_memory(request).value();
  EXPECT_EQ(plan.kv.n_pages, 4 * 512);
  EXPECT_EQ(plan.checkpoint_bytes, 0u);
}

TEST(MemoryPlanTest, ShortMemoryMakesSlotsShareAndSaysSo) {
  MemoryRequest request = flash();
  request.available_bytes = 2 * kGiB;
  const MemoryPlan plan = plan_memory(request).value();
  EXPECT_GE(plan.kv.n_pages, 512);
  EXPECT_LT(plan.kv.n_pages, 4 * 512);
  EXPECT_LE(plan.total_bytes(), 2 * kGiB);
  EXPECT_NE(plan.warning.find("will wait"), std::string::npos);
}

TEST(MemoryPlanTest, WhatCannotFitIsRefusedWithWhatWould) {
  MemoryRequest request = flash();
  request.ctx_tokens = 1'000'000;
  request.available_bytes = 3 * kGiB;
  const Result<MemoryPlan> plan = plan_memory(request);
  ASSERT_FALSE(plan.ok());
  EXPECT_EQ(plan.error().code, ErrorCode::kOutOfMemory);
  // The context that it names does fit.
  const std::string& message = plan.error().message;
  const std::string_view before = "; a context of ";
  const size_t at = message.find(before);
  ASSERT_NE(at, std::string::npos) << message;
  request.ctx_tokens = std::stoi(message.substr(at + before.size()));
  EXPECT_GT(request.ctx_tokens, 100'000);
  EXPECT_TRUE(plan_memory(request).ok());
}

TEST(MemoryPlanTest, WeightsOnADeviceCount) {
  MemoryRequest request = flash();
  request.weights_are_mapped = false;
  request.available_bytes = 80 * kGiB;
  EXPECT_FALSE(plan_memory(request).ok());
  request.weights_are_mapped = true;
  const MemoryPlan plan = plan_memory(request).value();
  EXPECT_NE(plan.warning.find("again and again"), std::string::npos);
}

TEST(MemoryPlanTest, AnAskedPoolIsTakenAsItIsOrRefused) {
  MemoryRequest request = flash();
  request.kv_bytes = kGiB;
  EXPECT_EQ(plan_memory(request).value().kv.n_pages, static_cast<int32_t>(kGiB / 900'608));
  request.kv_bytes = 100 * kMiB;
  const Result<MemoryPlan> small = plan_memory(request);
  ASSERT_FALSE(small.ok());
  EXPECT_NE(small.error().message.find("one sequence of 131072 tokens"), std::string::npos) << small.error().message;
  request.kv_bytes = 500 * kGiB;
  EXPECT_FALSE(plan_memory(request).ok());
}

TEST(MemoryPlanTest, AnUnknownMachineAllowsEverything) {
  MemoryRequest request = flash();
  request.available_bytes = std::nullopt;
  EXPECT_TRUE(plan_memory(request).ok());
}

TEST(FormatBytesTest, UsesTheUnitThatFits) {
  EXPECT_EQ(format_bytes(1536), "1.5 KiB");
  EXPECT_EQ(format_bytes(3 * kMiB / 2), "1.5 MiB");
  EXPECT_EQ(format_bytes(81 * kGiB), "81.00 GiB");
}

}  // namespace
}  // namespace ds4
