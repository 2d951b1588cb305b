#include <algorithm>
#include <array>
#include <unordered_set>
#include <utility>

#include "server/anthropic_messages.h"
#include "server/anthropic_signature.h"
#include "server/openai_rules.h"
#include "server/request_fields.h"
#include "server/system_texts.h"

namespace ds4 {
namespace {

// The model knows no flag for it.
constexpr std::string_view kToolErrorMark = "[error] ";

// Tools of the vendor's that a client runs itself: their schemas are not in the request.
constexpr std::array<std::string_view, 5> kClientTools{"bash_", "text_editor_", "computer_", "memory_", "browser_"};

std::string text_of_block(JsonFields& block) {
  if (block.find("text") == nullptr) block.problem("text", "missing");
  return block.string("text").value_or("");
}

// A string, or an array of strings and text blocks.
std::vector<std::string> read_texts(JsonFields& fields, std::string_view key) {
  const JsonValue* value = fields.find(key);
  if (value == nullptr) return {};
  if (value->kind == JsonValue::Kind::kString) return {value->text};
  if (value->kind != JsonValue::Kind::kArray) fields.wrong_type(key, "a string or an array of blocks", *value);
  std::vector<std::string> texts;
  for (size_t i = 0; i < value->items.size(); ++i) {
    const JsonValue& item = value->items[i];
    const std::string path = fmt::format("{}[{}]", key, i);
    if (item.kind == JsonValue::Kind::kString) {
      texts.push_back(item.text);
    } else if (item.kind == JsonValue::Kind::kObject) {
      JsonFields block = fields.child(path, item);
      const std::string type = block.string("type").value_or("text");
      if (type == "text") {
        texts.push_back(text_of_block(block));
      } else {
        block.problem("type", fmt::format("'{}' is not supported here: the model reads text only", type));
      }
    } else {
      fields.wrong_type(path, "a string or a block", item);
    }
  }
  return texts;
}

// The conversation of a request.
class ConversationParser {
 public:
  ConversationParser(FieldProblems& problems, bool keeps_volatile_text)
      : problems_(problems), system_texts_(keeps_volatile_text) {}

  void add_system_prompt(JsonFields& body) {
    std::vector<std::string> texts = read_texts(body, "system");
    if (!texts.empty()) system_texts_.add(std::move(texts), messages_);
  }

  void parse(const JsonValue& messages, ApiRequest& request) && {
    for (size_t i = 0; i < messages.items.size(); ++i) {
      const std::string path = fmt::format("messages[{}]", i);
      if (messages.items[i].kind == JsonValue::Kind::kObject) {
        parse_message(JsonFields(messages.items[i], path, problems_), i + 1 == messages.items.size());
      } else {
        problems_.push_back({path, fmt::format("expected an object, found {}", json_kind_name(messages.items[i]))});
      }
    }
    if (messages_.empty() || messages_.back().role == Role::kSystem) {
      problems_.push_back({"messages", "there is nothing to answer: a user message is needed"});
    }
    request.conversation.messages = std::move(messages_);
    request.dropped_text = system_texts_.dropped();
  }

 private:
  void parse_message(JsonFields fields, bool is_last) {
    if (fields.find("role") == nullptr) return fields.problem("role", "missing");
    const std::string role = fields.string("role").value_or("");
    if (role == "system") {
      system_texts_.add(read_texts(fields, "content"), messages_);
    } else if (role == "user") {
      add_user(fields);
    } else if (role == "assistant") {
      add_assistant(fields, is_last);
    } else if (!role.empty()) {
      fields.problem("role", fmt::format("expected user, assistant or system, found '{}'", role));
    }
  }

  // Texts and results stay in their order.
  void add_user(JsonFields& fields) {
    std::vector<std::string> texts;
    const size_t n_before = messages_.size();
    const auto flush = [&] {
      if (!texts.empty()) messages_.push_back(make_message(Role::kUser, join_texts(std::exchange(texts, {}))));
    };
    for_each_block(fields, [&](JsonFields block, const std::string& type) {
      if (type == "text") {
        texts.push_back(text_of_block(block));
      } else if (type == "tool_result") {
        flush();
        add_tool_result(block);
      } else {
        refuse_block(block, type, "a user message");
      }
    });
    flush();
    if (messages_.size() == n_before) messages_.push_back(make_message(Role::kUser));
  }

  void add_tool_result(JsonFields& block) {
    Message message = make_message(Role::kTool);
    message.tool_call_id = block.string("tool_use_id").value_or("");
    if (block.find("tool_use_id") == nullptr) {
      block.problem("tool_use_id", "missing");
    } else if (!message.tool_call_id.empty() && !call_ids_.contains(message.tool_call_id)) {
      block.problem("tool_use_id", fmt::format("no earlier tool_use of this request has the id '{}'; the server keeps "
                                               "no conversation, so send all of it",
                                               message.tool_call_id));
    }
    std::vector<std::string> texts = read_texts(block, "content");
    if (block.boolean("is_error").value_or(false)) {
      if (texts.empty()) texts.emplace_back();
      texts.front().insert(0, kToolErrorMark);
    }
    if (texts.size() == 1) {
      message.content = std::move(texts.front());
    } else {
      for (std::string& text : texts) message.parts.push_back({.type = "text", .text = std::move(text)});
    }
    messages_.push_back(std::move(message));
  }

  void add_assistant(JsonFields& fields, bool is_last) {
    Message message = make_message(Role::kAssistant);
    std::vector<std::string> texts;
    for_each_block(fields, [&](JsonFields block, const std::string& type) {
      if (type == "text") {
        texts.push_back(text_of_block(block));
      } else if (type == "thinking") {
        append_text(message.reasoning_content, thinking_of(block));
      } else if (type == "tool_use") {
        add_call(block, message);
      } else if (type != "redacted_thinking") {  // nobody but its vendor can read that
        refuse_block(block, type, "an assistant message");
      }
    });
    message.content = join_texts(texts);
    if (is_last && !message.tool_calls.empty()) {
      fields.problem("content", "the last message can be continued only when it has no tool_use; send the tool_result");
    }
    message.without_eos = is_last;
    if (messages_.empty() || messages_.back().role != Role::kAssistant) return messages_.push_back(std::move(message));
    Message& last = messages_.back();
    append_text(last.content, message.content);
    append_text(last.reasoning_content, message.reasoning_content);
    std::move(message.tool_calls.begin(), message.tool_calls.end(), std::back_inserter(last.tool_calls));
    last.without_eos = message.without_eos;
  }

  // A block without text may carry it in its signature.
  static std::string thinking_of(JsonFields& block) {
    std::string text = block.string("thinking").value_or("");
    const std::string signature = block.string("signature").value_or("");
    if (text.empty()) text = signed_thinking(signature).value_or("");
    return text;
  }

  void add_call(JsonFields& block, Message& message) {
    const std::string name = block.string("name").value_or("");
    if (name.empty()) block.problem("name", "missing");
    std::string id = block.string("id").value_or("");
    if (!id.empty()) call_ids_.insert(id);
    message.tool_calls.push_back({.id = std::move(id), .name = name, .arguments = call_arguments(block.find("input"))});
  }

  static void refuse_block(JsonFields& block, std::string_view type, std::string_view where) {
    const bool is_known = type == "thinking" || type == "tool_use" || type == "tool_result";
    block.problem("type", is_known ? fmt::format("'{}' does not belong into {}", type, where)
                                   : fmt::format("'{}' is not supported: the model reads text only", type));
  }

  // `handle(block, type)`; a plain string is a text block.
  template <class Handle>
  void for_each_block(JsonFields& fields, const Handle& handle) {
    const JsonValue* content = fields.find("content");
    if (content == nullptr) return;
    if (content->kind == JsonValue::Kind::kString) return handle_text(*content, fields.path("content"), handle);
    if (content->kind != JsonValue::Kind::kArray) {
      return fields.wrong_type("content", "a string or an array of blocks", *content);
    }
    for (size_t i = 0; i < content->items.size(); ++i) {
      const JsonValue& item = content->items[i];
      const std::string path = fmt::format("content[{}]", i);
      if (item.kind == JsonValue::Kind::kObject) {
        JsonFields block = fields.child(path, item);
        std::string type = block.string("type").value_or("text");
        handle(std::move(block), type);
      } else if (item.kind == JsonValue::Kind::kString) {
        handle_text(item, fields.path(path), handle);
      } else {
        fields.wrong_type(path, "a block", item);
      }
    }
  }

  template <class Handle>
  void handle_text(const JsonValue& text, std::string path, const Handle& handle) {
    JsonValue block;
    block.kind = JsonValue::Kind::kObject;
    block.members.push_back({"text", text});
    handle(JsonFields(block, std::move(path), problems_), "text");
  }

  FieldProblems& problems_;
  SystemTexts system_texts_;
  std::vector<Message> messages_;
  std::unordered_set<std::string> call_ids_;
};

class MessagesParser {
 public:
  MessagesParser(const JsonValue& body, const ServedModel& served) : fields_(body, "", problems_), served_(served) {}

  std::variant<MessagesRequest, ApiError> parse() && {
    request_.model = fields_.string("model").value_or(served_.id);
    parse_messages();
    parse_tools();
    request_.max_tokens = read_max_tokens(fields_, "max_tokens").value_or(served_.default_max_tokens);
    read_stop_strings(fields_, "stop_sequences", request_.stop_strings);
    read_sampling(fields_, request_.sampling);
    parse_thinking();
    parse_format();
    request_.stream = fields_.boolean("stream").value_or(false);
    if (const JsonValue* servers = fields_.array("mcp_servers"); servers != nullptr && !servers->items.empty()) {
      fields_.problem("mcp_servers", "is not supported: connect to them and pass their tools");
    }
    if (!problems_.empty()) return problems_error(problems_);
    return std::move(request_);
  }

 private:
  void parse_messages() {
    const JsonValue* messages = fields_.array("messages");
    if (messages != nullptr && !messages->items.empty()) {
      ConversationParser parser(problems_, served_.keeps_volatile_text);
      parser.add_system_prompt(fields_);
      std::move(parser).parse(*messages, request_);
    } else if (messages != nullptr || fields_.find("messages") == nullptr) {
      fields_.problem("messages", "at least one message is needed");
    }
  }

  void parse_tools() {
    std::vector<std::string> definitions;
    std::vector<ToolSignature> signatures;
    if (const JsonValue* list = fields_.array("tools")) {
      for (size_t i = 0; i < list->items.size(); ++i) {
        parse_tool(list->items[i], fmt::format("tools[{}]", i), definitions, signatures);
      }
    }
    if (const JsonValue* choice = fields_.object("tool_choice")) {
      const bool hides_tools = parse_tool_choice(fields_.child("tool_choice", *choice), signatures);
      if (hides_tools) definitions.clear();
    }
    const bool is_strict = std::ranges::any_of(signatures, &ToolSignature::strict);
    if (!definitions.empty() && (is_strict || request_.rules.tool_use != ToolUse::kFree)) {
      request_.rules.tools = std::move(signatures);
    }
    define_tools(std::move(definitions), request_.conversation.messages);
  }

  void parse_tool(const JsonValue& tool, const std::string& key, std::vector<std::string>& definitions,
                  std::vector<ToolSignature>& signatures) {
    if (tool.kind != JsonValue::Kind::kObject) return fields_.wrong_type(key, "an object", tool);
    JsonFields fields = fields_.child(key, tool);
    const std::string type = fields.string("type").value_or("custom");
    const JsonValue* schema = fields.object("input_schema");
    if (type != "custom" && schema == nullptr) {
      const bool is_client_tool =
          std::ranges::any_of(kClientTools, [&type](std::string_view prefix) { return type.starts_with(prefix); });
      if (is_client_tool) {
        fields.problem("type", fmt::format("'{}' is not supported: declare it as a tool with an input_schema", type));
      }
      return;  // a tool that the vendor's servers run: the model must not call it, and no client would answer
    }
    const std::string name = fields.string("name").value_or("");
    if (name.empty()) fields.problem("name", "missing");
    if (fields.find("input_schema") == nullptr) fields.problem("input_schema", "missing");
    const std::optional<std::string> description = fields.string("description");
    const bool strict = fields.boolean("strict").value_or(false);
    if (schema == nullptr) return;
    std::string parameters = dump_json(*schema);
    // Nothing else: what belongs to the API only, like cache_control, moves between the turns of a conversation.
    const std::string described = description ? fmt::format(R"(, "description": {})", json_string(*description)) : "";
    definitions.push_back(
        fmt::format(R"({{"name": {}{}, "parameters": {}}})", json_string(name), described, parameters));
    signatures.push_back({.name = name, .parameters = std::move(parameters), .strict = strict});
    check_strict_tool(signatures.back(), "input_schema", fields);
  }

  // True: the model shall not see any.
  bool parse_tool_choice(JsonFields choice, const std::vector<ToolSignature>& tools) {
    if (choice.find("type") == nullptr) choice.problem("type", "missing");
    const std::string type = choice.string("type").value_or("auto");
    const std::string name = choice.string("name").value_or("");
    request_.rules.parallel_calls = !choice.boolean("disable_parallel_tool_use").value_or(false);
    if (type == "auto") return false;
    if (type == "none") return true;
    if (type == "any") {
      request_.rules.tool_use = ToolUse::kRequired;
      if (tools.empty()) choice.problem("type", "'any' needs a tool that the model can call");
    } else if (type == "tool") {
      request_.rules.tool_use = ToolUse::kNamed;
      request_.rules.tool_name = name;
      if (std::ranges::find(tools, name, &ToolSignature::name) == tools.end()) {
        choice.problem("name", fmt::format("no tool that the model can call has the name '{}'", name));
      }
    } else {
      choice.problem("type", fmt::format("expected auto, any, tool or none, found '{}'", type));
    }
    return false;
  }

  void parse_thinking() {
    ThinkingWish wish{.explicit_switch = read_thinking(fields_), .effort = fields_.string("reasoning_effort")};
    std::string effort_path = "reasoning_effort";
    if (const JsonValue* output = fields_.object("output_config")) {
      if (std::optional<std::string> effort = fields_.child("output_config", *output).string("effort")) {
        wish.effort = std::move(effort);
        effort_path = "output_config.effort";
      }
    }
    if (const std::string problem = wish.effort ? effort_problem(*wish.effort) : ""; !problem.empty()) {
      fields_.problem(effort_path, problem);
    }
    choose_thinking(wish, served_, request_);
    const JsonValue* thinking = fields_.find("thinking");
    if (thinking == nullptr || thinking->kind != JsonValue::Kind::kObject) return;
    JsonFields settings = fields_.child("thinking", *thinking);
    if (const std::optional<int32_t> budget = read_max_tokens(settings, "budget_tokens")) {
      request_.rules.max_reasoning_tokens = *budget;
    }
    const std::string display = settings.string("display").value_or("summarized");
    request_.omits_thinking = display == "omitted";
    if (!request_.omits_thinking && display != "summarized" && display != "updates") {
      settings.problem("display", fmt::format("expected 'summarized' or 'omitted', found '{}'", display));
    }
  }

  // output_config.format, or its older name.
  void parse_format() {
    parse_format(fields_, "output_format");
    if (const JsonValue* output = fields_.object("output_config")) {
      JsonFields config = fields_.child("output_config", *output);
      parse_format(config, "format");
    }
  }

  void parse_format(JsonFields& parent, std::string_view key) {
    const JsonValue* format = parent.object(key);
    if (format == nullptr) return;
    JsonFields fields = parent.child(key, *format);
    const std::string type = fields.string("type").value_or("");
    if (type != "json_schema") {
      return fields.problem("type", fmt::format("expected 'json_schema', found '{}'", type));
    }
    const JsonValue* schema = fields.object("schema");
    if (schema == nullptr) {
      if (fields.find("schema") == nullptr) fields.problem("schema", "missing");
      return;
    }
    bind_answer(*schema, fields.path("schema"), problems_, request_);
  }

  FieldProblems problems_;
  JsonFields fields_;
  const ServedModel& served_;
  MessagesRequest request_;
};

}  // namespace

std::variant<MessagesRequest, ApiError> parse_messages_request(std::string body, const ServedModel& served) {
  const auto json = parse_json_object(std::move(body));
  if (const auto* error = std::get_if<ApiError>(&json)) return *error;
  return MessagesParser(std::get<JsonValue>(json), served).parse();
}

}  // namespace ds4
