#include "ops/profile_ops.h"

#include <gtest/gtest.h>

#include <array>
#include <regex>
#include <set>

#include "backends/host_backend.h"
#include "base/file.h"

namespace ds4 {
namespace {

// Every reading is 5 us after the one before.
class SteppingClock final : public Clock {
 public:
  int64_t now_us() const override { return now_us_ += 5; }

 private:
  mutable int64_t now_us_ = 0;
};

class ArrayBuffer final : public Buffer {
 public:
  explicit ArrayBuffer(size_t n_bytes) : bytes_(n_bytes) {}
  std::byte* host_data() const override { return bytes_.data(); }
  uint64_t size_bytes() const override { return bytes_.size(); }

 private:
  mutable std::vector<std::byte> bytes_;
};

// A call that is not passed on would run the default body, or the fused step would be timed as its parts.
TEST(ProfileOpsTest, PassesOnEveryOp) {
  const std::regex op(R"(virtual void (\w+)\()");
  const auto names_in = [](const std::string& path, const std::regex& pattern) {
    const std::string text = read_file(DS4_SOURCE_DIR "/src/ops/" + path, 1 << 20).take_value();
    std::set<std::string> names;
    for (std::sregex_iterator it(text.begin(), text.end(), pattern), end; it != end; ++it) names.insert((*it)[1]);
    return names;
  };
  const std::set<std::string> ops = names_in("ops.h", op);
  EXPECT_GT(ops.size(), 20U);
  EXPECT_EQ(names_in("profile_ops.cc", std::regex(R"(\bops_\.(\w+)\()")), ops);
}

TEST(ProfileOpsTest, TellsProductsApartByTypeAndShape) {
  const auto backend = make_reference_backend(ReferenceReal::kFloat, NumericProfile::kExact);
  const SteppingClock clock;
  ProfileOps ops(backend->ops(), clock);
  const ArrayBuffer memory(1 << 16);
  const TensorView small{&memory, 0, DType::kF32, {4, 8}};
  const TensorView large{&memory, 1024, DType::kF32, {16, 8}};
  const TensorView x{&memory, 4096, DType::kF32, {3, 8}};
  for (int i = 0; i < 2; ++i) ops.matmul(small, x, {&memory, 8192, DType::kF32, {3, 4}});
  ops.matmul(large, x, {&memory, 8192, DType::kF32, {3, 16}});
  const std::vector<OpProfile> profile = ops.profile();
  ASSERT_EQ(profile.size(), 2U);
  EXPECT_EQ(profile[0].name, "matmul F32 [4, 8]");
  EXPECT_EQ(profile[0].calls, 2U);
  EXPECT_EQ(profile[0].us, 10);
  EXPECT_EQ(profile[0].weight_bytes, 2U * 4 * 8 * 4);
  EXPECT_EQ(profile[0].macs, 2U * 3 * 4 * 8);
  EXPECT_EQ(profile[1].name, "matmul F32 [16, 8]");
  ops.reset();
  EXPECT_TRUE(ops.profile().empty());
}

TEST(ProfileOpsTest, CountsTheExpertsThatRowsShareOnce) {
  const auto backend = make_reference_backend(ReferenceReal::kFloat, NumericProfile::kExact);
  const SteppingClock clock;
  ProfileOps ops(backend->ops(), clock);
  const ArrayBuffer memory(1 << 16);
  const TensorView experts{&memory, 0, DType::kF32, {4, 8, 8}};
  const TensorView ids{&memory, 32768, DType::kI32, {3, 2}};
  std::ranges::copy(std::array{0, 1, 1, 3, 3, 0}, ids.i32());
  ops.experts({.x = {&memory, 4096, DType::kF32, {3, 8}},
               .gate = experts,
               .up = experts,
               .down = experts,
               .ids = ids,
               .weights = {&memory, 40960, DType::kF32, {3, 2}}},
              {&memory, 8192, DType::kF32, {3, 8}});
  EXPECT_EQ(ops.distinct_experts(), 3U);
  EXPECT_EQ(ops.expert_calls(), 1U);
  const OpProfile experts_profile = ops.profile()[0];
  EXPECT_EQ(experts_profile.weight_bytes, 3U * 3 * 8 * 8 * 4);
  EXPECT_EQ(experts_profile.macs, 6U * 3 * 8 * 8);
}

}  // namespace
}  // namespace ds4
