#include "server/openai_responses_items.h"

#include <algorithm>
#include <array>
#include <utility>

#include "server/api.h"
#include "server/json_values.h"
#include "server/request_fields.h"

namespace ds4 {
namespace {

constexpr std::array<std::string_view, 6> kTextTypes{"input_text", "output_text",  "text",
                                                     "refusal",    "summary_text", "reasoning_text"};

bool is_text_type(std::string_view type) { return std::ranges::find(kTextTypes, type) != kTextTypes.end(); }

std::string_view id_prefix(std::string_view type) {
  if (type == "message") return "msg_";
  if (type == "reasoning") return "rs_";
  if (type == "function_call") return "fc_";
  if (type == "custom_tool_call") return "ctc_";
  return type.ends_with("_output") ? "out_" : "item_";
}

std::string join_lines(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) {
    if (!text.empty() && !line.empty()) text += '\n';
    text += line;
  }
  return text;
}

}  // namespace

void ResponsesItems::add(const JsonValue& item, const std::string& path) {
  if (item.kind != JsonValue::Kind::kObject) {
    problems_.push_back({path, fmt::format("expected an object, found {}", json_kind_name(item))});
    return;
  }
  JsonFields fields(item, path, problems_);
  const std::string type = fields.string("type").value_or("message");
  if (type == "message") return add_message(fields);
  if (type == "reasoning") return add_reasoning(fields);
  if (type == "additional_tools") return add_additional_tools(fields);
  if (add_call(fields, type)) return;
  if (type == "function_call_output" || type == "custom_tool_call_output" || type == "local_shell_call_output" ||
      type == "shell_call_output" || type == "apply_patch_call_output" || type == "tool_search_output") {
    add_result(fields, type);
  }
}

std::vector<Message> ResponsesItems::take_messages() {
  flush_reasoning();
  if (messages_.empty() || messages_.back().role == Role::kSystem) {
    messages_.push_back(make_message(Role::kUser));
  } else if (Message& last = messages_.back(); last.role == Role::kAssistant) {
    if (!last.tool_calls.empty()) {
      problems_.push_back({"input", fmt::format("the call '{}' has no output yet", last.tool_calls.back().id)});
    }
    last.without_eos = true;
  }
  return std::move(messages_);
}

void ResponsesItems::add_message(JsonFields& fields) {
  const std::string role = fields.string("role").value_or("user");
  if (role == "assistant") return append_text(assistant().content, join_texts(texts(fields, "content")));
  flush_reasoning();
  if (role == "system" || role == "developer") {
    system_texts_.add(texts(fields, "content"), messages_);
  } else if (role == "user") {
    messages_.push_back(make_message(Role::kUser, join_texts(texts(fields, "content"))));
  } else {
    fields.problem("role", fmt::format("expected user, assistant, system or developer, found '{}'", role));
  }
}

// The text itself, or as it was sealed, or what was shown of it; whatever the client kept.
void ResponsesItems::add_reasoning(JsonFields& fields) {
  std::string text = join_lines(texts(fields, "content"));
  const std::optional<std::string> sealed = fields.string("encrypted_content");
  if (text.empty() && sealed) text = sealer_.open(*sealed).value_or("");
  const std::string summary = join_lines(texts(fields, "summary"));
  if (text.empty()) text = summary;
  if (reasoning_ && !reasoning_->empty() && !text.empty()) text = *reasoning_ + "\n" + text;
  if (!text.empty()) reasoning_ = std::move(text);
}

void ResponsesItems::add_additional_tools(JsonFields& fields) {
  const bool in_place = has_begun() && !tools_.signatures().empty();
  std::vector<ToolDefinition> definitions;
  const std::string list = tool_list(fields, definitions);
  if (!in_place) {
    std::move(definitions.begin(), definitions.end(), std::back_inserter(definitions_));
  } else if (!list.empty()) {
    flush_reasoning();
    system_texts_.add({"More tools can be called from now on:\n" + list}, messages_);
  }
}

bool ResponsesItems::add_call(JsonFields& fields, std::string_view type) {
  const bool known = type == "function_call" || type == "custom_tool_call" || type == "tool_search_call" ||
                     type == "local_shell_call" || type == "shell_call" || type == "apply_patch_call";
  if (known) add_function_call(fields, type);
  return known;
}

void ResponsesItems::add_function_call(JsonFields& fields, std::string_view type) {
  ToolCall call{.id = fields.string("call_id").value_or(""), .name = {}, .arguments = {}};
  if (call.id.empty()) call.id = fields.string("id").value_or("");
  if (type == "function_call" || type == "custom_tool_call") {
    const std::string name = fields.string("name").value_or("");
    if (name.empty()) fields.problem("name", "missing");
    call.name = fields.string("namespace").value_or("") + name;
  }
  if (type == "function_call") {
    call.arguments = call_arguments(fields.find("arguments"));
  } else if (type == "custom_tool_call") {
    call.arguments =
        dump_json(json_object({{std::string(kCustomInput), json_text(fields.string("input").value_or(""))}}));
  } else if (type == "tool_search_call") {
    call.name = kToolSearchName;
    call.arguments = call_arguments(fields.find("arguments"));
  } else {
    call.name = type.substr(0, type.size() - std::string_view("_call").size());
    call.arguments = call_arguments(fields.find(type == "apply_patch_call" ? "operation" : "action"));
  }
  if (!call.id.empty()) call_ids_.insert(call.id);
  assistant().tool_calls.push_back(std::move(call));
}

void ResponsesItems::add_result(JsonFields& fields, std::string_view type) {
  flush_reasoning();
  Message message = make_message(Role::kTool);
  message.tool_call_id = fields.string("call_id").value_or("");
  if (message.tool_call_id.empty()) message.tool_call_id = fields.string("id").value_or("");
  if (!call_ids_.contains(message.tool_call_id)) {
    fields.problem("call_id", fmt::format("no call with the id '{}' comes before its output", message.tool_call_id));
  }
  const JsonValue* output = fields.find("output");
  if (type == "tool_search_output") {
    std::vector<ToolDefinition> definitions;
    message.content = tool_list(fields, definitions);
  } else if (output == nullptr) {
    fields.problem("output", "missing");
  } else if (output->kind == JsonValue::Kind::kString) {
    message.content = output->text;
  } else if (output->kind == JsonValue::Kind::kArray && type != "shell_call_output") {
    message.parts = parts(fields, "output");
  } else {
    message.content = dump_json(*output);
  }
  messages_.push_back(std::move(message));
}

// A string, or a list of strings and parts.
std::vector<ContentPart> ResponsesItems::parts(JsonFields& fields, std::string_view key) {
  const JsonValue* value = fields.find(key);
  if (value == nullptr) return {};
  if (value->kind == JsonValue::Kind::kString) return {{.type = "text", .text = value->text}};
  std::vector<ContentPart> found;
  if (value->kind != JsonValue::Kind::kArray) fields.wrong_type(key, "a string or an array of parts", *value);
  for (size_t i = 0; i < value->items.size(); ++i) {
    const JsonValue& item = value->items[i];
    const std::string path = fmt::format("{}[{}]", key, i);
    if (item.kind == JsonValue::Kind::kString) {
      found.push_back({.type = "text", .text = item.text});
    } else if (item.kind != JsonValue::Kind::kObject) {
      fields.wrong_type(path, "a string or a part", item);
    } else {
      JsonFields part = fields.child(path, item);
      const std::string type = part.string("type").value_or("text");
      const std::string_view text_key = type == "refusal" ? "refusal" : "text";
      if (is_text_type(type)) {
        found.push_back({.type = "text", .text = part.string(text_key).value_or("")});
      } else {
        found.push_back({.type = type, .text = {}});
      }
    }
  }
  return found;
}

std::vector<std::string> ResponsesItems::texts(JsonFields& fields, std::string_view key) {
  std::vector<std::string> found;
  std::vector<ContentPart> all = parts(fields, key);
  for (size_t i = 0; i < all.size(); ++i) {
    if (all[i].type == "text") {
      found.push_back(std::move(all[i].text));
    } else {
      fields.problem(fmt::format("{}[{}]", key, i),
                     fmt::format("'{}' is not supported: the model reads text only", all[i].type));
    }
  }
  return found;
}

std::string ResponsesItems::tool_list(JsonFields& fields, std::vector<ToolDefinition>& definitions) {
  const JsonValue* list = fields.array("tools");
  if (list == nullptr) return {};
  definitions = tools_.add(*list, fields.path("tools"), problems_);
  std::vector<std::string> lines;
  for (const ToolDefinition& definition : definitions) lines.push_back(definition.json);
  return join_lines(lines);
}

Message& ResponsesItems::assistant() {
  if (messages_.empty() || messages_.back().role != Role::kAssistant) {
    messages_.push_back(make_message(Role::kAssistant));
  }
  Message& message = messages_.back();
  if (reasoning_) append_text(message.reasoning_content, *std::exchange(reasoning_, std::nullopt));
  return message;
}

void ResponsesItems::flush_reasoning() {
  if (reasoning_) assistant();
}

bool ResponsesItems::has_begun() const {
  return std::ranges::any_of(messages_, [](const Message& message) { return message.role != Role::kSystem; });
}

JsonValue complete_item(JsonValue item) {
  if (text_member(item, "type").empty()) set_member(item, "type", json_text("message"));
  const std::string type(text_member(item, "type"));
  if (text_member(item, "id").empty()) set_member(item, "id", json_text(random_id(id_prefix(type))));
  if (text_member(item, "status").empty()) set_member(item, "status", json_text("completed"));
  if (type != "message") return item;
  const auto content = std::ranges::find(item.members, "content", &JsonMember::key);
  if (content == item.members.end()) {
    set_member(item, "content", json_array({}));
  } else if (content->value.kind == JsonValue::Kind::kString) {
    const bool is_output = text_member(item, "role") == "assistant";
    JsonValue part = json_object({{"type", json_text(is_output ? "output_text" : "input_text")},
                                  {"text", json_text(std::move(content->value.text))}});
    if (is_output) set_member(part, "annotations", json_array({}));
    content->value = json_array({std::move(part)});
  }
  return item;
}

}  // namespace ds4
