#include "base/rng.h"

#include <gtest/gtest.h>

namespace ds4 {
namespace {

TEST(RngTest, XorshiftGivesTheReferenceSequence) {
  Xorshift64Star random(1);
  EXPECT_EQ(random.next(), 0x47e4ce4b896cdd1du);
  EXPECT_EQ(random.next(), 0xabcfa6a8e079651du);
  EXPECT_EQ(random.next(), 0xb9d10d8feb731f57u);
  Xorshift64Star units(1);
  EXPECT_NEAR(units.next_unit(), 0.280835032f, 1e-9f);
  EXPECT_NEAR(units.next_unit(), 0.671137214f, 1e-9f);
  EXPECT_NEAR(units.next_unit(), 0.725846112f, 1e-9f);
}

TEST(RngTest, SeedZeroIsReplacedByTheGoldenGamma) {
  EXPECT_EQ(Xorshift64Star(0).next(), Xorshift64Star(0x9E3779B97F4A7C15).next());
}

TEST(RngTest, UnitsStayBelowOne) {
  Xorshift64Star random(123);
  for (int i = 0; i < 100000; ++i) {
    const float u = random.next_unit();
    ASSERT_GE(u, 0.0f);
    ASSERT_LT(u, 1.0f);
  }
}

// Published values of FNV-1a and of SplitMix64 (seed 1234567).
TEST(RngTest, HashesGiveTheirPublishedValues) {
  EXPECT_EQ(fnv1a64(""), 0xcbf29ce484222325u);
  EXPECT_EQ(fnv1a64("a"), 0xaf63dc4c8601ec8cu);
  EXPECT_EQ(fnv1a64("foobar"), 0x85944171f73967e8u);
  EXPECT_EQ(splitmix64_mix(1234567 + kGoldenGamma), 6457827717110365317u);
  EXPECT_EQ(splitmix64_mix(1234567 + 2 * kGoldenGamma), 3203168211198807973u);
}

}  // namespace
}  // namespace ds4
