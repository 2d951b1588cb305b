#include <filesystem>
#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "chat/renderer.h"
#include "server/responses_fixture.h"

namespace ds4 {
namespace {

using test::Json;
using testing::HasSubstr;
using testing::SizeIs;

class ResponsesRequestTest : public testing::Test {
 protected:
  std::variant<ResponsesRequest, ApiError> parse(std::string body) {
    const ServedModel served{.id = "ds4-mini", .name = "m", .ctx_tokens = 4096, .default_max_tokens = 512};
    return parse_responses_request(std::move(body), served, *memory_);
  }
  ResponsesRequest accept(const std::string& body) {
    auto parsed = parse(body);
    if (const auto* error = std::get_if<ApiError>(&parsed)) {
      ADD_FAILURE() << error->message << "\n" << body;
      return {};
    }
    return std::move(std::get<ResponsesRequest>(parsed));
  }
  ApiError refuse(const std::string& body) {
    auto parsed = parse(body);
    if (auto* error = std::get_if<ApiError>(&parsed)) return *error;
    ADD_FAILURE() << "accepted: " << body;
    return {};
  }
  // `items`: what stands between the brackets of "input".
  std::vector<Message> messages(const std::string& items, const std::string& more = "") {
    return accept(R"({"input":[)" + items + "]" + more + "}").conversation.messages;
  }
  static std::string prompt(const ResponsesRequest& request) {
    const Result<RenderedPrompt> rendered = render(request.conversation, request.render);
    EXPECT_TRUE(rendered.ok()) << rendered.error().message;
    return rendered.value().to_text();
  }

  std::unique_ptr<ResponsesMemory> memory_ = std::make_unique<ResponsesMemory>();
};

constexpr const char* kUser = R"({"role":"user","content":"hi"})";
constexpr const char* kCall =
    R"({"type":"function_call","id":"fc_1","call_id":"call_1","name":"ls","arguments":"{\"a\":1}","status":"completed"})";

TEST_F(ResponsesRequestTest, TakesAStringAsAUserMessage) {
  const ResponsesRequest request =
      accept(R"({"model":"x","input":"hi","instructions":"Be kind","max_output_tokens":9})");
  ASSERT_THAT(request.conversation.messages, SizeIs(2));
  EXPECT_EQ(request.conversation.messages[0].content, "Be kind");
  EXPECT_EQ(request.conversation.messages[1].content, "hi");
  EXPECT_EQ(request.max_tokens, 9);
  EXPECT_EQ(request.plan.model, "x");
  EXPECT_TRUE(request.plan.is_stored);
  EXPECT_FALSE(request.stream);
}

TEST_F(ResponsesRequestTest, JoinsTheModelsItemsToTurns) {
  const std::vector<Message> turn =
      messages(std::string(R"({"role":"developer","content":[{"type":"input_text","text":"a"},
      {"type":"input_text","text":"b"}]},)") +
               kUser +
               R"(,{"type":"reasoning","id":"rs_1","summary":[],"content":[{"type":"reasoning_text","text":"hm"}]},
      {"type":"message","role":"assistant","content":[{"type":"output_text","text":"Looking.","annotations":[]}]},)" +
               kCall + R"(,{"type":"custom_tool_call","call_id":"call_2","name":"apply_patch","input":"a\n\"b\""},
      {"type":"function_call_output","call_id":"call_1","output":"one"},
      {"type":"custom_tool_call_output","call_id":"call_2","output":[{"type":"input_text","text":"two"},
      {"type":"input_image","image_url":"data:"}]})");
  ASSERT_THAT(turn, SizeIs(5));
  EXPECT_EQ(turn[0].role, Role::kSystem);
  EXPECT_EQ(turn[0].content, "a\n\nb");
  EXPECT_EQ(turn[2].reasoning_content, "hm");
  EXPECT_EQ(turn[2].content, "Looking.");
  ASSERT_THAT(turn[2].tool_calls, SizeIs(2));
  EXPECT_EQ(turn[2].tool_calls[0].id, "call_1");
  EXPECT_EQ(turn[2].tool_calls[1].arguments, R"({"input": "a\n\"b\""})");
  EXPECT_EQ(turn[3].content, "one");
  // Tools may show pictures, which the chat format has a text for.
  ASSERT_THAT(turn[4].parts, SizeIs(2));
  EXPECT_EQ(turn[4].parts[1].type, "input_image");
}

TEST_F(ResponsesRequestTest, FindsReasoningWhereverTheClientKeptIt) {
  const std::string sealed = memory_->sealer.seal("hidden");
  const auto reasoning = [&](const std::string& members) {
    return messages(std::string(kUser) + R"(,{"type":"reasoning","id":"rs_1",)" + members +
                    R"(},{"role":"assistant","content":"x"},{"role":"user","content":"y"})")[1]
        .reasoning_content;
  };
  EXPECT_EQ(reasoning(R"("summary":[],"content":[{"type":"reasoning_text","text":"a"}],"encrypted_content":null)"),
            "a");
  EXPECT_EQ(reasoning(R"("summary":[{"type":"summary_text","text":"s"}],"encrypted_content":")" + sealed + '"'),
            "hidden");
  EXPECT_EQ(reasoning(R"("summary":[{"type":"summary_text","text":"s"}])"), "s");
  // Not ours, or of another process: as if it were not there.
  EXPECT_EQ(reasoning(R"("summary":[],"encrypted_content":"gAAAAB")"), "");
  EXPECT_EQ(reasoning(R"("summary":[],"encrypted_content":")" + TextSealer().seal("hidden") + '"'), "");
}

TEST_F(ResponsesRequestTest, ContinuesAnAnswerThatTheItemsEndWith) {
  const std::vector<Message> open = messages(std::string(kUser) + R"(,{"type":"reasoning","id":"r","summary":[],
      "content":[{"type":"reasoning_text","text":"hm"}]})");
  ASSERT_THAT(open, SizeIs(2));
  EXPECT_TRUE(open[1].without_eos);
  EXPECT_EQ(open[1].reasoning_content, "hm");
  EXPECT_THAT(refuse(std::string(R"({"input":[)") + kCall + "]}").message, HasSubstr("'call_1' has no output"));
}

TEST_F(ResponsesRequestTest, LeavesOutWhatNoModelOfOursCouldRead) {
  EXPECT_THAT(messages(std::string(R"({"type":"web_search_call","id":"ws_1","status":"completed","action":{}},
      {"type":"compaction","id":"c","encrypted_content":"x"},{"type":"something_new","x":[1]},)") +
                       kUser),
              SizeIs(1));
}

TEST_F(ResponsesRequestTest, ShowsToolsAsFunctions) {
  const ResponsesRequest request = accept(R"({"input":"hi","tools":[
      {"type":"function","name":"f","description":"d","strict":false,"parameters":{"type":"object","maximum":12345678901234567890123}},
      {"type":"custom","name":"patch","description":"p","format":{"type":"grammar","syntax":"lark","definition":"start: x"}},
      {"type":"namespace","name":"ns","description":"n","tools":[{"type":"function","name":"f","parameters":{}}]},
      {"type":"tool_search","execution":"client","description":"t","parameters":{"type":"object"}},
      {"type":"tool_search"},{"type":"web_search","external_web_access":true},{"type":"mcp","server_label":"x"}]})");
  const std::vector<std::string>& tools = request.conversation.messages[0].tools;
  ASSERT_THAT(tools, SizeIs(4));
  EXPECT_EQ(
      tools[0],
      R"({"name": "f", "description": "d", "strict": false, "parameters": {"type": "object", "maximum": 12345678901234567890123}})");
  EXPECT_THAT(tools[1], HasSubstr(R"("required": ["input"])"));
  EXPECT_THAT(tools[1], HasSubstr(R"(lark grammar:\nstart: x)"));
  EXPECT_EQ(tools[2], R"({"name": "nsf", "parameters": {}})");
  EXPECT_THAT(tools[3], HasSubstr(R"({"name": "tool_search", "description": "t")"));
  EXPECT_EQ(request.plan.tools.find("nsf")->name_space, "ns");
  EXPECT_EQ(request.rules.tool_use, ToolUse::kFree);
  EXPECT_THAT(request.rules.tools, SizeIs(0));
}

TEST_F(ResponsesRequestTest, TakesToolsFromItems) {
  const std::string tools = R"("tools":[{"type":"function","name":"late","parameters":{}}])";
  // In front they are the request's own, later they stand in their place: the prompt before them stays.
  const ResponsesRequest first =
      accept(R"({"input":[{"type":"additional_tools","role":"developer",)" + tools + "}," + kUser + "]}");
  EXPECT_THAT(first.conversation.messages[0].tools, SizeIs(1));
  const ResponsesRequest later =
      accept(std::string(R"({"tools":[{"type":"tool_search","execution":"client"}],"input":[)") + kUser +
             R"(,{"type":"tool_search_call","call_id":"c","execution":"client","arguments":{"query":"x"}},
      {"type":"tool_search_output","call_id":"c","execution":"client","status":"completed",)" +
             tools + "}]}");
  ASSERT_THAT(later.conversation.messages, SizeIs(4));
  EXPECT_THAT(later.conversation.messages[0].tools, SizeIs(1));
  EXPECT_EQ(later.conversation.messages[2].tool_calls[0].name, "tool_search");
  EXPECT_EQ(later.conversation.messages[3].content, R"({"name": "late", "parameters": {}})");
  EXPECT_NE(later.plan.tools.find("late"), nullptr);
}

TEST_F(ResponsesRequestTest, TurnsChoicesIntoRules) {
  const std::string tools =
      R"({"input":"hi","tools":[{"type":"function","name":"f","parameters":{"type":"object"},"strict":true},
      {"type":"namespace","name":"ns","tools":[{"type":"function","name":"g"}]},{"type":"custom","name":"c"}],"tool_choice":)";
  const auto rules = [&](const std::string& choice) { return accept(tools + choice + "}").rules; };
  EXPECT_EQ(rules(R"("auto")").tool_use, ToolUse::kFree);
  EXPECT_THAT(rules(R"("auto")").tools, SizeIs(3));  // one is strict
  EXPECT_TRUE(rules(R"("auto")").tools[0].strict);
  EXPECT_EQ(rules(R"("auto")").tools[1].name, "nsg");
  EXPECT_EQ(rules(R"("required")").tool_use, ToolUse::kRequired);
  EXPECT_EQ(rules(R"({"type":"function","name":"g"})").tool_use, ToolUse::kNamed);
  EXPECT_EQ(rules(R"({"type":"function","name":"g"})").tool_name, "nsg");
  EXPECT_EQ(rules(R"({"type":"custom","name":"c"})").tool_name, "c");
  const ResponsesRequest none = accept(tools + R"("none"})");
  EXPECT_EQ(none.conversation.messages[0].role, Role::kUser);
  const ResponsesRequest some = accept(
      tools +
      R"({"type":"allowed_tools","mode":"required","tools":[{"type":"custom","name":"c"}]},"parallel_tool_calls":false})");
  EXPECT_EQ(some.rules.tool_use, ToolUse::kRequired);
  EXPECT_FALSE(some.rules.parallel_calls);
  EXPECT_THAT(some.rules.tools, SizeIs(1));
  EXPECT_THAT(some.conversation.messages[0].tools, SizeIs(1));
  EXPECT_EQ(refuse(tools + R"({"type":"function","name":"zz"}})").param, "tool_choice.name");
  EXPECT_EQ(refuse(tools + R"({"type":"web_search_preview"}})").param, "tool_choice.type");
  EXPECT_EQ(refuse(tools + R"("sometimes"})").param, "tool_choice");
  EXPECT_EQ(refuse(R"({"input":"x","tool_choice":"required"})").param, "tool_choice");
}

TEST_F(ResponsesRequestTest, ReadsFormatsReasoningAndIncludes) {
  const ResponsesRequest request = accept(R"({"input":"hi","reasoning":{"effort":"high","summary":"auto"},
      "text":{"format":{"type":"json_schema","name":"n","schema":{"type":"object"},"strict":true},"verbosity":"low"},
      "include":["reasoning.encrypted_content","message.output_text.logprobs"],"top_logprobs":3,"temperature":0})");
  EXPECT_EQ(request.rules.json_schema, R"({"type": "object"})");
  EXPECT_EQ(request.conversation.messages[0].response_format, R"({"type": "object"})");
  EXPECT_EQ(request.render.effort, ReasoningEffort::kHigh);
  EXPECT_TRUE(request.plan.with_summary);
  EXPECT_TRUE(request.plan.with_sealed_reasoning);
  EXPECT_EQ(request.n_top_logprobs, 3);
  EXPECT_EQ(request.sampling.temperature, 0.0F);
  EXPECT_EQ(accept(R"({"input":"x","reasoning":{"effort":"none"}})").render.thinking_mode, ThinkingMode::kChat);
  EXPECT_EQ(accept(R"({"input":"x","text":{"format":{"type":"json_object"}}})").rules.json_schema,
            R"({"type": "object"})");
}

TEST_F(ResponsesRequestTest, ReadsPenaltiesAndBiases) {
  const SamplingParams sampling =
      accept(R"({"input":"x","presence_penalty":0.5,"frequency_penalty":-1,"logit_bias":{"9":3}})").sampling;
  EXPECT_EQ(sampling.presence_penalty - sampling.frequency_penalty, 1.5F);
  ASSERT_EQ(sampling.logit_bias.size(), 1U);
  EXPECT_EQ(sampling.logit_bias[0].value, 3.0F);
  EXPECT_EQ(refuse(R"({"input":"x","frequency_penalty":2.5})").param, "frequency_penalty");
}

TEST_F(ResponsesRequestTest, RefusesWhatItCannotDo) {
  const auto param = [this](const std::string& members) { return refuse("{" + members + "}").param; };
  EXPECT_EQ(param(""), "input");
  EXPECT_EQ(param(R"("input":3)"), "input");
  EXPECT_EQ(param(R"("input":[3])"), "input[0]");
  EXPECT_EQ(param(R"("input":[])"), "input");
  for (const char* key : {"conversation", "prompt"})
    EXPECT_EQ(param(fmt::format(R"("input":"x","{}":{{"id":"a"}})", key)), key);
  EXPECT_EQ(param(R"("input":"x","background":true)"), "background");
  EXPECT_EQ(param(R"("input":"x","truncation":"left")"), "truncation");
  EXPECT_EQ(param(R"("input":"x","context_management":[{"type":"compaction"}])"), "context_management");
  EXPECT_EQ(param(R"("input":"x","reasoning":{"effort":"huge"})"), "reasoning.effort");
  EXPECT_EQ(param(R"("input":"x","text":{"format":{"type":"xml"}})"), "text.format.type");
  EXPECT_EQ(param(R"("input":"x","tools":[{"type":"function"}])"), "tools[0].name");
  EXPECT_EQ(param(R"("input":[{"role":"tool","content":"x"}])"), "input[0].role");
  EXPECT_EQ(param(R"("input":[{"role":"user","content":[{"type":"input_image","image_url":"x"}]}])"),
            "input[0].content[0]");
  EXPECT_EQ(param(R"("input":[{"type":"function_call_output","call_id":"c","output":"x"}])"), "input[0].call_id");
  EXPECT_EQ(param(R"("input":[{"type":"item_reference","id":"rs_0"}])"), "input[0].id");
  const ApiError missing = refuse(R"({"input":"x","previous_response_id":"resp_0"})");
  EXPECT_EQ(missing.param, "previous_response_id");
  EXPECT_EQ(missing.code, "previous_response_not_found");
  // null is absent.
  accept(R"({"input":"x","previous_response_id":null,"conversation":null,"prompt":null,"background":null,"tools":null,
      "tool_choice":null,"text":null,"reasoning":null,"include":null,"metadata":null,"instructions":null,"truncation":"auto"})");
}

TEST_F(ResponsesRequestTest, PutsAnEarlierResponseInFront) {
  const auto item = [](const char* id, const char* json) {
    return std::make_shared<const StoredItem>(StoredItem{id, json});
  };
  memory_->store.put(
      {.id = "resp_1",
       .json = "{}",
       .input = {item("msg_1", R"({"type":"message","role":"user","content":"one"})")},
       .output = {item("rs_1", R"({"type":"reasoning","content":[{"type":"reasoning_text","text":"hm"}]})"),
                  item("msg_2", R"({"type":"message","role":"assistant","content":"two"})")}});
  const ResponsesRequest request = accept(R"({"input":"three","previous_response_id":"resp_1"})");
  ASSERT_THAT(request.conversation.messages, SizeIs(3));
  EXPECT_EQ(request.conversation.messages[1].reasoning_content, "hm");
  EXPECT_EQ(request.conversation.messages[2].content, "three");
  ASSERT_THAT(request.plan.input, SizeIs(4));
  EXPECT_EQ(request.plan.input[0]->id, "msg_1");
  const Json own = Json::parse(request.plan.input[3]->json);
  EXPECT_EQ(own["content"], Json::parse(R"([{"type":"input_text","text":"three"}])"));
  EXPECT_THAT(own["id"].get<std::string>(), testing::MatchesRegex("msg_[0-9a-f]{24}"));
  // The same by references, with or without a type.
  const std::vector<Message> by_reference =
      messages(std::string(kUser) + R"(,{"type":"item_reference","id":"rs_1"},{"id":"msg_2"},)" + kUser);
  ASSERT_THAT(by_reference, SizeIs(3));
  EXPECT_EQ(by_reference[1].reasoning_content, "hm");
  EXPECT_EQ(by_reference[1].content, "two");
}

// What real clients sent: accepted, and every second turn's prompt begins with the first one's.
TEST_F(ResponsesRequestTest, AcceptsEveryCapture) {
  memory_->store.put(
      {.id = "resp_1",
       .json = "{}",
       .input = {},
       .output = {std::make_shared<const StoredItem>(StoredItem{
           "rs_000002",
           R"({"type":"reasoning","content":[{"type":"reasoning_text","text":"I should think about it."}]})"})}});
  size_t n_accepted = 0;
  for (const auto& entry : std::filesystem::directory_iterator(DS4_SOURCE_DIR "/tests/data/clients")) {
    if (!entry.path().filename().string().starts_with("responses-")) continue;
    std::stringstream text;
    text << std::ifstream(entry.path()).rdbuf();
    std::string first;
    for (const Json& capture : Json::parse(text.str())) {
      if (capture["url"] != "/v1/responses") continue;
      const ResponsesRequest request = accept(capture["body"].dump());
      const std::string rendered = prompt(request);
      const bool same_tools = !capture["body"]["tools"].empty();
      const bool is_second = rendered.find("tool_result") != std::string::npos;
      if (is_second && same_tools && !first.empty()) {
        EXPECT_TRUE(rendered.starts_with(first)) << entry.path();
      }
      if (!is_second) first = rendered;
      ++n_accepted;
    }
  }
  EXPECT_EQ(n_accepted, 11U);
}

TEST_F(ResponsesRequestTest, RendersCodexAsTheChatFormatWantsIt) {
  const ResponsesRequest request =
      accept(R"({"input":[{"type":"message","role":"developer","content":[{"type":"input_text","text":"S"}]},
      {"type":"message","role":"user","content":[{"type":"input_text","text":"U"}]},
      {"type":"reasoning","id":"rs_2","summary":[],"content":[{"type":"reasoning_text","text":"R"}],"encrypted_content":null},
      {"type":"function_call","id":"fc_3","name":"f","arguments":"{\"cmd\":\"x\"}","call_id":"call_4"},
      {"type":"function_call_output","id":"fco_5","call_id":"call_4","output":"O"}],
      "tools":[{"type":"function","name":"f","description":"d","strict":false,"parameters":{"type":"object"}}]})");
  const std::string text = prompt(request);
  EXPECT_THAT(text,
              HasSubstr(R"({"name": "f", "description": "d", "strict": false, "parameters": {"type": "object"}})"));
  EXPECT_THAT(
      text,
      HasSubstr("<｜User｜>U<｜Assistant｜><think>R</think>\n\n<｜DSML｜tool_calls>\n<｜DSML｜invoke name=\"f\">\n"
                "<｜DSML｜parameter name=\"cmd\" string=\"true\">x</｜DSML｜parameter>"));
  EXPECT_TRUE(text.ends_with("<｜User｜><tool_result>O</tool_result><｜Assistant｜><think>")) << text;
}

}  // namespace
}  // namespace ds4
