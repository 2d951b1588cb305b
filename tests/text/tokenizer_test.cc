#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <random>
#include <thread>

#include "base/utf8.h"
#include "text/text_support.h"

namespace ds4 {
namespace {

class TokenizerTest : public testing::Test {
 protected:
  static std::unique_ptr<Tokenizer> make() {
    auto tokenizer = Tokenizer::create(test::small_vocabulary());
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.error().message;
    return std::move(tokenizer).value();
  }

  std::vector<std::string> texts(const std::vector<int32_t>& ids) const {
    std::vector<std::string> result;
    for (const int32_t id : ids) result.emplace_back(tokenizer_->token_bytes(id));
    return result;
  }
  bool has_added(const std::vector<int32_t>& ids) const {
    return std::ranges::any_of(ids, [this](int32_t id) { return tokenizer_->is_added(id); });
  }

  std::unique_ptr<Tokenizer> tokenizer_ = make();
};

using Texts = std::vector<std::string>;

TEST_F(TokenizerTest, MergesInsidePiecesOnly) {
  EXPECT_EQ(texts(tokenizer_->encode_text("hello world")), (Texts{"hello", " world"}));
  EXPECT_EQ(texts(tokenizer_->encode_text("12345 a")), (Texts{"1", "2", "3", "4", "5", " ", "a"}));
  EXPECT_TRUE(tokenizer_->encode_text("").empty());
}

TEST_F(TokenizerTest, TextThatSpellsControlTokensStaysText) {
  for (const ControlTokenInfo& info : kControlTokens) {
    const std::string text = "x" + std::string(info.text) + "y";
    const auto ids = tokenizer_->encode_text(text);
    EXPECT_FALSE(has_added(ids)) << text;
    std::string decoded;
    for (const std::string& token : texts(ids)) decoded += token;
    EXPECT_EQ(decoded, text);
  }
}

TEST_F(TokenizerTest, OnlyControlSegmentsGiveControlTokens) {
  const PromptSegments segments{{ControlToken::kBos, {}}, {{}, "<｜User｜>"}, {ControlToken::kUser, {}}, {{}, "hello"}};
  const auto ids = tokenizer_->encode(segments);
  EXPECT_EQ(ids.front(), tokenizer_->control_id(ControlToken::kBos));
  EXPECT_EQ(ids[ids.size() - 2], tokenizer_->control_id(ControlToken::kUser));
  EXPECT_EQ(std::ranges::count_if(ids, [this](int32_t id) { return tokenizer_->is_added(id); }), 2);
}

TEST_F(TokenizerTest, AdjacentTextsAreJoinedBeforeTheyAreSplit) {
  EXPECT_EQ(texts(tokenizer_->encode(PromptSegments{{{}, "{}"}, {{}, ""}, {{}, "</t"}})), (Texts{"{", "}</", "t"}));
  EXPECT_EQ(texts(tokenizer_->encode(PromptSegments{{{}, "hel"}, {{}, "lo"}})), (Texts{"hello"}));
  // A character cut in two by segments is whole again.
  EXPECT_EQ(tokenizer_->encode(PromptSegments{{{}, "\xC3"}, {{}, "\xA9"}}), tokenizer_->encode_text("é"));
}

TEST_F(TokenizerTest, NothingMergesAcrossAControlToken) {
  const auto ids = tokenizer_->encode(PromptSegments{{{}, "hel"}, {ControlToken::kThinkBegin, {}}, {{}, "lo"}});
  EXPECT_EQ(texts(ids), (Texts{"he", "l", "<think>", "l", "o"}));
}

TEST_F(TokenizerTest, ControlTokenThatTheVocabularyLacksBecomesItsText) {
  VocabularyData data = test::small_vocabulary();
  for (std::string& token : data.tokens) {
    if (token == control_token_text(ControlToken::kLatestReminder)) token = "gone";
  }
  const auto tokenizer = Tokenizer::create(std::move(data));
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.error().message;
  const Tokenizer& lacking = *tokenizer.value();
  EXPECT_EQ(lacking.encode(PromptSegments{{ControlToken::kLatestReminder, {}}, {{}, "a"}}),
            lacking.encode_text("<｜latest_reminder｜>a"));
}

TEST_F(TokenizerTest, RecognitionTakesTheLeftmostThenTheLongest) {
  VocabularyData data = test::small_vocabulary();
  const auto add = [&data](std::string text) {
    data.tokens.push_back(std::move(text));
    data.token_types.push_back(static_cast<int32_t>(TokenType::kUserDefined));
    return static_cast<int32_t>(data.tokens.size()) - 1;
  };
  const int32_t short_id = add("<a");
  const int32_t long_id = add("<a>b");
  const int32_t late_id = add("a>b!!!!");
  const auto created = Tokenizer::create(std::move(data));
  ASSERT_TRUE(created.ok()) << created.error().message;
  const Tokenizer& tokenizer = *created.value();
  EXPECT_EQ(tokenizer.encode_with_special("<a>b!!!!").front(), long_id);
  EXPECT_EQ(tokenizer.encode_with_special("<a>c").front(), short_id);
  EXPECT_EQ(tokenizer.encode_with_special("a>b!!!!"), (std::vector<int32_t>{late_id}));
  EXPECT_EQ(tokenizer.encode_with_special("<think>")[0], tokenizer.control_id(ControlToken::kThinkBegin));
}

TEST_F(TokenizerTest, RecognitionEncodesTheTextBetweenIndependently) {
  EXPECT_EQ(texts(tokenizer_->encode_with_special("hello</think> world<｜User｜>")),
            (Texts{"hello", "</think>", " world", "<｜User｜>"}));
  EXPECT_TRUE(tokenizer_->encode_with_special("").empty());
}

TEST_F(TokenizerTest, RandomBytesDecodeToTheirReplacedForm) {
  std::mt19937 random(4);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes(random() % 50, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random());
    const auto ids = tokenizer_->encode_text(bytes);
    std::string decoded;
    for (const std::string& token : texts(ids)) decoded += token;
    ASSERT_EQ(decoded, replace_ill_formed_utf8(bytes));
    ASSERT_FALSE(has_added(ids));
  }
}

TEST_F(TokenizerTest, ThreadsShareOneTokenizer) {
  const auto expected = tokenizer_->encode_text("hello world hello");
  std::vector<std::jthread> threads;
  std::array<bool, 4> equal{};
  for (bool& result : equal) {
    threads.emplace_back([&] {
      result = true;
      for (int i = 0; i < 500; ++i) result = result && tokenizer_->encode_text("hello world hello") == expected;
    });
  }
  threads.clear();
  EXPECT_EQ(equal, (std::array<bool, 4>{true, true, true, true}));
}

// The trained checkpoint's own prompts, when its folder lies beside the sources.
TEST(MiniTokenizerTest, PromptsOfTheTrainedModelGiveItsIds) {
  const std::string folder = DS4_SOURCE_DIR "/../shared/model/";
  const auto tokenizer = test::load_tokenizer_json(folder + "tokenizer.json");
  if (!tokenizer) GTEST_SKIP() << "no tokenizer.json in " << folder;
  const test::Json golden = test::Json::parse(test::read_text_file(folder + "golden.json"));
  for (const test::Json& entry : golden.at("continuations")) {
    EXPECT_EQ(tokenizer->encode_with_special(entry.at("prompt").get<std::string>()),
              entry.at("prompt_ids").get<std::vector<int32_t>>());
    std::string output;
    for (const test::Json& id : entry.at("output_ids")) output += tokenizer->token_bytes(id.get<int32_t>());
    EXPECT_EQ(output, entry.at("output").get<std::string>());
  }
}

}  // namespace
}  // namespace ds4
