// How experts are shared out between a card and the machine (no device is needed), and what a device computes then.

#include "backends/cuda/expert_paging.h"

#include <gtest/gtest.h>

#include <cstring>

#include "backends/cuda/paged_memory.h"

namespace ds4::cuda {
namespace {

// The expert tensors of the published model's q2 file.
class FlashExperts {
 public:
  explicit FlashExperts(int32_t n_layers) {
    for (int32_t layer = 0; layer < n_layers; ++layer) {
      add(layer, "gate", DType::kIQ2_XXS, {256, 2048, 4096});
      add(layer, "up", DType::kIQ2_XXS, {256, 2048, 4096});
      add(layer, "down", DType::kQ2_K, {256, 4096, 2048});
    }
    for (size_t i = 0; i < infos_.size(); ++i)
      weights_.push_back({.tensor = &infos_[i], .host = {nullptr, 0, *infos_[i].type, infos_[i].shape}});
  }
  std::span<const WeightToPlace> weights() const { return weights_; }

 private:
  void add(int32_t layer, std::string_view kind, DType type, const Shape& shape) {
    TensorInfo info;
    info.name = fmt::format("blk.{}.ffn_{}_exps.weight", layer, kind);
    info.type = type;
    info.shape = shape;
    infos_.push_back(info);
  }
  std::vector<TensorInfo> infos_;
  std::vector<WeightToPlace> weights_;
};

TEST(ExpertPlacement, LayersAreReadFromNames) {
  EXPECT_EQ(expert_layer("blk.17.ffn_up_exps.weight"), 17);
  EXPECT_EQ(expert_layer("blk.17.ffn_up_shexp.weight"), std::nullopt);
  EXPECT_EQ(expert_layer("blk.x.ffn_up_exps.weight"), std::nullopt);
  EXPECT_EQ(expert_layer("output.weight"), std::nullopt);
}

TEST(ExpertPlacement, AnExpertOfThePublishedModelIsWholePages) {
  const FlashExperts flash(1);
  for (const WeightToPlace& weight : flash.weights()) {
    const ExpertPlanes planes = expert_planes(weight.host);
    EXPECT_EQ(planes.expert_bytes, PagedMemory::kPageBytes) << weight.tensor->name;
  }
}

TEST(ExpertPlacement, AsManyOfEveryLayerAsFit) {
  const FlashExperts flash(43);
  const uint64_t budget = uint64_t{30} << 30;
  const ExpertPlacement placed = place_experts(flash.weights(), budget).value();
  EXPECT_EQ(placed.n_layers, 43);
  EXPECT_EQ(placed.n_experts, 256);
  EXPECT_LE(placed.card_bytes, budget);
  EXPECT_GT(placed.card_bytes + uint64_t{43} * 3 * PagedMemory::kPageBytes, budget);  // no further expert of each
  EXPECT_EQ(placed.machine_bytes, uint64_t{43} * 3 * PagedMemory::kPageBytes * (256 - placed.n_on_card));
  EXPECT_EQ(place_experts(flash.weights(), uint64_t{1} << 40).value().n_on_card, 256);
}

TEST(ExpertPlacement, TooLittleForTheScalesIsRefused) {
  const FlashExperts flash(43);
  const auto refused = place_experts(flash.weights(), uint64_t{1} << 30);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kOutOfMemory);
}

TEST(ExpertPlacement, ExpertsThatShareAPageAreRefused) {
  TensorInfo info;
  info.name = "blk.0.ffn_gate_exps.weight";
  info.type = DType::kQ8_0;
  info.shape = {16, 256, 256};
  const WeightToPlace weight{.tensor = &info, .host = {nullptr, 0, DType::kQ8_0, info.shape}};
  const auto refused = place_experts({&weight, 1}, uint64_t{1} << 30);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().code, ErrorCode::kUnsupported);
  EXPECT_NE(refused.error().message.find("blk.0.ffn_gate_exps.weight"), std::string::npos);
}

TEST(PagedMemoryOnADevice, PagesKeepTheirBytesWhenTheyChangePlaces) {
  if (!PagedMemory::is_supported()) GTEST_SKIP() << "no device that can place pages in the machine's memory";
  constexpr size_t kPages = 4;
  auto memory = PagedMemory::create({true, false, true, false}).value();
  std::vector<std::byte> bytes(kPages * PagedMemory::kPageBytes);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>((i * 2654435761U) >> 13);
  ASSERT_EQ(cudaMemcpy(memory->device_data(), bytes.data(), bytes.size(), cudaMemcpyDefault), cudaSuccess);
  void* spare = nullptr;
  ASSERT_EQ(cudaMalloc(&spare, PagedMemory::kPageBytes), cudaSuccess);
  const auto moved = memory->exchange(2, 1, static_cast<std::byte*>(spare), nullptr);
  ASSERT_TRUE(moved.ok()) << moved.error().message;
  EXPECT_TRUE(memory->is_on_card(1));
  EXPECT_FALSE(memory->is_on_card(2));
  std::vector<std::byte> read(bytes.size());
  ASSERT_EQ(cudaMemcpy(read.data(), memory->device_data(), read.size(), cudaMemcpyDefault), cudaSuccess);
  EXPECT_EQ(std::memcmp(read.data(), bytes.data(), bytes.size()), 0);
  (void)cudaFree(spare);
}

}  // namespace
}  // namespace ds4::cuda
