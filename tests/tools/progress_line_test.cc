#include "tools/common/progress_line.h"

#include <gtest/gtest.h>

namespace ds4 {
namespace {

TEST(ProgressLineTest, DurationsAreHoursMinutesSeconds) {
  EXPECT_EQ(duration_text(0), "0:00");
  EXPECT_EQ(duration_text(59.6), "1:00");
  EXPECT_EQ(duration_text(3725), "1:02:05");
}

TEST(ProgressLineTest, TransfersHaveShareRateAndTimeLeft) {
  EXPECT_EQ(transfer_text(20'000'000'000, 80'000'000'000, 10), " 25.0 %  2.0 GB/s  0:30 left");
  EXPECT_EQ(transfer_text(0, 80'000'000'000, 10), "  0.0 %  0.0 GB/s  ? left");
}

}  // namespace
}  // namespace ds4
