#include "gguf/metadata.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ds4 {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

MetadataValue integer_value(GgufType type, uint64_t bits) {
  return {.type = type, .bytes = std::string(reinterpret_cast<const char*>(&bits), gguf_type_bytes(type))};
}

TEST(MetadataTest, EveryIntegerWidthReadsAsTheSameNumber) {
  for (const GgufType type : {GgufType::kU8, GgufType::kI8, GgufType::kU16, GgufType::kI16, GgufType::kU32,
                              GgufType::kI32, GgufType::kU64, GgufType::kI64}) {
    Metadata metadata;
    metadata.set_value("n", integer_value(type, 43));
    EXPECT_EQ(metadata.get_int("n").value(), 43) << gguf_type_name(type);
    EXPECT_EQ(metadata.get_float("n").value(), 43.0) << gguf_type_name(type);
  }
  for (const GgufType type : {GgufType::kI8, GgufType::kI16, GgufType::kI32, GgufType::kI64}) {
    Metadata metadata;
    metadata.set_value("n", integer_value(type, static_cast<uint64_t>(int64_t{-2})));
    EXPECT_EQ(metadata.get_int("n").value(), -2) << gguf_type_name(type);
  }
}

TEST(MetadataTest, UnsignedBeyondTheSignedRangeIsRefused) {
  Metadata metadata;
  metadata.set_u64("n", UINT64_MAX);
  EXPECT_THAT(metadata.get_int("n").error().message, HasSubstr("'n' is 18446744073709551615, expected at most"));
  EXPECT_EQ(metadata.get_float("n").value(), 0x1p64);
}

TEST(MetadataTest, MissingKeysAndWrongTypesSayWhy) {
  Metadata metadata;
  metadata.set_f32("f", 1.5f);
  metadata.set_u32("n", 1);
  metadata.set_i32_array("a", std::vector<int32_t>{1, -2});
  metadata.set_string_array("s", std::vector<std::string>{"x"});

  EXPECT_EQ(metadata.get_int("none").error().code, ErrorCode::kNotFound);
  EXPECT_EQ(metadata.get_int("none").error().message, "metadata key 'none' is missing");
  EXPECT_EQ(metadata.get_int("f").error().message, "metadata key 'f' has type f32, expected an integer");
  EXPECT_EQ(metadata.get_bool("n").error().message, "metadata key 'n' has type u32, expected bool");
  EXPECT_EQ(metadata.get_string("n").error().message, "metadata key 'n' has type u32, expected string");
  EXPECT_EQ(metadata.get_float("a").error().message, "metadata key 'a' has type array of i32, expected a number");
  EXPECT_EQ(metadata.get_int_array("n").error().message,
            "metadata key 'n' has type u32, expected an array of integers");
  EXPECT_EQ(metadata.get_int_array("s").error().message,
            "metadata key 's' has type array of string, expected an array of integers");
  EXPECT_EQ(metadata.get_string_array("a").error().message,
            "metadata key 'a' has type array of i32, expected an array of strings");
}

TEST(MetadataTest, ArraysOfEveryKind) {
  Metadata metadata;
  metadata.set_i32_array("i", std::vector<int32_t>{0, 4, -128});
  metadata.set_u32_array("u", std::vector<uint32_t>{0, 4, UINT32_MAX});
  metadata.set_f32_array("f", std::vector<float>{10.0f, -0.5f});
  metadata.set_string_array("s", std::vector<std::string>{"", "a b", std::string("\0x", 2)});
  metadata.set_string_array("none", {});
  EXPECT_THAT(metadata.get_int_array("i").value(), ElementsAre(0, 4, -128));
  EXPECT_THAT(metadata.get_int_array("u").value(), ElementsAre(0, 4, int64_t{UINT32_MAX}));
  EXPECT_THAT(metadata.get_float_array("f").value(), ElementsAre(10.0, -0.5));
  EXPECT_THAT(metadata.get_float_array("i").value(), ElementsAre(0.0, 4.0, -128.0));
  EXPECT_THAT(metadata.get_string_array("s").value(), ElementsAre("", "a b", std::string_view("\0x", 2)));
  EXPECT_TRUE(metadata.get_string_array("none").value().empty());
}

TEST(MetadataTest, SettingAgainReplacesInPlace) {
  Metadata metadata;
  metadata.set_u32("a", 1);
  metadata.set_bool("b", true);
  metadata.set_string("a", "now text");
  ASSERT_EQ(metadata.entries().size(), 2u);
  EXPECT_EQ(metadata.entries()[0].key, "a");
  EXPECT_EQ(metadata.get_string("a").value(), "now text");
  EXPECT_TRUE(metadata.get_bool("b").value());
  EXPECT_FALSE(metadata.contains("c"));
}

TEST(MetadataTest, CopiesAreIndependent) {
  Metadata first;
  first.set_u32("a", 1);
  Metadata second = first;
  second.set_u32("a", 2);
  second.set_u32("b", 3);
  EXPECT_EQ(first.get_int("a").value(), 1);
  EXPECT_FALSE(first.contains("b"));
}

TEST(MetadataTest, TextForPeopleIsShortAndEscaped) {
  Metadata metadata;
  metadata.set_i32_array("i", std::vector<int32_t>{0, 0, 4, 128});
  metadata.set_string_array("s", std::vector<std::string>{"x", "y\n"});
  metadata.set_f32("f", 1e-6f);
  metadata.set_bool("b", false);
  metadata.set_u64("u", UINT64_MAX);
  EXPECT_EQ(metadata.find("i")->to_text(4), "[0, 0, 4, 128]");
  EXPECT_EQ(metadata.find("i")->to_text(2), "[0, 0, ... (4 i32)]");
  EXPECT_EQ(metadata.find("s")->to_text(9), "['x', 'y\\x0a']");
  EXPECT_EQ(metadata.find("f")->to_text(9), "1e-06");
  EXPECT_EQ(metadata.find("b")->to_text(9), "false");
  EXPECT_EQ(metadata.find("u")->to_text(9), "18446744073709551615");
  EXPECT_EQ(metadata.find("s")->type_text(), "array of string");
}

TEST(MetadataTest, AlignmentIsThirtyTwoUnlessTheFileSaysOtherwise) {
  Metadata metadata;
  EXPECT_EQ(gguf_alignment(metadata).value(), 32u);
  metadata.set_u64("general.alignment", 64);
  EXPECT_EQ(gguf_alignment(metadata).value(), 64u);
  for (const uint32_t wrong : {0u, 1u, 4u, 24u, 1u << 21}) {
    metadata.set_u32("general.alignment", wrong);
    EXPECT_THAT(gguf_alignment(metadata).error().message, HasSubstr("expected a power of two from 8 to 1048576"));
  }
  metadata.set_string("general.alignment", "32");
  EXPECT_THAT(gguf_alignment(metadata).error().message, HasSubstr("expected an integer"));
}

}  // namespace
}  // namespace ds4
