#include "text/pretokenizer.h"

#include <gtest/gtest.h>

#include "text/text_support.h"

namespace ds4 {
namespace {

using Pieces = std::vector<std::string>;

Pieces split(std::string_view text) {
  Pieces pieces;
  for (Pretokenizer scanner(text); !scanner.done();) pieces.emplace_back(scanner.next());
  return pieces;
}

TEST(PretokenizerTest, PieceLengthsOfEveryGoldenText) {
  for (const test::Json& entry : test::read_jsonl_vectors("v4_text.jsonl")) {
    std::vector<size_t> lengths;
    for (const std::string& piece : split(entry.at("text").get<std::string>())) lengths.push_back(piece.size());
    EXPECT_EQ(lengths, entry.at("piece_bytes").get<std::vector<size_t>>()) << entry.at("id");
  }
}

TEST(PretokenizerTest, NumbersComeInThrees) {
  EXPECT_EQ(split("1234567"), (Pieces{"123", "456", "7"}));
  EXPECT_EQ(split("a12b"), (Pieces{"a", "12", "b"}));
  EXPECT_EQ(split("1٣½四"), (Pieces{"1٣½", "四"}));
}

TEST(PretokenizerTest, CjkRunIsCutOffBeforeWordsAreSought) {
  EXPECT_EQ(split("x漢字y"), (Pieces{"x", "漢字", "y"}));
  EXPECT_EQ(split("ア・イ"), (Pieces{"ア", "・", "イ"}));
  EXPECT_EQ(split(" 漢"), (Pieces{" ", "漢"}));
}

TEST(PretokenizerTest, RunBoundaryActsAsEndOfTextForWhiteSpace) {
  EXPECT_EQ(split("a  1"), (Pieces{"a", "  ", "1"}));
  EXPECT_EQ(split("a  漢"), (Pieces{"a", "  ", "漢"}));
  EXPECT_EQ(split("a  b"), (Pieces{"a", " ", " b"}));
  EXPECT_EQ(split("a  "), (Pieces{"a", "  "}));
}

TEST(PretokenizerTest, WhiteSpaceRunEndsAfterItsLastLineBreak) {
  EXPECT_EQ(split(" \n \n  x"), (Pieces{" \n \n", " ", " x"}));
  EXPECT_EQ(split("\r\n\tx"), (Pieces{"\r\n", "\tx"}));
}

TEST(PretokenizerTest, SignsTakeASpaceBeforeAndLineBreaksAfter) {
  EXPECT_EQ(split("a +=\n\nb"), (Pieces{"a", " +=\n\n", "b"}));
  EXPECT_EQ(split("。\n"), (Pieces{"。\n"}));
  EXPECT_EQ(split("_name(x)"), (Pieces{"_name", "(x", ")"}));
  EXPECT_EQ(split("(é"), (Pieces{"(", "é"}));
}

TEST(PretokenizerTest, UnmatchedCharactersJoinInOneGap) {
  EXPECT_EQ(split(std::string_view("\0\1\2", 3)), (Pieces{std::string("\0\1\2", 3)}));
  EXPECT_EQ(split("\x01\x02z"), (Pieces{"\x01", "\x02z"}));
  EXPECT_EQ(split("\u200B!"), (Pieces{"\u200B", "!"}));
}

TEST(PretokenizerTest, IllFormedBytesAreKeptAsSymbols) {
  EXPECT_EQ(split("a\xFF\xFE"), (Pieces{"a", "\xFF\xFE"}));
  EXPECT_EQ(split("\xE4\xBD"), (Pieces{"\xE4\xBD"}));
}

}  // namespace
}  // namespace ds4
