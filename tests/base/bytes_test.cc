#include "base/bytes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>

#include "base/rng.h"

namespace ds4 {
namespace {

using ::testing::HasSubstr;

TEST(BytesTest, WritesLittleEndianAndReadsItBack) {
  ByteWriter out;
  out.write(uint8_t{0x12});
  out.write(uint32_t{0x89ABCDEF});
  out.write(-1.5f);
  out.write_text("abc");
  EXPECT_EQ(out.bytes()[1], std::byte{0xEF});
  EXPECT_EQ(out.bytes()[4], std::byte{0x89});

  const auto bytes = out.take();
  ByteReader in(bytes, "test");
  EXPECT_EQ(in.read<uint8_t>("a").value(), 0x12);
  EXPECT_EQ(in.read<uint32_t>("b").value(), 0x89ABCDEF);
  EXPECT_EQ(in.read<float>("c").value(), -1.5f);
  EXPECT_EQ(in.read_text(3, "d").value(), "abc");
  EXPECT_EQ(in.remaining(), 0u);
}

TEST(BytesTest, ReadingBeyondTheEndNamesSubjectFieldAndOffset) {
  const std::array<std::byte, 6> bytes{};
  ByteReader in(bytes, "header");
  ASSERT_TRUE(in.read<uint32_t>("magic").ok());
  const auto failed = in.read<uint64_t>("count");
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(failed.error().message, HasSubstr("header: truncated at byte 4: count needs 8 bytes, 2 left"));
  // A failed read moves nothing.
  EXPECT_EQ(in.offset(), 4u);
  EXPECT_TRUE(in.read<uint16_t>("rest").ok());
}

TEST(BytesTest, LengthsNearTheLargestIntegerAreRefused) {
  const std::array<std::byte, 8> bytes{};
  ByteReader in(bytes, "x");
  ASSERT_TRUE(in.skip(3, "some").ok());
  EXPECT_FALSE(in.read_span(UINT64_MAX, "all").ok());
  EXPECT_FALSE(in.skip(UINT64_MAX - 2, "all").ok());
  EXPECT_FALSE(in.read_text(6, "text").ok());
  EXPECT_TRUE(in.read_text(5, "text").ok());
}

TEST(BytesTest, PaddingFillsWithZeroesUpToTheMultiple) {
  ByteWriter out;
  out.pad_to(8);
  EXPECT_EQ(out.size(), 0u);
  out.write(uint8_t{1});
  out.pad_to(8);
  EXPECT_EQ(out.size(), 8u);
  out.pad_to(8);
  EXPECT_EQ(out.size(), 8u);
  EXPECT_EQ(out.bytes()[7], std::byte{0});
}

TEST(BytesTest, RandomSequencesOfReadsNeverLeaveTheSpan) {
  Xorshift64Star random(3);
  for (int round = 0; round < 1000; ++round) {
    const std::vector<std::byte> bytes(random.next() % 40);
    ByteReader in(bytes, "x");
    for (int i = 0; i < 20; ++i) {
      const size_t before = in.offset();
      const uint64_t wanted = random.next() % 12;
      const bool fits = wanted <= in.remaining();
      EXPECT_EQ(in.skip(wanted, "f").ok(), fits);
      EXPECT_EQ(in.offset(), fits ? before + wanted : before);
    }
  }
}

}  // namespace
}  // namespace ds4
