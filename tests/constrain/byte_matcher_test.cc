#include "constrain/byte_matcher.h"

#include <gtest/gtest.h>

#include "constrain/schema_walker.h"

namespace ds4 {
namespace {

std::unique_ptr<test::SchemaWalker> walker_of(const char* schema) {
  return test::SchemaWalker::create(schema).take_value();
}

TEST(ByteMatcherTest, TheMaskIsWhatTheTokensSay) {
  const auto walker = walker_of(R"({"type":"object","properties":{"name":{"type":"string"},"n":{"type":"number"}}})");
  const auto tokens = test::json_tokens();
  for (const char* text : {"", "{", "{\"", "{\"na", "{\"name\":", "{\"name\": \"a\\", "{\"name\": \"\xE2", "{\"n\": -",
                           "{\"n\": 1.5", "{}"}) {
    MatchPosition position = walker->matcher().start(walker->start());
    ASSERT_TRUE(walker->matcher().advance(position, text)) << text;
    const TokenMask mask = walker->matcher().mask(position);
    for (const auto& [bytes, id] : tokens) {
      MatchPosition after = position;
      EXPECT_EQ(mask.allows(static_cast<size_t>(id)), walker->matcher().advance(after, bytes))
          << text << " + " << bytes;
    }
    EXPECT_EQ(mask.allows(tokens.size()), walker->matcher().can_end(position)) << text;
    EXPECT_FALSE(mask.allows(tokens.size() + 1));
  }
}

TEST(ByteMatcherTest, PositionsOutliveTheirStore) {
  const auto walker = walker_of("{}");
  const auto grammar = std::make_shared<ByteGrammar>(walker->grammar());
  ByteMatcher matcher(grammar, std::make_shared<TokenTrie>(walker->trie()), {.max_configs = 5, .max_masks = 2});
  MatchPosition first = matcher.start(walker->start());
  MatchPosition second = matcher.start(walker->start());
  ASSERT_TRUE(matcher.advance(first, "[[{\"a\": ["));
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(matcher.advance(second, i % 2 == 0 ? "[1, " : "{\"k\": "));
    matcher.mask(second);
  }
  EXPECT_TRUE(matcher.advance(first, "]}]"));
  EXPECT_FALSE(matcher.can_end(first));
  EXPECT_TRUE(matcher.advance(first, "]"));
  EXPECT_TRUE(matcher.can_end(first));
  EXPECT_FALSE(matcher.advance(first, "]"));
  EXPECT_TRUE(ByteMatcher::is_nowhere(first));
}

}  // namespace
}  // namespace ds4
