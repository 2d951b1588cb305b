#include "ops/weight_blocks.h"

#include <gtest/gtest.h>

#include "gguf/dequantize.h"
#include "ops/case_builder.h"
#include "ops/check_data.h"

namespace ds4::test {

namespace {

WeightBlock256 unpacked_256(DType type, const std::vector<std::byte>& block) {
  WeightBlock256 unpacked;
  unpack_blocks_256(type, block.data(), 256, &unpacked);
  return unpacked;
}

Q8_KActivation pattern_q8_k() {
  Q8_KActivation q;
  quantize_q8_k(pattern_activations(256).data(), 256, &q);
  return q;
}

struct Integers {
  int32_t product = 0;
  int32_t minimum = 0;
};

Integers integers_of(const WeightBlock256& w, const Q8_KActivation& x) {
  Integers sums;
  for (int i = 0; i < 256; ++i) {
    sums.product += w.scales[i / 16] * w.codes[i] * x.codes[i];
    sums.minimum += w.mins[i / 16] * x.codes[i];
  }
  return sums;
}

TEST(WeightBlocksTest, Q2KDotOfThePattern) {
  const auto w = unpacked_256(DType::kQ2_K, pattern_block(DType::kQ2_K, {{80, kHalfEighth}, {82, kHalfSixteenth}}));
  const Integers sums = integers_of(w, pattern_q8_k());
  EXPECT_EQ(sums.product, -4164);
  EXPECT_EQ(sums.minimum, -6500);
  EXPECT_FLOAT_EQ(block_dot<float>(w, pattern_q8_k()), 2.81126881f);
}

TEST(WeightBlocksTest, Q4KDotOfThePattern) {
  const auto w = unpacked_256(DType::kQ4_K, pattern_block(DType::kQ4_K, {{0, kHalfEighth}, {2, kHalfSixteenth}}));
  const Integers sums = integers_of(w, pattern_q8_k());
  EXPECT_EQ(sums.product, -219763);
  EXPECT_EQ(sums.minimum, -7147);
  EXPECT_FLOAT_EQ(block_dot<float>(w, pattern_q8_k()), 664.952942f);
}

TEST(WeightBlocksTest, Iq2XxsDotOfThePattern) {
  const auto w = unpacked_256(DType::kIQ2_XXS, pattern_block(DType::kIQ2_XXS, {{0, kHalfEighth}}));
  const Integers sums = integers_of(w, pattern_q8_k());
  EXPECT_EQ(sums.product, -404838);
  EXPECT_EQ(sums.minimum, 0);
  EXPECT_FLOAT_EQ(block_dot<float>(w, pattern_q8_k()), 155.649445f);
}

// Integers and scales mean the values that the file format defines.
TEST(WeightBlocksTest, UnpackedBlocksAreTheDequantisedValues) {
  constexpr int64_t kBlocks = 20;
  for (const DType type : {DType::kQ8_0, DType::kMXFP4, DType::kQ2_K, DType::kQ4_K, DType::kIQ2_XXS}) {
    const int64_t n = kBlocks * dtype_info(type).block_elements;
    const std::vector<std::byte> row = make_weight(type, n, 17);
    std::vector<float> expected(static_cast<size_t>(n));
    dequantize_row(type, row.data(), expected.data(), n);
    std::vector<WeightBlock32> small(kBlocks);
    std::vector<WeightBlock256> large(kBlocks);
    dtype_info(type).block_elements == 32 ? unpack_blocks_32(type, row.data(), n, small.data())
                                          : unpack_blocks_256(type, row.data(), n, large.data());
    for (size_t i = 0; i < expected.size(); ++i) {
      float value = 0.0f;
      if (dtype_info(type).block_elements == 32) {
        value = small[i / 32].scale * static_cast<float>(small[i / 32].codes[i % 32]);
      } else {
        const WeightBlock256& w = large[i / 256];
        const size_t t = i % 256 / 16;
        value = w.d * static_cast<float>(w.scales[t] * w.codes[i % 256]) - w.dmin * static_cast<float>(w.mins[t]);
      }
      ASSERT_EQ(value, expected[i]) << dtype_name(type) << " element " << i;
    }
  }
}

TEST(WeightBlocksDeathTest, TypesWithoutSuchBlocksAreProgrammerErrors) {
  WeightBlock32 small;
  WeightBlock256 large;
  const std::vector<std::byte> row(1024);
  EXPECT_DEATH(unpack_blocks_32(DType::kQ4_K, row.data(), 32, &small), "Q4_K has no blocks of 32");
  EXPECT_DEATH(unpack_blocks_256(DType::kQ8_0, row.data(), 256, &large), "Q8_0 has no blocks of 256");
}

}  // namespace

}  // namespace ds4::test
