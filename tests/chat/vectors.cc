#include "chat/vectors.h"

#include <charconv>
#include <cstdio>
#include <memory>

namespace ds4::test {
namespace {

std::vector<std::string> function_schemas(const JsonValue& tools) {
  std::vector<std::string> schemas;
  for (const JsonValue& tool : tools.items) schemas.push_back(dump_json(*find(tool, "function")));
  return schemas;
}

std::vector<ToolCall> tool_calls_of(const JsonValue& calls) {
  std::vector<ToolCall> result;
  for (const JsonValue& call : calls.items) {
    const JsonValue& function = *find(call, "function");
    const JsonValue& arguments = *find(function, "arguments");
    const bool is_text = arguments.kind == JsonValue::Kind::kString;
    result.push_back({text_of(call, "id"), text_of(function, "name"), is_text ? arguments.text : dump_json(arguments)});
  }
  return result;
}

Result<void> read_content(const JsonValue& json, Message& message) {
  const JsonValue* content = find(json, "content");
  const bool is_list = content != nullptr && content->kind == JsonValue::Kind::kArray;
  if (is_list && message.role != Role::kTool) return make_error(ErrorCode::kInvalidArgument, "content: a list");
  message.content = text_of(json, "content");
  if (!is_list) return {};
  for (const JsonValue& part : content->items) message.parts.push_back({text_of(part, "type"), text_of(part, "text")});
  return {};
}

Result<Message> to_message(const JsonValue& json) {
  Message message;
  const auto role = role_from_name(text_of(json, "role"));
  if (!role) return make_error(ErrorCode::kInvalidArgument, "role: {}", text_of(json, "role"));
  message.role = *role;
  TRY(read_content(json, message));
  message.reasoning_content = text_of(json, "reasoning_content");
  message.tool_call_id = text_of(json, "tool_call_id");
  message.task = text_of(json, "task");
  if (const JsonValue* tools = find(json, "tools")) message.tools = function_schemas(*tools);
  if (const JsonValue* calls = find(json, "tool_calls")) message.tool_calls = tool_calls_of(*calls);
  if (const JsonValue* format = find(json, "response_format")) message.response_format = dump_json(*format);
  message.without_eos = text_of(json, "wo_eos") == "true";
  return message;
}

Result<void> append_messages(const JsonValue& list, Conversation& conversation) {
  for (const JsonValue& message : list.items) conversation.messages.push_back(TRY(to_message(message)));
  return {};
}

Result<RenderOptions> to_options(const JsonValue& json, ChatFormat format) {
  RenderOptions options{.format = format};
  const auto mode = thinking_mode_from_name(text_of(json, "thinking_mode"));
  if (!mode) return make_error(ErrorCode::kInvalidArgument, "thinking_mode: {}", text_of(json, "thinking_mode"));
  options.thinking_mode = *mode;
  if (const std::string level = text_of(json, "reasoning_effort"); !level.empty()) {
    const auto effort = reasoning_effort_from_name(level);
    if (!effort) return make_error(ErrorCode::kInvalidArgument, "reasoning_effort: {}", level);
    options.effort = *effort;
  }
  options.drop_thinking = text_of(json, "drop_thinking") != "false";
  options.add_bos = text_of(json, "add_default_bos_token") != "false";
  return options;
}

}  // namespace

std::string read_file(const std::string& path) {
  const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "rb"), &std::fclose);
  CHECK(file != nullptr, "cannot open {}", path);
  std::string text;
  char buffer[65536];
  while (const size_t n = std::fread(buffer, 1, sizeof buffer, file.get())) text.append(buffer, n);
  return text;
}

std::vector<JsonValue> load_cases(std::string_view file_name) {
  const std::string path = fmt::format("{}/tests/vectors/chat/{}", DS4_SOURCE_DIR, file_name);
  const JsonValue document = parse_json(read_file(path)).take_value();
  const JsonValue* cases = find(document, "cases");
  CHECK(cases != nullptr && !cases->items.empty(), "{}: no cases", path);
  return cases->items;
}

const JsonValue* find(const JsonValue& object, std::string_view key) {
  for (const JsonMember& member : object.members) {
    if (member.key == key) return &member.value;
  }
  return nullptr;
}

std::string text_of(const JsonValue& object, std::string_view key) {
  const JsonValue* value = find(object, key);
  if (value == nullptr) return {};
  const bool is_null = value->kind == JsonValue::Kind::kScalar && value->text == "null";
  return is_null ? std::string() : value->text;
}

std::vector<int32_t> ids_of(const JsonValue& object, std::string_view key) {
  std::vector<int32_t> ids;
  for (const JsonValue& item : find(object, key)->items) {
    int32_t id = 0;
    std::from_chars(item.text.data(), item.text.data() + item.text.size(), id);
    ids.push_back(id);
  }
  return ids;
}

Result<RenderCase> to_render_case(const JsonValue& golden_case, ChatFormat format) {
  RenderCase result;
  const JsonValue& options = *find(golden_case, "options");
  result.options = TRY(to_options(options, format));
  if (const JsonValue* context = find(options, "context")) {
    TRY(append_messages(*context, result.conversation));
    result.conversation.n_context_messages = result.conversation.messages.size();
  }
  TRY(append_messages(*find(golden_case, "messages"), result.conversation));
  return result;
}

}  // namespace ds4::test
