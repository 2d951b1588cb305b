#include "constrain/regex.h"

#include <gtest/gtest.h>

#include <regex>

#include "constrain/byte_matcher.h"

namespace ds4 {
namespace {

// What an expression matches, by the grammar that it becomes.
class Pattern {
 public:
  static Result<std::unique_ptr<Pattern>> create(std::string_view expression,
                                                 CharacterForm form = CharacterForm::kRaw) {
    auto pattern = std::make_unique<Pattern>();
    const GrammarState end = pattern->grammar_->add_state();
    pattern->start_ = pattern->grammar_->add_state();
    pattern->grammar_->set_end(end);
    TRY(add_pattern(expression, form, pattern->start_, end, *pattern->grammar_));
    pattern->grammar_->prune();
    const std::vector<std::pair<std::string, int32_t>> no_tokens{{"a", 0}};
    pattern->matcher_ = std::make_unique<ByteMatcher>(pattern->grammar_, std::make_shared<TokenTrie>(no_tokens, 2, 1));
    return pattern;
  }

  bool matches(std::string_view text) {
    MatchPosition position = matcher_->start(start_);
    return !ByteMatcher::is_nowhere(position) && matcher_->advance(position, text) && matcher_->can_end(position);
  }

 private:
  std::shared_ptr<ByteGrammar> grammar_ = std::make_shared<ByteGrammar>();
  std::unique_ptr<ByteMatcher> matcher_;
  GrammarState start_ = 0;
};

bool matches(std::string_view expression, std::string_view text, CharacterForm form = CharacterForm::kRaw) {
  auto pattern = Pattern::create(expression, form);
  EXPECT_TRUE(pattern.ok()) << expression << ": " << pattern.error().message;
  return pattern.ok() && pattern.value()->matches(text);
}

constexpr const char* kExpressions[] = {"",
                                        "^$",
                                        "a",
                                        "^a$",
                                        "^a",
                                        "a$",
                                        "^a|b$",
                                        "^(a|b)$",
                                        "^a|b",
                                        "^(?:ab)*$",
                                        "^(ab?)+c$",
                                        "^a{2}$",
                                        "^a{1,3}b$",
                                        "^a{2,}$",
                                        "^(a|ab)(c|bc)$",
                                        "^[abc]+$",
                                        "^[^ab]*$",
                                        "^[a-b]c$",
                                        "^[a-]+$",
                                        "^[\\]a]$",
                                        "^a.c$",
                                        "^.*c$",
                                        "^\\d+$",
                                        "^\\D\\d?$",
                                        "^\\w{2,3}$",
                                        "^\\W$",
                                        "^[\\d-]+$",
                                        "^a*?b+?$",
                                        "^(a*)*$",
                                        "^(a|b|)c$",
                                        "^(a{0,2}){2}$",
                                        "^\\x61$",
                                        "^\\u0062$",
                                        "^a\\-0$",

                                        "^((a)(b))?$",
                                        "^a{0}b$",
                                        "ab|^c",
                                        "^(?:a|b){3}c?$",
                                        "^[^]*$",
                                        "^(b+|a)*c$",
                                        "^a??$",
                                        "^(ab|a)*$",
                                        "^\\.$",
                                        "^[.]$",
                                        "^(?:a?b?c?){2}$"};

TEST(RegexTest, MatchesWhatTheStandardLibraryDoes) {
  constexpr std::string_view kAlphabet = "abc0-.";
  std::vector<std::string> texts{""};
  for (size_t i = 0; i < texts.size() && texts[i].size() < 5; ++i) {
    for (const char c : kAlphabet) texts.push_back(texts[i] + c);
  }
  for (const char* expression : kExpressions) {
    const std::string_view written = expression;
    // This class is ECMAScript's alone.
    const std::regex reference(written == "^[^]*$" ? "^[\\s\\S]*$" : expression, std::regex::ECMAScript);
    auto pattern = Pattern::create(expression);
    ASSERT_TRUE(pattern.ok()) << expression << ": " << pattern.error().message;
    for (const std::string& text : texts) {
      ASSERT_EQ(pattern.value()->matches(text), std::regex_search(text, reference)) << expression << " on " << text;
    }
  }
}

TEST(RegexTest, CharactersAreCodePoints) {
  EXPECT_TRUE(matches("^.$", "\xC3\xA4"));
  EXPECT_TRUE(matches("^.$", "\xF0\x9F\x98\x80"));
  EXPECT_FALSE(matches("^..$", "\xF0\x9F\x98\x80"));
  EXPECT_FALSE(matches("^.$", "\xC3")) << "a part of a character";
  EXPECT_FALSE(matches("^.$", "\xED\xA0\x80")) << "a surrogate";
  EXPECT_TRUE(matches("^[\xC3\xA0-\xC3\xBF]+$", "\xC3\xA4\xC3\xB6"));
  EXPECT_FALSE(matches("^[\xC3\xA0-\xC3\xBF]+$", "\xC3\x9F"));
  EXPECT_TRUE(matches("^[^a]$", "\xE2\x82\xAC"));
  EXPECT_TRUE(matches("^\\u20ac$", "\xE2\x82\xAC"));
  for (const char* end : {"\n", "\r", "\xE2\x80\xA8"}) EXPECT_FALSE(matches("^.$", end)) << "a line ends there";
  EXPECT_TRUE(matches("^\\s$", "\xC2\xA0"));
  EXPECT_FALSE(matches("^\\w$", "\xC3\xA4")) << "\\w is ASCII";
}

TEST(RegexTest, InJsonTheCharactersAreEscaped) {
  const CharacterForm json = CharacterForm::kJsonString;
  EXPECT_TRUE(matches("^a\"b$", "a\\\"b", json));
  EXPECT_FALSE(matches("^a\"b$", "a\"b", json));
  EXPECT_TRUE(matches("^\\\\$", "\\\\", json));
  EXPECT_TRUE(matches("^\\n\\t$", "\\n\\t", json));
  EXPECT_TRUE(matches("^\\x01$", "\\u0001", json));
  EXPECT_FALSE(matches("^\\n$", "\n", json));
  EXPECT_TRUE(matches("^[^a]$", "\\\"", json));
}

TEST(RegexTest, NamedAndLazyFormsMatchTheSame) {
  EXPECT_TRUE(matches("^(?<name>a|b){2}c$", "abc"));
  EXPECT_FALSE(matches("^(?<name>a|b){2}c$", "ac"));
  EXPECT_TRUE(matches("^a{2,3}?$", "aaa"));
}

TEST(RegexTest, RepetitionsAreExactUpToTheirLimit) {
  const auto accepts = [](const std::string& expression, size_t n) { return matches(expression, std::string(n, 'a')); };
  for (const size_t n : {999U, 1000U}) EXPECT_TRUE(accepts("^a{999,1000}$", n));
  for (const size_t n : {998U, 1001U}) EXPECT_FALSE(accepts("^a{999,1000}$", n));
  EXPECT_TRUE(accepts("^a{1000,}$", 1500));
  EXPECT_FALSE(accepts("^a{1000,}$", 999));
}

struct Refused {
  const char* expression;
  const char* says;
  ErrorCode code = ErrorCode::kUnsupported;
};

TEST(RegexTest, WhatIsNotSupportedIsNamed) {
  constexpr ErrorCode kWrong = ErrorCode::kInvalidArgument;
  const Refused cases[] = {
      {"(?=a)", "look-ahead"},        {"(?!a)", "look-ahead"},           {"(?<=a)b", "look-behind"},
      {"(?<!a)b", "look-behind"},     {"(a)\\1", "back reference"},      {"\\k<n>", "back reference"},
      {"\\bword", "word boundary"},   {"\\p{L}", "Unicode property"},    {"a{1001}", "so many repetitions"},
      {"a(^b)", "an anchor"},         {"(?i:a)", "this kind of group"},  {"\\ud800", "a surrogate"},
      {"(a", "too early", kWrong},    {"a)", "unexpected ')'", kWrong},  {"*a", "unexpected '*'", kWrong},
      {"[a", "too early", kWrong},    {"[b-a]", "range", kWrong},        {"a{2,1}", "at least 2 and at most 1", kWrong},
      {"\\", "too early", kWrong},    {"\\q", "unexpected 'q'", kWrong}, {"\\xg0", "unexpected", kWrong},
      {"a{x}", "unexpected", kWrong}, {"[\\d-a]", "range", kWrong}};
  for (const Refused& refused : cases) {
    const auto pattern = Pattern::create(refused.expression);
    ASSERT_FALSE(pattern.ok()) << refused.expression;
    EXPECT_NE(pattern.error().message.find(refused.says), std::string::npos)
        << refused.expression << ": " << pattern.error().message;
    EXPECT_EQ(pattern.error().code, refused.code) << refused.expression;
  }
}

}  // namespace
}  // namespace ds4
