#include "text/detokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "base/utf8.h"
#include "text/byte_alphabet.h"
#include "text/text_support.h"

namespace ds4 {
namespace {

// A tokenizer in which each of the byte strings is a token, and their ids.
struct Fixture {
  explicit Fixture(const std::vector<std::string>& tokens) {
    VocabularyData data = byte_level_vocabulary(300);
    for (const std::string& token : tokens) {
      const auto control = std::ranges::find(kControlTokens, token, &ControlTokenInfo::text);
      if (control != kControlTokens.end()) {
        ids.push_back(static_cast<int32_t>(control - kControlTokens.begin()));
        continue;
      }
      ids.push_back(static_cast<int32_t>(data.tokens.size()));
      data.tokens.push_back(spell_in_alphabet(token));
      data.token_types.push_back(static_cast<int32_t>(TokenType::kNormal));
    }
    auto created = Tokenizer::create(std::move(data));
    EXPECT_TRUE(created.ok()) << created.error().message;
    tokenizer = std::move(created).value();
  }
  std::unique_ptr<Tokenizer> tokenizer;
  std::vector<int32_t> ids;
};

TEST(DetokenizerTest, GoldenStreamsStepByStep) {
  for (const test::Json& entry : test::read_jsonl_vectors("v4_decode.jsonl")) {
    std::vector<std::string> tokens;
    for (const test::Json& hex : entry.at("token_bytes_hex")) tokens.push_back(test::from_hex(hex.get<std::string>()));
    const Fixture fixture(tokens);
    Detokenizer detokenizer(*fixture.tokenizer);
    for (size_t i = 0; i < tokens.size(); ++i) {
      EXPECT_EQ(detokenizer.push(fixture.ids[i]), entry.at("stream_text").at(i).get<std::string>())
          << entry.at("id") << " token " << i;
    }
    EXPECT_EQ(detokenizer.finish(), entry.at("tail_hex").get<std::string>().empty() ? "" : "\uFFFD");
    EXPECT_EQ(detokenizer.finish(), "");
  }
}

TEST(DetokenizerTest, AnySplitOfAnyBytesGivesTheReplacedWhole) {
  std::mt19937 random(5);
  for (int round = 0; round < 500; ++round) {
    std::vector<std::string> tokens(1 + random() % 10);
    std::string whole;
    for (std::string& token : tokens) {
      // Bytes that often make up characters, whole and broken.
      for (size_t n = 1 + random() % 4; n > 0; --n)
        token.push_back("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80\xFF"[random() % 11]);
      whole += token;
    }
    const Fixture fixture(tokens);
    Detokenizer detokenizer(*fixture.tokenizer);
    std::string text;
    for (const int32_t id : fixture.ids) {
      text += detokenizer.push(id);
      ASSERT_TRUE(is_well_formed_utf8(text));
    }
    text += detokenizer.finish();
    ASSERT_EQ(text, replace_ill_formed_utf8(whole));
  }
}

}  // namespace
}  // namespace ds4
