// The three expressions as the vendor writes them, run by PCRE2 in sequence, as an independent oracle for the scanner.
// PCRE2 brings its own, older Unicode tables. Texts are therefore made of the code points for which PCRE2's classes
// equal ours; ClassesDifferOnlyWhereKnown shows that this leaves out nothing but what PCRE2 holds for unassigned
// (\p{Cn}) and U+180E, which PCRE2 counts as white space.

#define PCRE2_CODE_UNIT_WIDTH 8

#include <gtest/gtest.h>
#include <pcre2.h>

#include <array>
#include <optional>

#include "text/pretokenizer.h"
#include "text/text_support.h"
#include "text/unicode_classes.h"

namespace ds4 {
namespace {

constexpr char32_t kMongolianVowelSeparator = 0x180E;

struct Range {
  size_t begin;
  size_t end;
};

class Expression {
 public:
  explicit Expression(const char* pattern) {
    int code = 0;
    size_t offset = 0;
    code_ = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern), PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &code,
                          &offset, nullptr);
    CHECK(code_ != nullptr, "error {} at {} of {}", code, offset, pattern);
    pcre2_jit_compile(code_, PCRE2_JIT_COMPLETE);
    match_ = pcre2_match_data_create_from_pattern(code_, nullptr);
  }
  ~Expression() {
    pcre2_match_data_free(match_);
    pcre2_code_free(code_);
  }
  Expression(const Expression&) = delete;
  Expression& operator=(const Expression&) = delete;

  // The first non-empty match at or after `offset`.
  std::optional<Range> find(std::string_view text, size_t offset) const {
    const int n = pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), offset, PCRE2_NOTEMPTY,
                              match_, nullptr);
    if (n < 0) return std::nullopt;
    const size_t* range = pcre2_get_ovector_pointer(match_);
    return Range{range[0], range[1]};
  }
  // Number of the last group that took part in the match at the start of the text.
  int group(std::string_view text) const {
    const int n =
        pcre2_match(code_, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0, PCRE2_ANCHORED, match_, nullptr);
    return n - 1;
  }

 private:
  pcre2_code* code_;
  pcre2_match_data* match_;
};

std::vector<std::string_view> split_once(const Expression& expression,
                                         const std::vector<std::string_view>& pieces_before) {
  std::vector<std::string_view> pieces;
  for (const std::string_view piece : pieces_before) {
    size_t offset = 0;
    while (const auto match = expression.find(piece, offset)) {
      if (match->begin > offset) pieces.push_back(piece.substr(offset, match->begin - offset));
      pieces.push_back(piece.substr(match->begin, match->end - match->begin));
      offset = match->end;
    }
    if (offset < piece.size()) pieces.push_back(piece.substr(offset));
  }
  return pieces;
}

std::vector<std::string_view> split_ours(std::string_view text) {
  std::vector<std::string_view> pieces;
  for (Pretokenizer scanner(text); !scanner.done();) pieces.push_back(scanner.next());
  return pieces;
}

class PretokenizerPcre2Test : public testing::Test {
 protected:
  std::vector<std::string_view> split_oracle(std::string_view text) const {
    if (text.empty()) return {};
    return split_once(signs_words_and_space_, split_once(cjk_, split_once(numbers_, {text})));
  }

  void expect_equal(const std::vector<char32_t>& code_points) const {
    const std::string text = test::to_utf8(code_points);
    ASSERT_EQ(split_ours(text), split_oracle(text)) << testing::PrintToString(code_points);
  }

  // Ours, and PCRE2's as the same enumeration.
  CharacterClass pcre2_class(char32_t code_point) const {
    return static_cast<CharacterClass>(classes_.group(test::to_utf8({code_point})));
  }

  Expression numbers_{R"(\p{N}{1,3})"};
  Expression cjk_{"[一-龥\u3040-ゟ゠-ヿ]+"};
  Expression signs_words_and_space_{
      R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+)"
      R"(| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)"};
  Expression classes_{R"((?s:(\p{L})|(\p{M})|(\p{N})|(\p{P})|(\p{S})|(\s)|.))"};
  Expression unassigned_{R"(\p{Cn})"};
};

template <class Function>
void for_each_scalar_value(Function function) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c < 0xD800 || c > 0xDFFF) function(c);
  }
}

TEST_F(PretokenizerPcre2Test, ClassesDifferOnlyWhereKnown) {
  std::vector<uint32_t> changed;
  for_each_scalar_value([&](char32_t c) {
    if (pcre2_class(c) == character_class(c) || c == kMongolianVowelSeparator) return;
    if (!unassigned_.find(test::to_utf8({c}), 0)) changed.push_back(c);
  });
  EXPECT_TRUE(changed.empty()) << testing::PrintToString(changed);
}

TEST_F(PretokenizerPcre2Test, RandomTextsOfAllAgreedCharacters) {
  std::vector<char32_t> agreed;
  for_each_scalar_value([&](char32_t c) {
    if (pcre2_class(c) == character_class(c)) agreed.push_back(c);
  });
  ASSERT_GT(agreed.size(), 1'000'000u);
  std::mt19937 random(1);
  for (int i = 0; i < 3000; ++i) {
    std::vector<char32_t> text(random() % 60);
    // Half from the first planes' beginning, where the classes are dense; the rest is mostly unassigned.
    for (char32_t& c : text) c = agreed[random() % (random() % 2 == 0 ? 0x3400 : agreed.size())];
    ASSERT_NO_FATAL_FAILURE(expect_equal(text));
  }
}

TEST_F(PretokenizerPcre2Test, RandomTextsOfTheCharactersThatDecide) {
  const std::vector<char32_t> deciding{' ',   ' ',   '\n',   '\r',   '\t',   0x0B,   0x85,   0xA0,   0x2028,  0x3000,
                                       'a',   'Z',   U'é',   0x0301, 0x093F, '1',    U'٣',   U'½',   U'漢',   U'ア',
                                       U'・', U'゛', 0x3040, 0x3099, U'ー',  0x9FA6, '!',    '~',    '_',     '<',
                                       U'。', U'€',  U'—',   0x0000, 0x200B, 0xE000, 0xFFFD, 0xFEFF, 0x1F600, 0x20BB7};
  std::mt19937 random(2);
  for (int i = 0; i < 40000; ++i) {
    std::vector<char32_t> text(random() % 14);
    for (char32_t& c : text) c = deciding[random() % deciding.size()];
    ASSERT_NO_FATAL_FAILURE(expect_equal(text));
  }
}

TEST_F(PretokenizerPcre2Test, AllShortTextsOfOneCharacterPerClass) {
  const std::array<char32_t, 10> classes{' ', '\n', '\t', 'a', 0x0301, '1', U'漢', '!', U'。', 0x01};
  for (size_t number = 0; number < 100'000; ++number) {
    std::vector<char32_t> text;
    for (size_t rest = number, i = 0; i < 5; ++i, rest /= classes.size())
      text.push_back(classes[rest % classes.size()]);
    ASSERT_NO_FATAL_FAILURE(expect_equal(text));
  }
}

}  // namespace
}  // namespace ds4
