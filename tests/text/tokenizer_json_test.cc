#include "text/tokenizer_json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "text/text_support.h"

namespace ds4 {
namespace {

using test::Json;
using testing::HasSubstr;

const char* const kPattern3 =
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
    "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+";

Json split_step(const char* expression) {
  return {{"type", "Split"}, {"pattern", {{"Regex", expression}}}, {"behavior", "Isolated"}};
}

// small_vocabulary() in the form of the file: normal tokens in model.vocab, the others as added tokens.
Json small_file() {
  const VocabularyData data = test::small_vocabulary();
  Json file = {
      {"normalizer", {{"type", "Sequence"}, {"normalizers", Json::array()}}},
      {"pre_tokenizer",
       {{"type", "Sequence"},
        {"pretokenizers", {split_step("\\p{N}{1,3}"), split_step("[一-龥\u3040-ゟ゠-ヿ]+"), split_step(kPattern3)}}}},
      {"added_tokens", Json::array()},
      {"model", {{"type", "BPE"}, {"byte_fallback", false}, {"vocab", Json::object()}, {"merges", data.merges}}}};
  for (size_t id = 0; id < data.tokens.size(); ++id) {
    if (data.token_types[id] == static_cast<int32_t>(TokenType::kControl)) {
      file["added_tokens"].push_back({{"id", id}, {"content", data.tokens[id]}, {"special", id != 5}});
    } else {
      file["model"]["vocab"][data.tokens[id]] = id;
    }
  }
  return file;
}

std::string message_of(const Json& file) {
  const auto result = parse_tokenizer_json(file.dump());
  return result.ok() ? "" : result.error().message;
}

TEST(TokenizerJsonTest, ReadsTokensMergesAndTypes) {
  const VocabularyData expected = test::small_vocabulary();
  const auto data = parse_tokenizer_json(small_file().dump());
  ASSERT_TRUE(data.ok()) << data.error().message;
  EXPECT_EQ(data.value().tokens, expected.tokens);
  EXPECT_EQ(data.value().merges, expected.merges);
  EXPECT_EQ(data.value().token_types[0], static_cast<int32_t>(TokenType::kControl));
  EXPECT_EQ(data.value().token_types[5], static_cast<int32_t>(TokenType::kUserDefined));
  EXPECT_EQ(data.value().token_types[20], static_cast<int32_t>(TokenType::kNormal));
  EXPECT_TRUE(Vocabulary::create(data.value()).ok());
}

TEST(TokenizerJsonTest, MergesMayBePairs) {
  Json file = small_file();
  file["model"]["merges"] = Json::array({Json::array({"l", "l"}), "h e"});
  const auto data = parse_tokenizer_json(file.dump());
  ASSERT_TRUE(data.ok()) << data.error().message;
  EXPECT_EQ(data.value().merges, (std::vector<std::string>{"l l", "h e"}));
}

TEST(TokenizerJsonTest, AddedTokenMayRepeatATokenOfTheVocabulary) {
  Json file = small_file();
  file["model"]["vocab"]["<think>"] = 4;
  const auto data = parse_tokenizer_json(file.dump());
  ASSERT_TRUE(data.ok()) << data.error().message;
  EXPECT_EQ(data.value().tokens[4], "<think>");
  EXPECT_EQ(data.value().token_types[4], static_cast<int32_t>(TokenType::kControl));
}

TEST(TokenizerJsonTest, TokenizerOfAnotherKindIsRefused) {
  Json file = small_file();
  file["model"]["type"] = "Unigram";
  file["model"]["byte_fallback"] = true;
  file["normalizer"] = {{"type", "NFC"}};
  file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "\\p{N}{1,2}";
  const std::string message = message_of(file);
  for (const char* part : {"model.type", "model.byte_fallback", "normalizer", "pre_tokenizer"}) {
    EXPECT_THAT(message, HasSubstr(part));
  }
}

TEST(TokenizerJsonTest, BadIdsAreAllReported) {
  Json file = small_file();
  file["model"]["vocab"]["far"] = 4'000'000'000u;
  file["model"]["vocab"]["negative"] = -1;
  file["model"]["vocab"]["text"] = "7";
  file["model"]["vocab"]["clash"] = 0;
  const std::string message = message_of(file);
  for (const char* part : {"\"far\": id is not", "\"negative\": id is not", "\"text\": id is not", "id 0 names both"}) {
    EXPECT_THAT(message, HasSubstr(part));
  }
}

TEST(TokenizerJsonTest, HolesInTheIdsAreReported) {
  Json file = small_file();
  file["model"]["vocab"]["late"] = 1000;
  EXPECT_THAT(message_of(file), HasSubstr("of 1001 has no token"));
}

TEST(TokenizerJsonTest, WrongStructureIsNamed) {
  EXPECT_THAT(message_of(Json::array()), HasSubstr("model.vocab: expected an object"));
  EXPECT_THAT(message_of(Json{{"model", {{"vocab", 1}, {"merges", 2}}}, {"added_tokens", 3}}),
              HasSubstr("model.merges: expected an array"));
  Json file = small_file();
  file["added_tokens"][0].erase("content");
  file["model"]["merges"][0] = 5;
  const std::string message = message_of(file);
  EXPECT_THAT(message, HasSubstr("a token without content"));
  EXPECT_THAT(message, HasSubstr("nor a pair of texts"));
}

TEST(TokenizerJsonTest, EveryTruncationIsAnError) {
  const std::string text = small_file().dump();
  for (size_t n = 0; n < text.size(); n += 7) EXPECT_FALSE(parse_tokenizer_json(text.substr(0, n)).ok());
  EXPECT_THAT(parse_tokenizer_json("{\"model\": \x80}").error().message, HasSubstr("tokenizer.json:"));
  EXPECT_FALSE(parse_tokenizer_json(std::string(100'000, '[')).ok());
}

}  // namespace
}  // namespace ds4
