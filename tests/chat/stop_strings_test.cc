#include "chat/stop_strings.h"

#include <gtest/gtest.h>

namespace ds4 {
namespace {

std::string feed(StopStrings& stops, std::string_view text, size_t piece) {
  std::string out;
  for (size_t at = 0; at < text.size(); at += piece) out += stops.push(text.substr(at, piece));
  return out + stops.finish();
}

TEST(StopStringsTest, EndsBeforeTheFirstWhateverTheCuts) {
  for (const size_t piece : {1U, 2U, 3U, 100U}) {
    StopStrings stops({"never", "END", "NDX"});
    EXPECT_EQ(feed(stops, "a long text ENDX and more", piece), "a long text ");
    EXPECT_TRUE(stops.found());
    EXPECT_EQ(stops.matched(), "END");
  }
}

TEST(StopStringsTest, OfTwoThatEndTogetherTheLongerWins) {
  StopStrings stops({"b", "ab"});
  EXPECT_EQ(stops.push("xab"), "x");
  EXPECT_EQ(stops.matched(), "ab");
}

TEST(StopStringsTest, HoldsBackOnlyWhatMayBecomeOne) {
  StopStrings stops({"abc"});
  EXPECT_EQ(stops.push("xab"), "x");
  EXPECT_EQ(stops.push("d"), "abd");
  EXPECT_EQ(stops.push("a"), "");
  EXPECT_EQ(stops.finish(), "a");
  EXPECT_FALSE(stops.found());
}

TEST(StopStringsTest, EmptyOnesMeanNothing) {
  StopStrings stops({"", ""});
  EXPECT_EQ(stops.push("x"), "x");
  EXPECT_FALSE(stops.found());
}

}  // namespace
}  // namespace ds4
