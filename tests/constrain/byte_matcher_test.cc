#include "constrain/byte_matcher.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "constrain/schema_walker.h"

namespace ds4 {
namespace {

std::unique_ptr<test::SchemaWalker> walker_of(const char* schema) {
  return test::SchemaWalker::create(schema).take_value();
}

// Each token tried alone.
void expect_mask_of_tokens(ByteMatcher& matcher, MatchPosition position, const std::string& text) {
  static const auto tokens = test::json_tokens();
  const TokenMask mask = matcher.mask(position);
  for (const auto& [bytes, id] : tokens) {
    MatchPosition after = position;
    ASSERT_EQ(mask.allows(static_cast<size_t>(id)), matcher.advance(after, bytes)) << text << " + " << bytes;
  }
  ASSERT_EQ(mask.allows(tokens.size()), matcher.can_end(position)) << text;
  ASSERT_FALSE(mask.allows(tokens.size() + 1));
}

TEST(ByteMatcherTest, TheMaskIsWhatTheTokensSay) {
  const auto walker = walker_of(R"({"type":"object","properties":{"name":{"type":"string"},"n":{"type":"number"}}})");
  for (const char* text : {"", "{", "{\"", "{\"na", "{\"name\":", "{\"name\": \"a\\", "{\"name\": \"\xE2", "{\"n\": -",
                           "{\"n\": 1.5", "{}"}) {
    MatchPosition position = walker->matcher().start(walker->start());
    ASSERT_TRUE(walker->matcher().advance(position, text)) << text;
    expect_mask_of_tokens(walker->matcher(), position, text);
  }
}

// Places far from the ends of a repetition share a mask; it must be the right one at every number, and there are many.
TEST(ByteMatcherTest, MasksOfCountedRepetitionsAreExactAtEveryNumber) {
  for (const char* schema : {
           R"({"type":"string","minLength":30,"maxLength":90})",
           R"({"type":"string","maxLength":60})",
           R"({"type":"string","minLength":80})",
           R"({"type":"array","items":{"type":"string","maxLength":40},"maxItems":40})",
           R"({"type":"string","pattern":"^(?:na|[a-c]|\\u00e4){20,70}$"})",
           R"({"type":"string","pattern":"^(?:a?b?){40}$"})",
           R"({"type":"string","pattern":"^(?:[a-c]{1,30}\\n){25}x$"})",
           R"({"type":"string","pattern":"^a{50,}$"})",
           R"({"type":"string","pattern":"^(?:(?:ab|c){2,3} ?){30}(?:ab){20}$"})",
       }) {
    const auto walker = walker_of(schema);
    for (uint64_t seed = 1; seed <= 4; ++seed) {
      Xorshift64Star rng(seed);
      std::string text;
      MatchPosition position = walker->matcher().start(walker->start());
      while (text.size() < 4000) {
        expect_mask_of_tokens(walker->matcher(), position, fmt::format("{}: {}", schema, text));
        if (testing::Test::HasFatalFailure()) return;
        // As far as the repetition goes: it is left only where nothing else may follow.
        std::string next;
        for (const char* wanted : {"a", "b", "c", "\\n", " ", "n", "x", ",", "[", "\"", "]"}) {
          MatchPosition after = position;
          const bool fits = walker->matcher().advance(after, wanted);
          const bool is_inside = std::string_view("abcn \\n").find(*wanted) != std::string_view::npos;
          if (fits && (next.empty() || (is_inside && rng.next() % 2 == 0))) next = wanted;
        }
        if (next.empty()) break;
        ASSERT_TRUE(walker->matcher().advance(position, next));
        text += next;
        if (text.size() > 400 && walker->matcher().can_end(position)) break;
      }
      EXPECT_GT(text.size(), 30U) << schema;
    }
  }
}

TEST(ByteMatcherTest, ALongCounterNeedsFewMasks) {
  const auto walker = walker_of(R"({"type":"string","maxLength":3000})");
  MatchPosition position = walker->matcher().start(walker->start());
  ASSERT_TRUE(walker->matcher().advance(position, "\"aa"));
  const TokenMask* mask = &walker->matcher().mask(position);
  for (int i = 0; i < 2900; ++i) {
    ASSERT_TRUE(walker->matcher().advance(position, "a"));
    ASSERT_EQ(&walker->matcher().mask(position), mask) << i;
  }
  ASSERT_TRUE(walker->matcher().advance(position, std::string(97, 'a')));
  EXPECT_NE(&walker->matcher().mask(position), mask);
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
