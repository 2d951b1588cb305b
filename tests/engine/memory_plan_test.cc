#include "engine/memory_plan.h"

#include <gtest/gtest.h>

#include "backends/host_backend.h"

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

// Flash's q2 file on a device.
MemoryRequest flash_on(uint64_t device_bytes) {
  MemoryRequest request = flash();
  request.device = "cuda device 0";
  request.weights_are_mapped = false;
  request.workspace_bytes = 300 * kMiB;
  request.remembers = false;
  request.available_bytes = device_bytes;
  request.host_bytes = 64 * kGiB;
  return request;
}

TEST(DeviceMemoryPlanTest, EverythingIsCountedBesideWeightsAndCheckpointsAreTheHosts) {
  MemoryRequest request = flash_on(139 * kGiB);
  request.remembers = true;
  const MemoryPlan plan = plan_memory(request).value();
  EXPECT_EQ(plan.kv.n_pages, 2 * 4 * 512);
  EXPECT_EQ(plan.checkpoint_bytes, 2 * kGiB);
  EXPECT_EQ(plan.device, "cuda device 0");
  EXPECT_LE(plan.weight_bytes + plan.total_bytes() - plan.checkpoint_bytes, 139 * kGiB);
}

// A device that may or may not read experts over the bus; everything else is the host's.
class ExpertDevice final : public HostBackend {
 public:
  explicit ExpertDevice(bool can_limit)
      : HostBackend("device", NumericProfile::kCanonical, nullptr), can_limit_(can_limit) {}
  bool keep_experts_within(uint64_t device_bytes) override {
    if (can_limit_) kept_bytes = device_bytes;
    return can_limit_;
  }
  std::optional<uint64_t> kept_bytes;

 private:
  bool can_limit_;
};

MemoryRequest flash_with_experts_on(uint64_t device_bytes) {
  MemoryRequest request = flash_on(device_bytes);
  request.expert_bytes = 73 * kGiB;
  request.host_bytes = 128 * kGiB;
  return request;
}

TEST(LimitExpertsTest, WhatFitsStaysWhole) {
  ExpertDevice device(true);
  MemoryRequest request = flash_with_experts_on(139 * kGiB);
  EXPECT_EQ(limit_experts(std::nullopt, device, request).value(), "");
  EXPECT_FALSE(device.kept_bytes);
  EXPECT_EQ(request.weight_bytes, flash_on(139 * kGiB).weight_bytes);
}

TEST(LimitExpertsTest, OnASmallDeviceAsManyAsFitStayThere) {
  for (const uint64_t gibibytes : {24, 48, 80}) {
    ExpertDevice device(true);
    MemoryRequest request = flash_with_experts_on(gibibytes * kGiB);
    EXPECT_FALSE(plan_memory(request).ok());
    EXPECT_NE(limit_experts(std::nullopt, device, request).value(), "");
    ASSERT_TRUE(device.kept_bytes);
    EXPECT_TRUE(plan_memory(request).ok()) << gibibytes;
    // One page of KV more would not have fitted.
    request.weight_bytes += request.page_bytes;
    EXPECT_FALSE(plan_memory(request).ok()) << gibibytes;
  }
}

TEST(LimitExpertsTest, WhatIsAskedForIsKept) {
  ExpertDevice device(true);
  MemoryRequest request = flash_with_experts_on(139 * kGiB);
  const uint64_t before = request.weight_bytes;
  const std::string said = limit_experts(30 * kGiB, device, request).value();
  EXPECT_NE(said.find("43.00 GiB of 73.00 GiB"), std::string::npos) << said;
  EXPECT_EQ(device.kept_bytes, 30 * kGiB);
  EXPECT_EQ(request.weight_bytes, before - 43 * kGiB);
}

TEST(LimitExpertsTest, ABackendThatCannotSaysSoOnlyWhenAsked) {
  ExpertDevice device(false);
  MemoryRequest request = flash_with_experts_on(48 * kGiB);
  EXPECT_EQ(limit_experts(std::nullopt, device, request).value(), "");
  EXPECT_FALSE(plan_memory(request).ok());
  const auto refused = limit_experts(30 * kGiB, device, request);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
}

TEST(LimitExpertsTest, TheMachineNeedsRoomForTheOthers) {
  ExpertDevice device(true);
  MemoryRequest request = flash_with_experts_on(24 * kGiB);
  request.host_bytes = 32 * kGiB;
  const auto refused = limit_experts(std::nullopt, device, request);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kOutOfMemory);
  EXPECT_NE(refused.error().message.find("the machine has 32.00 GiB"), std::string::npos) << refused.error().message;
}

TEST(DeviceMemoryPlanTest, ARefusalSaysWhatIsNeededWhatIsThereAndWhichContextFits) {
  const Result<MemoryPlan> plan = plan_memory(flash_on(82 * kGiB + 512 * kMiB));
  ASSERT_FALSE(plan.ok());
  EXPECT_EQ(plan.error().code, ErrorCode::kOutOfMemory);
  const std::string& message = plan.error().message;
  for (const char* part : {"cuda device 0", "81.00 GiB for weights", "a context of 131072 tokens", "4 slots"})
    EXPECT_NE(message.find(part), std::string::npos) << part << " in " << message;
  const std::string_view before = "; a context of ";
  const size_t at = message.find(before);
  ASSERT_NE(at, std::string::npos) << message;
  MemoryRequest smaller = flash_on(82 * kGiB + 512 * kMiB);
  smaller.ctx_tokens = std::stoi(message.substr(at + before.size()));
  EXPECT_GT(smaller.ctx_tokens, 0);
  EXPECT_TRUE(plan_memory(smaller).ok()) << message;
}

TEST(DeviceMemoryPlanTest, WeightsThatAreTooLargeAreNamed) {
  const Result<MemoryPlan> plan = plan_memory(flash_on(78 * kGiB));
  ASSERT_FALSE(plan.ok());
  const std::string& message = plan.error().message;
  const std::string_view before = "weights of at most ";
  const size_t at = message.find(before);
  ASSERT_NE(at, std::string::npos) << message;
  MemoryRequest smaller = flash_on(78 * kGiB);
  smaller.weight_bytes = static_cast<uint64_t>(std::stod(message.substr(at + before.size())) * 0.999) * kGiB;
  EXPECT_TRUE(plan_memory(smaller).ok()) << message;
}

}  // namespace
}  // namespace ds4
