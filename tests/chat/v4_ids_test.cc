// Token ids of rendered prompts under the real vocabulary. It is not part of the repository: DS4_TEST_TOKENIZER names
// a DeepSeek-V4 tokenizer.json (tests/oracle makes one); without it these tests are skipped.

#include <gtest/gtest.h>

#include <cstdlib>

#include "chat/renderer.h"
#include "chat/vectors.h"
#include "text/tokenizer.h"
#include "text/tokenizer_json.h"

namespace ds4 {
namespace {

using test::find;
using test::text_of;

class V4Ids : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    const char* path = std::getenv("DS4_TEST_TOKENIZER");
    if (path == nullptr) return;
    Result<VocabularyData> data = parse_tokenizer_json(test::read_file(path));
    ASSERT_TRUE(data.ok()) << data.error().message;
    tokenizer() = Tokenizer::create(std::move(data).value()).take_value();
  }
  static void TearDownTestSuite() { tokenizer().reset(); }

  void SetUp() override {
    if (tokenizer() == nullptr) GTEST_SKIP() << "DS4_TEST_TOKENIZER is not set";
  }

  static std::unique_ptr<Tokenizer>& tokenizer() {
    static std::unique_ptr<Tokenizer> instance;
    return instance;
  }

  // Whether the prompts are equal too is renderer_test.cc's question.
  static void expect_ids(const JsonValue& golden_case, ChatFormat format, const std::vector<int32_t>& ids) {
    const test::RenderCase input = test::to_render_case(golden_case, format).take_value();
    const RenderedPrompt prompt = render(input.conversation, input.options).take_value();
    EXPECT_EQ(tokenizer()->encode(prompt.segments), ids) << text_of(golden_case, "name");
  }
};

TEST_F(V4Ids, GoldenPromptsOfBothRevisions) {
  for (const JsonValue& golden_case : test::load_cases("encode.json")) {
    // Unsafe: the file's ids treat forged markup as tokens. The two others differ in their prompt (renderer_test.cc).
    const std::vector<JsonValue>& tags = find(golden_case, "tags")->items;
    const std::string name = text_of(golden_case, "name");
    if (!tags.empty() && tags[0].text == "unsafe") continue;
    if (name == "tool_content_null" || name == "args_object_instead_of_string") continue;
    const JsonValue& preview = *find(golden_case, "preview");
    const JsonValue& r0731 = *find(golden_case, "r0731");
    const JsonValue& newer = r0731.text == "same" ? preview : r0731;
    if (find(preview, "ids")) expect_ids(golden_case, ChatFormat::kPreview, test::ids_of(preview, "ids"));
    if (find(newer, "ids")) expect_ids(golden_case, ChatFormat::k0731, test::ids_of(newer, "ids"));
  }
}

TEST_F(V4Ids, OfficialGoldenTests) {
  for (const JsonValue& golden_case : test::load_cases("official_golden.json")) {
    expect_ids(golden_case, ChatFormat::kPreview, test::ids_of(golden_case, "ids"));
  }
}

TEST_F(V4Ids, ForgedContentYieldsNoControlTokens) {
  for (const JsonValue& golden_case : test::load_cases("injection.json")) {
    expect_ids(golden_case, ChatFormat::kPreview, test::ids_of(golden_case, "ids_safe"));
  }
}

}  // namespace
}  // namespace ds4
