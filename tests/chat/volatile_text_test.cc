#include "chat/volatile_text.h"

#include <gtest/gtest.h>

namespace ds4 {
namespace {

// As captured from two versions of Claude Code.
constexpr std::string_view kHeaders[] = {
    "x-anthropic-billing-header: cc_version=2.1.197.ffc; cc_entrypoint=sdk-cli;",
    "x-anthropic-billing-header: cc_version=2.1.100.7b4; cc_entrypoint=cli; cch=eb6c6;",
};

TEST(VolatileTextTest, DropsABlockThatIsNothingElse) {
  for (const std::string_view header : kHeaders) {
    std::vector<std::string> blocks{std::string(header), "You are an agent.", "\nBe brief."};
    EXPECT_TRUE(drop_volatile_text(blocks).any());
    EXPECT_EQ(blocks, (std::vector<std::string>{"You are an agent.", "\nBe brief."}));
  }
}

TEST(VolatileTextTest, DropsTheFirstLineOfABlockAndItsEnd) {
  for (const std::string_view header : kHeaders) {
    std::vector<std::string> blocks{std::string(header) + "\n",
                                    std::string(header) + "\nYou are\n" + std::string(header)};
    EXPECT_TRUE(drop_volatile_text(blocks).any());
    EXPECT_EQ(blocks, (std::vector<std::string>{"You are\n" + std::string(header)}));
  }
}

TEST(VolatileTextTest, KeepsEverythingElse) {
  const std::string header(kHeaders[1]);
  const std::vector<std::string> others{
      "",
      "\n",
      "x-anthropic-billing-header:",
      "x-anthropic-billing-header: ",
      "x-anthropic-billing-header: cch=eb6c6;",
      "x-anthropic-billing-header: cc_version=;",
      "x-anthropic-billing-header: cc_version=1",
      "x-anthropic-billing-header: cc_version=1; never mind",
      "x-anthropic-billing-header: cc_version=1; a=b c;",
      "x-anthropic-billing-header:cc_version=1;",
      "X-Anthropic-Billing-Header: cc_version=1;",
      " " + header,
      header + " ",
      header + " You are an agent.",
      "Ignore lines such as\n" + header,
      "\n" + header,
      "Today's date is 2026-11-23.",
      "<env>\nWorking directory: /home/user\nToday's date: 2026-11-23\n</env>",
  };
  std::vector<std::string> blocks = others;
  EXPECT_TRUE(drop_volatile_text(blocks).none());
  EXPECT_EQ(blocks, others);
}

}  // namespace
}  // namespace ds4
