#include "base/tensor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

namespace ds4 {
namespace {

using ::testing::HasSubstr;

class HostBuffer final : public Buffer {
 public:
  explicit HostBuffer(size_t n_floats) : floats_(n_floats) {
    for (size_t i = 0; i < n_floats; ++i) floats_[i] = static_cast<float>(i);
  }
  std::byte* host_data() const override {
    return const_cast<std::byte*>(reinterpret_cast<const std::byte*>(floats_.data()));
  }
  uint64_t size_bytes() const override { return floats_.size() * sizeof(float); }

 private:
  std::vector<float> floats_;
};

TEST(DTypeTest, BlockGeometryOfEveryType) {
  EXPECT_EQ(row_bytes(DType::kF32, 3).value(), 12u);
  EXPECT_EQ(row_bytes(DType::kF16, 3).value(), 6u);
  EXPECT_EQ(row_bytes(DType::kBF16, 3).value(), 6u);
  EXPECT_EQ(row_bytes(DType::kI32, 3).value(), 12u);
  EXPECT_EQ(row_bytes(DType::kU8, 3).value(), 3u);
  EXPECT_EQ(row_bytes(DType::kQ8_0, 64).value(), 68u);
  EXPECT_EQ(row_bytes(DType::kMXFP4, 64).value(), 34u);
  EXPECT_EQ(row_bytes(DType::kQ2_K, 512).value(), 168u);
  EXPECT_EQ(row_bytes(DType::kQ4_K, 512).value(), 288u);
  EXPECT_EQ(row_bytes(DType::kIQ2_XXS, 512).value(), 132u);
}

TEST(DTypeTest, BrokenBlocksAndOverflowAreErrors) {
  EXPECT_THAT(row_bytes(DType::kQ4_K, 128).error().message, HasSubstr("128 elements is not whole Q4_K blocks of 256"));
  EXPECT_FALSE(row_bytes(DType::kQ8_0, 33).ok());
  EXPECT_FALSE(row_bytes(DType::kF32, -1).ok());
  EXPECT_FALSE(row_bytes(DType::kF32, INT64_MAX).ok());
  EXPECT_FALSE(tensor_bytes(DType::kF32, {int64_t{1} << 40, int64_t{1} << 40}).ok());
  EXPECT_FALSE(tensor_bytes(DType::kF32, Shape()).ok());
  EXPECT_EQ(tensor_bytes(DType::kQ8_0, {3, 5, 32}).value(), 3u * 5 * 34);
}

TEST(ShapeTest, ComparesAndPrintsOutermostFirst) {
  const Shape shape = {256, 4096};
  EXPECT_EQ(shape.to_string(), "[256, 4096]");
  EXPECT_EQ(shape.elements(), 256 * 4096);
  EXPECT_EQ(shape.back(), 4096);
  EXPECT_EQ(shape, Shape({256, 4096}));
  EXPECT_FALSE(shape == Shape({4096, 256}));
  EXPECT_FALSE(shape == Shape({256, 4096, 1}));
}

TEST(TensorViewTest, RowsMoveAlongTheOutermostAxis) {
  const HostBuffer buffer(2 + 4 * 3 * 2);
  const TensorView view{.buffer = &buffer, .offset_bytes = 8, .type = DType::kF32, .shape = {4, 3, 2}};
  const TensorView rows = view.rows(1, 2);
  EXPECT_EQ(rows.shape, Shape({2, 3, 2}));
  EXPECT_EQ(rows.f32()[0], 8.0f);
  EXPECT_EQ(rows.size_bytes(), 48u);
  EXPECT_EQ(view.rows(4, 0).elements(), 0);
  EXPECT_EQ(view.reshaped({12, 2}).rows(3, 1).f32()[0], 8.0f);
}

TEST(TensorViewTest, RowsOfQuantisedTensorsCountWholeBlocks) {
  const TensorView view{.buffer = nullptr, .offset_bytes = 100, .type = DType::kQ8_0, .shape = {4, 64}};
  EXPECT_EQ(view.size_bytes(), 4u * 68);
  EXPECT_EQ(view.rows(3, 1).offset_bytes, 100u + 3 * 68);
}

TEST(TensorViewDeathTest, RowsOutsideTheShapeAbort) {
  const TensorView view{.buffer = nullptr, .offset_bytes = 0, .type = DType::kF32, .shape = {4, 2}};
  EXPECT_DEATH(view.rows(3, 2), HasSubstr("rows 3+2"));
}

}  // namespace
}  // namespace ds4
