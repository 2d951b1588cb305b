#include "base/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>

namespace ds4 {
namespace {

using ::testing::HasSubstr;

Result<int> half(int value) {
  if (value % 2 != 0) return make_error(ErrorCode::kInvalidArgument, "{} is odd", value);
  return value / 2;
}

Result<void> check_quarter(int value) {
  TRY(half(value));
  const int h = value / 2;
  TRY(half(h));
  return {};
}

TEST(ErrorTest, TryUnwrapsOrReturnsTheFirstError) {
  EXPECT_EQ(half(8).value(), 4);
  EXPECT_TRUE(check_quarter(8).ok());
  const auto failed = check_quarter(6);
  ASSERT_FALSE(failed.ok());
  EXPECT_EQ(failed.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(failed.error().message, "3 is odd");
}

TEST(ErrorTest, ResultMovesWhatCannotBeCopied) {
  const auto make = [](bool good) -> Result<std::unique_ptr<int>> {
    if (!good) return Error{ErrorCode::kIo, "no"};
    return std::make_unique<int>(5);
  };
  const auto twice = [&](bool good) -> Result<int> {
    const std::unique_ptr<int> value = TRY(make(good));
    return *value * 2;
  };
  EXPECT_EQ(twice(true).value(), 10);
  EXPECT_EQ(twice(false).error().code, ErrorCode::kIo);
}

TEST(ErrorTest, ContextGoesInFrontAndTheCodeStays) {
  const Error error = with_context(make_error(ErrorCode::kIo, "disk {}", 3), "model.gguf");
  EXPECT_EQ(error.message, "model.gguf: disk 3");
  EXPECT_EQ(error.code, ErrorCode::kIo);
}

TEST(ErrorTest, EveryCodeHasAnExitCodeOfTheDocumentedSet) {
  for (int code = 0; code <= static_cast<int>(ErrorCode::kInternal); ++code) {
    const ErrorCodeInfo& info = error_code_info(static_cast<ErrorCode>(code));
    EXPECT_TRUE(info.exit_code == 1 || info.exit_code == 2);
    EXPECT_GE(info.http_status, 400);
  }
  EXPECT_EQ(error_code_info(ErrorCode::kInvalidArgument).exit_code, 2);
}

TEST(ProblemListTest, ListsEveryProblemUnderOneSubject) {
  ProblemList problems;
  EXPECT_TRUE(problems.to_result(ErrorCode::kCorrupt, "file").ok());
  problems.add("first {}", 1);
  EXPECT_EQ(problems.to_result(ErrorCode::kCorrupt, "file").error().message, "file: 1 problem\n  first 1");
  problems.add("second");
  EXPECT_EQ(problems.to_result(ErrorCode::kCorrupt, "file").error().message, "file: 2 problems\n  first 1\n  second");
}

TEST(CheckDeathTest, ValueOfAnErrorAbortsWithItsMessage) { EXPECT_DEATH(half(3).value(), HasSubstr("3 is odd")); }

}  // namespace
}  // namespace ds4
