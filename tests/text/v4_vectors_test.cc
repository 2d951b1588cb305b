// The golden vectors that need DeepSeek-V4's own vocabulary, which is too large for the repository. The script
// tests/oracle/v4_tokenizer/run.sh makes the file and names it in DS4_TEST_TOKENIZER.

#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <cstdlib>

#include "text/detokenizer.h"
#include "text/text_support.h"
#include "text/tokenizer.h"

namespace ds4 {
namespace {

using Ids = std::vector<int32_t>;

class V4VectorsTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const char* path = std::getenv("DS4_TEST_TOKENIZER");
    tokenizer_holder() = test::load_tokenizer_json(path == nullptr ? "" : path);
  }
  static void TearDownTestSuite() { tokenizer_holder().reset(); }
  void SetUp() override {
    if (!tokenizer_holder()) GTEST_SKIP() << "DS4_TEST_TOKENIZER names no tokenizer.json";
  }
  static std::unique_ptr<Tokenizer>& tokenizer_holder() {
    static std::unique_ptr<Tokenizer> holder;
    return holder;
  }
  const Tokenizer& tokenizer() const { return *tokenizer_holder(); }
};

// Of the ids as little-endian u32.
std::string sha256_hex(const Ids& ids) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int n_bytes = 0;
  EVP_Digest(ids.data(), ids.size() * sizeof(int32_t), digest, &n_bytes, EVP_sha256(), nullptr);
  std::string hex;
  for (unsigned int i = 0; i < n_bytes; ++i) hex += fmt::format("{:02x}", digest[i]);
  return hex;
}

TEST_F(V4VectorsTest, PlainTexts) {
  for (const test::Json& entry : test::read_jsonl_vectors("v4_text.jsonl")) {
    EXPECT_EQ(tokenizer().encode_text(entry.at("text").get<std::string>()), entry.at("ids").get<Ids>())
        << entry.at("id");
  }
}

TEST_F(V4VectorsTest, SpecialTextsWithRecognitionOnAndOff) {
  for (const test::Json& entry : test::read_jsonl_vectors("v4_special.jsonl")) {
    const std::string text = entry.at("text").get<std::string>();
    EXPECT_EQ(tokenizer().encode_with_special(text), entry.at("ids_special").get<Ids>()) << entry.at("id");
    EXPECT_EQ(tokenizer().encode_text(text), entry.at("ids_plain").get<Ids>()) << entry.at("id");
  }
}

TEST_F(V4VectorsTest, LongTexts) {
  for (const test::Json& entry : test::read_jsonl_vectors("v4_long.jsonl")) {
    std::string text = entry.at("prefix").get<std::string>();
    for (int i = 0; i < entry.at("count").get<int>(); ++i) text += entry.at("unit").get<std::string>();
    text += entry.at("suffix").get<std::string>();
    const Ids ids = entry.value("special_recognition", false) ? tokenizer().encode_with_special(text)
                                                              : tokenizer().encode_text(text);
    const auto head = entry.at("head").get<Ids>();
    const auto tail = entry.at("tail").get<Ids>();
    ASSERT_EQ(ids.size(), entry.at("n_ids").get<size_t>()) << entry.at("id");
    EXPECT_TRUE(std::equal(head.begin(), head.end(), ids.begin())) << entry.at("id");
    EXPECT_TRUE(std::equal(tail.rbegin(), tail.rend(), ids.rbegin())) << entry.at("id");
    EXPECT_EQ(sha256_hex(ids), entry.at("ids_sha256_le_u32").get<std::string>()) << entry.at("id");
  }
}

TEST_F(V4VectorsTest, InvalidUtf8) {
  for (const test::Json& entry : test::read_jsonl_vectors("v4_invalid_utf8.jsonl")) {
    const std::string bytes = test::from_hex(entry.at("bytes_hex").get<std::string>());
    EXPECT_EQ(tokenizer().encode_text(bytes), entry.at("lossy_ids").get<Ids>()) << entry.at("id");
  }
}

TEST_F(V4VectorsTest, StreamedDecoding) {
  for (const test::Json& entry : test::read_jsonl_vectors("v4_decode.jsonl")) {
    const auto ids = entry.at("ids").get<Ids>();
    Detokenizer detokenizer(tokenizer());
    for (size_t i = 0; i < ids.size(); ++i) {
      EXPECT_EQ(tokenizer().token_bytes(ids[i]), test::from_hex(entry.at("token_bytes_hex").at(i).get<std::string>()));
      EXPECT_EQ(detokenizer.push(ids[i]), entry.at("stream_text").at(i).get<std::string>()) << entry.at("id");
    }
    EXPECT_EQ(detokenizer.finish(), entry.at("tail_hex").get<std::string>().empty() ? "" : "\uFFFD");
  }
}

TEST_F(V4VectorsTest, SingleByteTokens) {
  const test::Json table = test::read_json_vectors("byte_tokens.json");
  for (size_t byte = 0; byte < 256; ++byte) {
    EXPECT_EQ(tokenizer().token_bytes(table.at("ids").at(byte).get<int32_t>()),
              std::string(1, static_cast<char>(byte)));
  }
}

TEST_F(V4VectorsTest, AddedTokensAndSize) {
  const test::Json table = test::read_json_vectors("v4_added_tokens.json");
  EXPECT_EQ(tokenizer().n_vocab(), table.at("vocab_size").get<int32_t>());
  for (const test::Json& token : table.at("tokens")) {
    const auto id = token.at("id").get<int32_t>();
    const auto text = token.at("content").get<std::string>();
    EXPECT_TRUE(tokenizer().is_added(id));
    EXPECT_EQ(tokenizer().token_bytes(id), text);
    EXPECT_EQ(tokenizer().encode_with_special(text), Ids{id});
  }
  EXPECT_EQ(tokenizer().eos_id(), 1);
  EXPECT_EQ(tokenizer().control_id(ControlToken::kReadUrl), 128845);
}

TEST_F(V4VectorsTest, HostedApiPromptCounts) {
  const test::Json vectors = test::read_json_vectors("api_prompt_tokens.json");
  ASSERT_EQ(vectors.at("cases").size(), 5u);
  for (const test::Json& entry : vectors.at("cases")) {
    const PromptSegments segments{{ControlToken::kBos, {}},
                                  {ControlToken::kUser, {}},
                                  {{}, entry.at("user_content").get<std::string>()},
                                  {ControlToken::kAssistant, {}},
                                  {ControlToken::kThinkEnd, {}}};
    EXPECT_EQ(tokenizer().encode(segments).size(), entry.at("api_prompt_tokens").get<size_t>()) << entry.at("name");
  }
}

}  // namespace
}  // namespace ds4
