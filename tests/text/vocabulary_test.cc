#include "text/vocabulary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "text/byte_alphabet.h"
#include "text/text_support.h"
#include "text/vocabulary_metadata.h"

namespace ds4 {
namespace {

using testing::HasSubstr;

std::string message_of(VocabularyData data) {
  const auto result = Vocabulary::create(std::move(data));
  return result.ok() ? "" : result.error().message;
}

int32_t id_of(const VocabularyData& data, std::string_view text) {
  return static_cast<int32_t>(std::ranges::find(data.tokens, text) - data.tokens.begin());
}

TEST(VocabularyTest, ByteLevelVocabularyIsCompleteAndPadded) {
  const auto vocabulary = Vocabulary::create(byte_level_vocabulary(512));
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.error().message;
  EXPECT_EQ(vocabulary.value().size(), 512u);
  for (size_t byte = 0; byte < 256; ++byte) {
    const int32_t id = vocabulary.value().byte_ids()[byte];
    EXPECT_EQ(vocabulary.value().bytes(id), std::string(1, static_cast<char>(byte)));
    EXPECT_FALSE(vocabulary.value().is_added(id));
  }
  for (const ControlTokenInfo& info : kControlTokens) {
    const auto id = vocabulary.value().control_id(info.token);
    ASSERT_TRUE(id.has_value());
    EXPECT_EQ(vocabulary.value().bytes(*id), info.text);
    EXPECT_TRUE(vocabulary.value().is_control(*id));
  }
}

TEST(VocabularyTest, ControlTokensAreFoundByTextWhateverTheirIdAndType) {
  VocabularyData data = byte_level_vocabulary(300);
  std::ranges::reverse(data.tokens);
  data.token_types.clear();
  const int32_t user_id = id_of(data, "<｜User｜>");
  const auto vocabulary = Vocabulary::create(std::move(data));
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.error().message;
  EXPECT_EQ(vocabulary.value().control_id(ControlToken::kUser), user_id);
  EXPECT_TRUE(vocabulary.value().is_control(user_id));
}

TEST(VocabularyTest, UserDefinedTokenIsAddedButNotControl) {
  VocabularyData data = byte_level_vocabulary(300);
  data.tokens[299] = "<é>";
  data.token_types[299] = static_cast<int32_t>(TokenType::kUserDefined);
  const auto vocabulary = Vocabulary::create(std::move(data));
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.error().message;
  EXPECT_TRUE(vocabulary.value().is_added(299));
  EXPECT_FALSE(vocabulary.value().is_control(299));
  EXPECT_EQ(vocabulary.value().bytes(299), "<é>");  // literal, though é is in the byte alphabet
}

TEST(VocabularyTest, MissingOptionalControlTokensAreFine) {
  VocabularyData data = byte_level_vocabulary(300);
  for (const ControlTokenInfo& info : kControlTokens) {
    if (!info.required) data.tokens[static_cast<size_t>(id_of(data, info.text))] += "?";
  }
  const auto vocabulary = Vocabulary::create(std::move(data));
  ASSERT_TRUE(vocabulary.ok()) << vocabulary.error().message;
  EXPECT_EQ(vocabulary.value().control_id(ControlToken::kTitle), std::nullopt);
}

TEST(VocabularyTest, AllMissingTokensAreNamedAtOnce) {
  VocabularyData data = byte_level_vocabulary(300);
  for (const std::string_view text : {"<｜User｜>", "<think>", "｜DSML｜", "A"}) {
    data.tokens[static_cast<size_t>(id_of(data, text))] = "replaced";
  }
  data.merges = {"x y", "nospace"};
  const std::string message = message_of(std::move(data));
  for (const char* part :
       {"control token <｜User｜> is missing", "control token <think> is missing", "control token ｜DSML｜ is missing",
        "no token for 1 single bytes: 41", "merge 0 \"x y\"", "merge 1 \"nospace\""}) {
    EXPECT_THAT(message, HasSubstr(part));
  }
}

TEST(VocabularyTest, ManyBadMergesAreCountedNotListed) {
  VocabularyData data = byte_level_vocabulary(300);
  data.merges.assign(1000, "bad merge");
  const std::string message = message_of(std::move(data));
  EXPECT_THAT(message, HasSubstr("995 more merges"));
  EXPECT_LT(message.size(), 2000u);
}

TEST(VocabularyTest, WrongNumberOfTypesAndTwiceTheSameControlTokenAreRefused) {
  VocabularyData data = byte_level_vocabulary(300);
  data.token_types.pop_back();
  EXPECT_THAT(message_of(data), HasSubstr("300 tokens but 299 token types"));
  data = byte_level_vocabulary(300);
  data.tokens[299] = "<think>";
  EXPECT_THAT(message_of(data), HasSubstr("control token <think> has two ids"));
  EXPECT_THAT(message_of({}), HasSubstr("no token for 256 single bytes"));
}

TEST(VocabularyTest, MergeThatSpellsAnAddedTokenIsRefused) {
  VocabularyData data = test::small_vocabulary();
  data.token_types[static_cast<size_t>(id_of(data, "hello"))] = static_cast<int32_t>(TokenType::kControl);
  EXPECT_THAT(message_of(std::move(data)), HasSubstr("merge 4 \"hell o\""));
}

TEST(VocabularyMetadataTest, StoredVocabularyReadsBackEqual) {
  const VocabularyData data = test::small_vocabulary();
  Metadata metadata;
  store_vocabulary(data, metadata);
  const auto read = vocabulary_from_metadata(metadata);
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(read.value().tokens, data.tokens);
  EXPECT_EQ(read.value().merges, data.merges);
  EXPECT_EQ(read.value().token_types, data.token_types);
  EXPECT_EQ(metadata.get_int("tokenizer.ggml.eos_token_id").value(), id_of(data, "<｜end▁of▁sentence｜>"));
  EXPECT_FALSE(metadata.get_bool("tokenizer.ggml.add_bos_token").value());
}

TEST(VocabularyMetadataTest, AcceptsDeepSeekNamesAndNoNameOfThePretokenizer) {
  Metadata metadata;
  store_vocabulary(test::small_vocabulary(), metadata);
  metadata.set_string("tokenizer.ggml.pre", "deepseek-v3");
  EXPECT_TRUE(vocabulary_from_metadata(metadata).ok());
  metadata.set_string("tokenizer.ggml.pre", "llama-bpe");
  EXPECT_THAT(vocabulary_from_metadata(metadata).error().message, HasSubstr("found \"llama-bpe\""));

  Metadata bare;
  bare.set_string("tokenizer.ggml.model", "gpt2");
  bare.set_string_array("tokenizer.ggml.tokens", test::small_vocabulary().tokens);
  bare.set_string_array("tokenizer.ggml.merges", test::small_vocabulary().merges);
  const auto read = vocabulary_from_metadata(bare);
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_TRUE(Vocabulary::create(read.value()).ok());
}

TEST(VocabularyMetadataTest, EveryMissingOrWrongKeyIsReported) {
  Metadata metadata;
  metadata.set_string("tokenizer.ggml.model", "llama");
  metadata.set_u32("tokenizer.ggml.tokens", 3);
  const std::string message = vocabulary_from_metadata(metadata).error().message;
  EXPECT_THAT(message, HasSubstr("expected \"gpt2\", found \"llama\""));
  EXPECT_THAT(message, HasSubstr("tokenizer.ggml.tokens"));
  EXPECT_THAT(message, HasSubstr("tokenizer.ggml.merges"));
}

}  // namespace
}  // namespace ds4
