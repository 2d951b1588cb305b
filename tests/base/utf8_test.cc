#include "base/utf8.h"

#include <gtest/gtest.h>

#include <utility>

#include "base/rng.h"

namespace ds4 {
namespace {

using std::string_literals::operator""s;

TEST(Utf8Test, EveryScalarValueRoundTrips) {
  for (char32_t code_point = 0; code_point <= 0x10FFFF; ++code_point) {
    if (code_point >= 0xD800 && code_point <= 0xDFFF) continue;
    std::string text;
    append_utf8(text, code_point);
    const Utf8Character character = decode_utf8(text, 0);
    ASSERT_EQ(character.status, Utf8Status::kWellFormed);
    ASSERT_EQ(character.code_point, code_point);
    ASSERT_EQ(character.n_bytes, text.size());
    // Cut anywhere, the rest could still be completed.
    for (size_t n = 1; n < text.size(); ++n) {
      const Utf8Character cut = decode_utf8(std::string_view(text).substr(0, n), 0);
      ASSERT_EQ(cut.status, Utf8Status::kTruncated);
      ASSERT_EQ(cut.n_bytes, n);
    }
  }
}

TEST(Utf8Test, IllFormedBytesBecomeOneReplacementPerMaximalSubpart) {
  const std::pair<std::string, std::string> cases[] = {
      {"plain", "plain"},
      {"\xff", "\uFFFD"},
      {"\xc3(", "\uFFFD("},
      {"\xe2\x82(", "\uFFFD("},
      {"\xf0(\x8c\xbc", "\uFFFD(\uFFFD\uFFFD"},
      {"A\xff"s + "B", "A\uFFFD"s + "B"},
      {"\xe2\x82", "\uFFFD"},
      {"\xf0\x9f\x98", "\uFFFD"},
      {"\x80", "\uFFFD"},
      {"\xc0\xaf", "\uFFFD\uFFFD"},
      {"\xed\xa0\x80", "\uFFFD\uFFFD\uFFFD"},
      {"\xf4\x90\x80\x80", "\uFFFD\uFFFD\uFFFD\uFFFD"},
      {"\xe4\xbd\xa0\xff", "\u4f60\uFFFD"},
      {"\xef\xbb\xbf"s + "A", "\ufeff"s + "A"},
      {"\x00\x80\xff"s, "\0\uFFFD\uFFFD"s},
      {"\xf1\x80\x80\xe1\x80\xc2", "\uFFFD\uFFFD\uFFFD"},
  };
  for (const auto& [bytes, repaired] : cases) {
    EXPECT_EQ(replace_ill_formed_utf8(bytes), repaired);
    EXPECT_EQ(is_well_formed_utf8(bytes), bytes == repaired);
  }
}

TEST(Utf8Test, RepairOfRandomBytesIsWellFormedAndKeepsWellFormedText) {
  constexpr unsigned char kInteresting[] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xC1, 0xC2,
                                            0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF3, 0xF4, 0xF5, 0xFF};
  Xorshift64Star random(11);
  for (int round = 0; round < 50000; ++round) {
    std::string text;
    for (uint64_t n = random.next() >> 32 & 7; n > 0; --n) {
      text += static_cast<char>(kInteresting[(random.next() >> 32) % std::size(kInteresting)]);
    }
    const std::string repaired = replace_ill_formed_utf8(text);
    ASSERT_TRUE(is_well_formed_utf8(repaired));
    ASSERT_EQ(replace_ill_formed_utf8(repaired), repaired);
    if (is_well_formed_utf8(text)) {
      ASSERT_EQ(repaired, text);
    }
    size_t covered = 0;
    while (covered < text.size()) covered += decode_utf8(text, covered).n_bytes;
    ASSERT_EQ(covered, text.size());
  }
}

}  // namespace
}  // namespace ds4
