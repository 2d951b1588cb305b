#include "text/unicode_classes.h"

#include <gtest/gtest.h>

#include <utility>

#include "base/utf8.h"
#include "text/byte_alphabet.h"
#include "text/text_support.h"

namespace ds4 {
namespace {

TEST(UnicodeClassesTest, EveryCodePointAsInTheReferenceTable) {
  const test::Json table = test::read_json_vectors("unicode_classes.json");
  std::vector<CharacterClass> expected(0x110000, CharacterClass::kOther);
  const std::vector<std::pair<const char*, CharacterClass>> names{
      {"L", CharacterClass::kLetter},      {"M", CharacterClass::kMark},   {"N", CharacterClass::kNumber},
      {"P", CharacterClass::kPunctuation}, {"S", CharacterClass::kSymbol}, {"WS", CharacterClass::kWhiteSpace},
  };
  for (const auto& [name, value] : names) {
    for (const test::Json& range : table.at(name)) {
      for (size_t c = range[0].get<size_t>(); c <= range[1].get<size_t>(); ++c) expected[c] = value;
    }
  }
  size_t n_different = 0;
  for (char32_t c = 0; c < expected.size(); ++c) n_different += character_class(c) != expected[c];
  EXPECT_EQ(n_different, 0u);
}

TEST(UnicodeClassesTest, WhiteSpaceIsNotWhateverLooksEmpty) {
  for (const char32_t c : {0x09u, 0x0Du, 0x20u, 0x85u, 0xA0u, 0x2028u, 0x3000u}) {
    EXPECT_EQ(character_class(c), CharacterClass::kWhiteSpace) << uint32_t{c};
  }
  for (const char32_t c : {0x00u, 0x200Bu, 0xFEFFu, 0xE000u, 0x10FFFFu}) {
    EXPECT_EQ(character_class(c), CharacterClass::kOther) << uint32_t{c};
  }
}

TEST(ByteAlphabetTest, AsInTheReferenceTable) {
  const test::Json table = test::read_json_vectors("byte_tokens.json");
  for (size_t byte = 0; byte < 256; ++byte) {
    EXPECT_EQ(byte_to_alphabet(static_cast<uint8_t>(byte)), table.at("codepoints").at(byte).get<char32_t>());
  }
}

TEST(ByteAlphabetTest, SpellingRoundTripsAndForeignCharactersAreRefused) {
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) bytes.push_back(static_cast<char>(byte));
  EXPECT_EQ(bytes_of_spelling(spell_in_alphabet(bytes)), bytes);
  EXPECT_EQ(spell_in_alphabet(" \n"), "\u0120\u010A");
  for (const char* foreign : {"a b", "\n", "\u00AD", "\u0144", "｜", "\xFF"}) EXPECT_FALSE(bytes_of_spelling(foreign));
}

}  // namespace
}  // namespace ds4
