#include "server/anthropic_signature.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ds4 {
namespace {

TEST(AnthropicSignatureTest, CarriesTextOfEveryLength) {
  std::string text;
  for (int i = 0; i < 10; ++i) {
    const std::string signature = sign_thinking(text, SignatureKind::kText);
    EXPECT_EQ(signed_thinking(signature), text) << i;
    EXPECT_TRUE(signs_thinking(signature, text));
    EXPECT_THAT(signature, testing::MatchesRegex("[A-Za-z0-9+/]+=*"));
    EXPECT_EQ(signature.size() % 4, 0U);
    text += i == 4 ? "\xE4\xBD\xA0" : "a";
  }
}

TEST(AnthropicSignatureTest, HoldsOnlyAHashOfWhatIsShown) {
  const std::string long_text(10'000, 'x');
  const std::string signature = sign_thinking(long_text, SignatureKind::kHash);
  EXPECT_LT(signature.size(), 64U);
  EXPECT_TRUE(signs_thinking(signature, long_text));
  EXPECT_FALSE(signs_thinking(signature, long_text + "x"));
  EXPECT_FALSE(signed_thinking(signature).has_value());
}

// Signatures outlive the process, so their form must not change by accident.
TEST(AnthropicSignatureTest, IsTheSameInEveryProcess) {
  EXPECT_EQ(sign_thinking("hm", SignatureKind::kText), "ZHNUMTECtUb9kdamb4MiG5+NJs2naG0=");
  EXPECT_EQ(sign_thinking("hm", SignatureKind::kHash), "ZHNUMTACtUb9kdamb4MiG5+NJs2n");
}

TEST(AnthropicSignatureTest, GivesNothingOfForeignOrDamagedOnes) {
  for (const char* foreign : {"", "c2ln", "not base64!", "====", "abc", "ZHNUMQ=="}) {
    EXPECT_FALSE(signed_thinking(foreign).has_value()) << foreign;
    EXPECT_FALSE(signs_thinking(foreign, "")) << foreign;
  }
  const std::string whole = sign_thinking("some text", SignatureKind::kText);
  for (size_t i = 0; i + 2 < whole.size(); ++i) {
    std::string damaged = whole;
    damaged[i] = damaged[i] == 'A' ? 'B' : 'A';
    EXPECT_FALSE(signed_thinking(damaged).has_value()) << i;
  }
  EXPECT_FALSE(signed_thinking(whole.substr(0, whole.size() - 4)).has_value());
}

}  // namespace
}  // namespace ds4
