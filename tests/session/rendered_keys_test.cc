#include "session/rendered_keys.h"

#include <gtest/gtest.h>

#include "base/rng.h"
#include "session/session_fixture.h"

namespace ds4 {
namespace {

class RenderedKeysTest : public testing::Test {
 protected:
  // The text in tokens as they come, or byte by byte.
  std::vector<int32_t> encode(const std::string& text, bool by_bytes) const {
    if (!by_bytes) return tokenizer_.encode_text(text);
    std::vector<int32_t> ids;
    for (const char c : text) {
      const std::vector<int32_t> one = tokenizer_.encode_text(std::string(1, c));
      ids.insert(ids.end(), one.begin(), one.end());
    }
    return ids;
  }
  int32_t control(ControlToken token) const { return tokenizer_.control_id(token).value(); }

  std::vector<int32_t> turn(const std::string& text, bool by_bytes) const {
    std::vector<int32_t> ids{control(ControlToken::kUser)};
    const std::vector<int32_t> body = encode(text, by_bytes);
    ids.insert(ids.end(), body.begin(), body.end());
    ids.push_back(control(ControlToken::kAssistant));
    return ids;
  }

  const Tokenizer& tokenizer_ = test::mini_tokenizer();
};

TEST_F(RenderedKeysTest, BoundariesStandBeforeAndAfterControlTokens) {
  const std::vector<int32_t> ids = turn("hello there", false);
  const std::vector<RenderedBoundary> boundaries = rendered_boundaries(tokenizer_, ids);
  ASSERT_EQ(boundaries.size(), 3U);
  EXPECT_EQ(boundaries[0].n_tokens, 1U);
  EXPECT_EQ(boundaries[1].n_tokens, ids.size() - 1);
  EXPECT_EQ(boundaries[2].n_tokens, ids.size());
  EXPECT_EQ(boundaries[1].key, rendered_key(tokenizer_, std::span(ids).first(ids.size() - 1)));
  EXPECT_EQ(boundaries[2].key, rendered_key(tokenizer_, ids));
}

TEST_F(RenderedKeysTest, TheSameTextInOtherTokensHasTheSameKey) {
  const std::vector<int32_t> merged = turn("The quick brown fox jumps over the lazy dog.", false);
  const std::vector<int32_t> bytes = turn("The quick brown fox jumps over the lazy dog.", true);
  ASSERT_NE(merged, bytes);
  EXPECT_EQ(rendered_key(tokenizer_, merged), rendered_key(tokenizer_, bytes));
  EXPECT_TRUE(same_rendering(tokenizer_, merged, bytes));
}

TEST_F(RenderedKeysTest, OtherTextOrOtherControlTokensDiffer) {
  const std::vector<int32_t> a = turn("one two", false);
  for (const std::vector<int32_t>& b : {turn("one twp", false), turn("one two ", true), encode("one two", false),
                                        std::vector<int32_t>(a.begin(), a.end() - 1)}) {
    EXPECT_NE(rendered_key(tokenizer_, a), rendered_key(tokenizer_, b));
    EXPECT_FALSE(same_rendering(tokenizer_, a, b));
    EXPECT_FALSE(same_rendering(tokenizer_, b, a));
  }
}

TEST_F(RenderedKeysTest, ATextThatSpellsAMarkerIsNoMarker) {
  const std::vector<int32_t> marker{control(ControlToken::kUser)};
  const std::vector<int32_t> spelt = tokenizer_.encode_text("<｜User｜>");
  EXPECT_FALSE(same_rendering(tokenizer_, marker, spelt));
  EXPECT_NE(rendered_key(tokenizer_, marker), rendered_key(tokenizer_, spelt));
}

TEST_F(RenderedKeysTest, AnyTwoWaysToCutATextAreTheSame) {
  Xorshift64Star rng(5);
  for (int i = 0; i < 200; ++i) {
    std::string text;
    for (uint64_t n = rng.next() % 60; n > 0; --n) text += static_cast<char>('a' + rng.next() % 6);
    std::vector<int32_t> pieces;
    for (size_t at = 0; at < text.size();) {
      const size_t n = 1 + rng.next() % 9;
      const std::vector<int32_t> ids = tokenizer_.encode_text(text.substr(at, n));
      pieces.insert(pieces.end(), ids.begin(), ids.end());
      at += n;
    }
    const std::vector<int32_t> whole = tokenizer_.encode_text(text);
    EXPECT_TRUE(same_rendering(tokenizer_, whole, pieces)) << text;
    EXPECT_EQ(rendered_key(tokenizer_, whole), rendered_key(tokenizer_, pieces)) << text;
    if (text.empty()) continue;
    text.back() = 'z';
    EXPECT_FALSE(same_rendering(tokenizer_, tokenizer_.encode_text(text), pieces)) << text;
  }
}

}  // namespace
}  // namespace ds4
