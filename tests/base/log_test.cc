#include "base/log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

namespace ds4 {
namespace {

using ::testing::HasSubstr;

class LogTest : public ::testing::Test {
 protected:
  ~LogTest() override {
    set_log_level(LogLevel::kInfo);
    unsetenv("DS4_LOG");
  }
};

TEST_F(LogTest, PlainValuesStandBareAndOthersQuoted) {
  EXPECT_EQ(format_log_line(LogLevel::kInfo, "kv restored", {{"tokens", 512}, {"ms", 3.5}, {"hit", true}}),
            "level=info event=\"kv restored\" tokens=512 ms=3.5 hit=true");
  EXPECT_EQ(format_log_line(LogLevel::kWarn, "x", {{"path", "a b\"\\\n\x01"}, {"empty", ""}}),
            "level=warn event=x path=\"a b\\\"\\\\\\n\\x01\" empty=\"\"");
}

TEST_F(LogTest, LinesBelowTheLevelAreDropped) {
  set_log_level(LogLevel::kWarn);
  ::testing::internal::CaptureStderr();
  log_debug("one");
  log_info("two");
  log_warn("three");
  log_error("four", {{"n", 4}});
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "level=warn event=three\nlevel=error event=four n=4\n");
}

TEST_F(LogTest, TheEnvironmentSetsTheLevelAndAWrongNameIsExplained) {
  setenv("DS4_LOG", "error", 1);
  ASSERT_TRUE(set_log_level_from_environment().ok());
  ::testing::internal::CaptureStderr();
  log_warn("hidden");
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  setenv("DS4_LOG", "loud", 1);
  const auto failed = set_log_level_from_environment();
  ASSERT_FALSE(failed.ok());
  EXPECT_THAT(failed.error().message, HasSubstr("DS4_LOG: log level 'loud' is not known, accepted are debug, info"));
}

TEST_F(LogTest, ThreadsDoNotMixTheirLines) {
  ::testing::internal::CaptureStderr();
  {
    std::vector<std::jthread> threads;
    for (int t = 0; t < 4; ++t) {
      threads.emplace_back([] {
        for (int i = 0; i < 200; ++i) log_info("event of a thread", {{"value", "abc"}});
      });
    }
  }
  const std::string text = ::testing::internal::GetCapturedStderr();
  const std::string line = "level=info event=\"event of a thread\" value=abc\n";
  ASSERT_EQ(text.size(), 800 * line.size());
  for (size_t i = 0; i < 800; ++i) EXPECT_EQ(text.substr(i * line.size(), line.size()), line);
}

}  // namespace
}  // namespace ds4
