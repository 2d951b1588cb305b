#include "server/system_texts.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>

#include "base/log.h"
#include "chat/renderer.h"
#include "gguf/reader.h"
#include "server/openai_chat.h"
#include "text/tokenizer.h"
#include "text/vocabulary_metadata.h"

namespace ds4 {
namespace {

using testing::HasSubstr;

// A conversation of an agent; a note may be put in front of each but the first.
const std::vector<std::string> kMessages{
    R"({"role":"system","content":"You are an agent."})",
    R"({"role":"user","content":"List the files."})",
    R"({"role":"assistant","content":"Sure.","reasoning_content":"ls","tool_calls":[{"id":"1","function":{"name":"ls","arguments":"{}"}},
        {"id":"2","function":{"name":"pwd","arguments":"{}"}}]})",
    R"({"role":"tool","tool_call_id":"1","content":"a.cc"})",
    R"({"role":"tool","tool_call_id":"2","content":"/home"})",
    R"({"role":"assistant","content":"There is a.cc.","reasoning_content":"One."})",
    R"({"role":"user","content":"Thanks."})",
    R"({"role":"assistant","content":"Welcome."})",
    R"({"role":"user","content":"Bye."})",
};
constexpr std::string_view kNote = "The date has changed.";

struct NoteCase {
  ChatFormat format;
  bool thinks;
  bool has_tools;
};

RenderedPrompt render_messages(const std::vector<std::string>& messages, const NoteCase& options) {
  std::string list;
  for (const std::string& message : messages) list += (list.empty() ? "" : ",") + message;
  const std::string tools = options.has_tools ? R"(,"tools":[{"type":"function","function":{"name":"ls"}}])" : "";
  const std::string body =
      fmt::format(R"({{"messages":[{}],"thinking":{}{}}})", list, options.thinks ? "true" : "false", tools);
  auto request = std::get<ChatRequest>(parse_chat_request(body, {.id = "m", .name = "m", .ctx_tokens = 4096}));
  request.render.format = options.format;
  return render(request.conversation, request.render).take_value();
}

class SystemNoteTest : public testing::TestWithParam<NoteCase> {
 protected:
  static void SetUpTestSuite() {
    const auto file = GgufFile::open(DS4_SOURCE_DIR "/models/ds4-mini.gguf").take_value();
    tokenizer_ = Tokenizer::create(vocabulary_from_metadata(file->metadata()).take_value()).take_value();
  }
  static void TearDownTestSuite() { tokenizer_.reset(); }

  static std::vector<int32_t> encode(const PromptSegments& segments, size_t n) {
    return tokenizer_->encode(std::span(segments).first(n));
  }
  static inline std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_P(SystemNoteTest, ChangesNoTokenBeforeTheTextItStandsIn) {
  const RenderedPrompt plain = render_messages(kMessages, GetParam());
  // After the first user message: what comes earlier is the system prompt.
  for (size_t k = 2; k <= kMessages.size(); ++k) {
    for (const std::string_view role : {"system", "developer"}) {
      std::vector<std::string> messages = kMessages;
      const std::string note = fmt::format(R"({{"role":"{}","content":"{}"}})", role, kNote);
      messages.insert(messages.begin() + static_cast<ptrdiff_t>(k), note);
      const RenderedPrompt noted = render_messages(messages, GetParam());

      const auto found = std::ranges::find_if(
          noted.segments, [](const PromptSegment& segment) { return segment.text.find(kNote) != std::string::npos; });
      ASSERT_NE(found, noted.segments.end()) << k;
      const auto n_before = static_cast<size_t>(found - noted.segments.begin());
      EXPECT_EQ(encode(noted.segments, n_before), encode(plain.segments, n_before)) << k;
      // It is told to the model as a user's text, in its place, and the rest follows as it was.
      EXPECT_EQ(noted.segments[n_before - 1].control, ControlToken::kUser) << k;
      const std::string before = found->text.substr(0, found->text.find(kNote));
      const std::string after = found->text.substr(before.size() + kNote.size());
      EXPECT_TRUE(plain.segments[n_before].text.starts_with(before.substr(0, before.find_last_not_of('\n') + 1))) << k;
      EXPECT_TRUE(
          plain.segments[n_before].text.ends_with(after.substr(std::min(after.find_first_not_of('\n'), after.size()))))
          << k;
      EXPECT_TRUE(std::equal(found + 1, noted.segments.end(),
                             plain.segments.begin() + static_cast<ptrdiff_t>(n_before) + 1, plain.segments.end()))
          << k;
    }
  }
}

// Without tools and with thinking, old reasoning is dropped and prompts do change.
class GrowingPromptTest : public SystemNoteTest {};

// A client repeats its notes in every later request.
TEST_P(GrowingPromptTest, NotesStayInTheirPlace) {
  std::vector<std::string> messages(kMessages.begin(), kMessages.begin() + 2);
  messages.push_back(fmt::format(R"({{"role":"system","content":"{}"}})", kNote));
  std::vector<int32_t> last;
  for (size_t i = 2; i <= kMessages.size(); ++i) {
    const RenderedPrompt prompt = render_messages(messages, GetParam());
    const std::vector<int32_t> tokens = encode(prompt.segments, prompt.segments.size());
    ASSERT_TRUE(last.size() <= tokens.size() && std::equal(last.begin(), last.end(), tokens.begin())) << i;
    EXPECT_TRUE(prompt.segments.back().control) << "the assistant comes next";
    last = tokens;
    if (i == kMessages.size()) break;
    // An assistant's answer and what the client says to it.
    messages.push_back(kMessages[i]);
    while (i + 1 < kMessages.size() && kMessages[i + 1].find("assistant") == std::string::npos)
      messages.push_back(kMessages[++i]);
    messages.push_back(fmt::format(R"({{"role":"developer","content":"{} {}"}})", kNote, i));
  }
}

constexpr ChatFormat kPreview = ChatFormat::kPreview;
constexpr ChatFormat k0731 = ChatFormat::k0731;
INSTANTIATE_TEST_SUITE_P(Prompts, SystemNoteTest,
                         testing::Values(NoteCase{kPreview, false, false}, NoteCase{kPreview, true, false},
                                         NoteCase{kPreview, false, true}, NoteCase{kPreview, true, true},
                                         NoteCase{k0731, false, false}, NoteCase{k0731, true, false},
                                         NoteCase{k0731, false, true}, NoteCase{k0731, true, true}));
INSTANTIATE_TEST_SUITE_P(Prompts, GrowingPromptTest,
                         testing::Values(NoteCase{kPreview, false, false}, NoteCase{kPreview, false, true},
                                         NoteCase{kPreview, true, true}, NoteCase{k0731, false, false},
                                         NoteCase{k0731, false, true}, NoteCase{k0731, true, true}));

TEST(VolatileTextLogTest, SaysEachKindOnce) {
  set_log_level(LogLevel::kDebug);
  VolatileTextLog log;
  testing::internal::CaptureStderr();
  log.add({});
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  testing::internal::CaptureStderr();
  log.add(VolatileKinds().set());
  EXPECT_THAT(testing::internal::GetCapturedStderr(), HasSubstr("kind=x-anthropic-billing-header"));
  testing::internal::CaptureStderr();
  log.add(VolatileKinds().set());
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
  set_log_level(LogLevel::kInfo);
}

}  // namespace
}  // namespace ds4
