#include <algorithm>
#include <utility>

#include "server/openai_chat.h"
#include "server/openai_rules.h"
#include "server/request_fields.h"
#include "server/system_texts.h"

namespace ds4 {
namespace {

constexpr int64_t kMaxTopLogprobs = 20;

// The conversation of a request.
class MessagesParser {
 public:
  MessagesParser(FieldProblems& problems, bool keeps_volatile_text)
      : problems_(problems), system_texts_(keeps_volatile_text) {}

  void parse(const JsonValue& messages, ChatRequest& request) && {
    for (size_t i = 0; i < messages.items.size(); ++i) {
      const std::string path = fmt::format("messages[{}]", i);
      if (messages.items[i].kind == JsonValue::Kind::kObject) {
        parse_message(JsonFields(messages.items[i], path, problems_), i + 1 == messages.items.size());
      } else {
        problems_.push_back({path, fmt::format("expected an object, found {}", json_kind_name(messages.items[i]))});
      }
    }
    request.conversation.messages = std::move(messages_);
    request.dropped_text = system_texts_.dropped();
  }

 private:
  void parse_message(JsonFields fields, bool is_last) {
    const JsonValue* role = fields.find("role");
    if (role == nullptr) return fields.problem("role", "missing");
    const std::string name = fields.string("role").value_or("");
    if (name == "system" || name == "developer") {
      system_texts_.add(text_parts(fields, "content"), messages_);
    } else if (name == "user") {
      messages_.push_back(make_message(Role::kUser, join_texts(text_parts(fields, "content"))));
    } else if (name == "assistant") {
      add_assistant(fields, is_last);
    } else if (name == "tool" || name == "function") {
      add_tool_result(fields);
    } else if (!name.empty()) {
      fields.problem("role", fmt::format("expected system, developer, user, assistant or tool, found '{}'", name));
    }
  }

  void add_assistant(JsonFields& fields, bool is_last) {
    Message message = make_message(Role::kAssistant, join_texts(text_parts(fields, "content")));
    message.reasoning_content = join_texts(text_parts(fields, "reasoning_content"));
    if (const JsonValue* calls = fields.array("tool_calls")) add_tool_calls(*calls, fields, message);
    if (const JsonValue* call = fields.object("function_call")) {
      add_call("", JsonFields(*call, fields.path("function_call"), problems_), message);
    }
    message.without_eos = fields.boolean("prefix").value_or(false);
    if (message.without_eos != is_last) {
      fields.problem("prefix", is_last ? "an assistant message at the end must have prefix: true, to be continued"
                                       : "only the last message can be continued");
    }
    if (messages_.empty() || messages_.back().role != Role::kAssistant) return messages_.push_back(std::move(message));
    Message& last = messages_.back();
    append_text(last.content, message.content);
    append_text(last.reasoning_content, message.reasoning_content);
    std::move(message.tool_calls.begin(), message.tool_calls.end(), std::back_inserter(last.tool_calls));
    last.without_eos = message.without_eos;
  }

  void add_tool_calls(const JsonValue& calls, JsonFields& fields, Message& message) {
    for (size_t i = 0; i < calls.items.size(); ++i) {
      const std::string key = fmt::format("tool_calls[{}]", i);
      if (calls.items[i].kind != JsonValue::Kind::kObject) {
        fields.wrong_type(key, "an object", calls.items[i]);
        continue;
      }
      JsonFields call(calls.items[i], fields.path(key), problems_);
      const JsonValue* function = call.object("function");
      if (function == nullptr) {
        if (call.find("function") == nullptr) call.problem("function", "missing; only function calls are supported");
        continue;
      }
      add_call(call.string("id").value_or(""), JsonFields(*function, call.path("function"), problems_), message);
    }
  }

  void add_call(std::string id, JsonFields function, Message& message) {
    const std::string name = function.string("name").value_or("");
    if (name.empty()) function.problem("name", "missing");
    message.tool_calls.push_back(
        {.id = std::move(id), .name = name, .arguments = call_arguments(function.find("arguments"))});
  }

  void add_tool_result(JsonFields& fields) {
    Message message = make_message(Role::kTool);
    message.tool_call_id = fields.string("tool_call_id").value_or("");
    std::vector<std::string> parts = text_parts(fields, "content");
    if (parts.size() == 1) {
      message.content = std::move(parts.front());
    } else {
      for (std::string& part : parts) message.parts.push_back({.type = "text", .text = std::move(part)});
    }
    messages_.push_back(std::move(message));
  }

  // A string, or an array of strings and text parts.
  std::vector<std::string> text_parts(JsonFields& fields, std::string_view key) {
    const JsonValue* value = fields.find(key);
    if (value == nullptr) return {};
    if (value->kind == JsonValue::Kind::kString) return {value->text};
    std::vector<std::string> parts;
    if (value->kind != JsonValue::Kind::kArray) fields.wrong_type(key, "a string or an array of parts", *value);
    for (size_t i = 0; i < value->items.size(); ++i) {
      const JsonValue& item = value->items[i];
      const std::string path = fmt::format("{}[{}]", key, i);
      if (item.kind == JsonValue::Kind::kString) {
        parts.push_back(item.text);
      } else if (item.kind == JsonValue::Kind::kObject) {
        parts.push_back(part_text(JsonFields(item, fields.path(path), problems_)));
      } else {
        fields.wrong_type(path, "a string or a part", item);
      }
    }
    return parts;
  }

  static std::string part_text(JsonFields part) {
    const std::string type = part.string("type").value_or("text");
    if (type != "text" && type != "refusal") {
      part.problem("type", fmt::format("'{}' is not supported: the model reads text only", type));
      return {};
    }
    if (part.find(type) == nullptr) part.problem(type, "missing");
    return part.string(type).value_or("");
  }

  FieldProblems& problems_;
  SystemTexts system_texts_;
  std::vector<Message> messages_;
};

class ChatParser {
 public:
  ChatParser(const JsonValue& body, const ServedModel& served) : fields_(body, "", problems_), served_(served) {}

  std::variant<ChatRequest, ApiError> parse() && {
    request_.model = fields_.string("model").value_or(served_.id);
    parse_messages();
    read_tools(fields_, problems_, request_);
    read_response_format(fields_, problems_, request_);
    parse_limits();
    read_sampling(fields_, request_.sampling);
    read_penalties(fields_, problems_, request_.sampling);
    read_thinking_budget(fields_, problems_, request_.rules);
    request_.n = read_n(fields_);
    parse_logprobs();
    parse_thinking();
    request_.stream = fields_.boolean("stream").value_or(false);
    if (const JsonValue* options = fields_.object("stream_options")) {
      request_.include_usage =
          JsonFields(*options, "stream_options", problems_).boolean("include_usage").value_or(false);
    }
    refuse_unsupported();
    if (!problems_.empty()) return problems_error(problems_);
    return std::move(request_);
  }

 private:
  void parse_messages() {
    const JsonValue* messages = fields_.array("messages");
    if (messages != nullptr && !messages->items.empty()) {
      MessagesParser(problems_, served_.keeps_volatile_text).parse(*messages, request_);
    } else if (messages != nullptr || fields_.find("messages") == nullptr) {
      fields_.problem("messages", "at least one message is needed");
    }
  }

  void parse_limits() {
    const std::optional<int32_t> old_name = read_max_tokens(fields_, "max_tokens");
    const std::optional<int32_t> max_tokens = read_max_tokens(fields_, "max_completion_tokens");
    request_.max_tokens = max_tokens.value_or(old_name.value_or(served_.default_max_tokens));
    read_stop_strings(fields_, "stop", request_.stop_strings);
  }

  void parse_logprobs() {
    const bool wanted = fields_.boolean("logprobs").value_or(false);
    const std::optional<int64_t> n_top = fields_.integer("top_logprobs", 0, kMaxTopLogprobs);
    if (n_top.value_or(0) > 0 && !wanted) fields_.problem("top_logprobs", "needs logprobs: true");
    if (wanted) request_.n_top_logprobs = static_cast<int32_t>(n_top.value_or(0));
  }

  void parse_thinking() {
    ThinkingWish wish{.explicit_switch = fields_.boolean("think"), .effort = fields_.string("reasoning_effort")};
    if (const std::optional<bool> thinking = read_thinking(fields_)) wish.explicit_switch = thinking;
    if (wish.effort) {
      const std::string problem = effort_problem(*wish.effort);
      if (!problem.empty()) fields_.problem("reasoning_effort", problem);
    }
    choose_thinking(wish, served_, request_);
  }

  void refuse_unsupported() {
    if (const JsonValue* modalities = fields_.array("modalities")) {
      for (const JsonValue& modality : modalities->items) {
        if (modality.text != "text") fields_.problem("modalities", "the model writes text only");
      }
    }
    if (fields_.find("audio") != nullptr) fields_.problem("audio", "the model writes text only");
    if (const JsonValue* functions = fields_.find("functions"); functions != nullptr && !functions->items.empty()) {
      fields_.problem("functions", "use tools");
    }
  }

  FieldProblems problems_;
  JsonFields fields_;
  const ServedModel& served_;
  ChatRequest request_;
};

}  // namespace

std::variant<ChatRequest, ApiError> parse_chat_request(std::string body, const ServedModel& served) {
  const auto json = parse_json_object(std::move(body));
  if (const auto* error = std::get_if<ApiError>(&json)) return *error;
  return ChatParser(std::get<JsonValue>(json), served).parse();
}

}  // namespace ds4
