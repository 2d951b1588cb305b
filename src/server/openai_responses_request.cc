#include <algorithm>
#include <utility>

#include "server/json_values.h"
#include "server/openai_responses.h"
#include "server/openai_responses_items.h"
#include "server/openai_rules.h"
#include "server/request_fields.h"

namespace ds4 {
namespace {

constexpr int64_t kMaxTopLogprobs = 20;

class ResponsesParser {
 public:
  ResponsesParser(const JsonValue& body, const ServedModel& served, ResponsesMemory& memory)
      : fields_(body, "", problems_),
        served_(served),
        memory_(memory),
        items_(problems_, request_.plan.tools, memory.sealer, served.keeps_volatile_text) {}

  std::variant<ResponsesRequest, ApiError> parse() && {
    request_.model = fields_.string("model").value_or(served_.id);
    request_.plan.model = request_.model;
    request_.plan.is_stored = fields_.boolean("store").value_or(true);
    parse_instructions();
    parse_declared_tools();
    if (!add_previous()) return previous_error();
    parse_input();
    request_.conversation.messages = items_.take_messages();
    request_.dropped_text = items_.dropped();
    const auto& late = items_.definitions();
    definitions_.insert(definitions_.end(), late.begin(), late.end());
    parse_tool_choice();
    define_allowed_tools();
    parse_limits();
    read_sampling(fields_, request_.sampling);
    read_penalties(fields_, problems_, request_.sampling);
    parse_include();
    parse_reasoning();
    parse_text();
    request_.stream = fields_.boolean("stream").value_or(false);
    refuse_unsupported();
    if (!problems_.empty()) return problems_error(problems_);
    request_.plan.settings = settings();
    return std::move(request_);
  }

 private:
  void parse_instructions() {
    if (auto text = fields_.string("instructions"); text && !text->empty()) items_.add_instructions(*std::move(text));
  }

  // ---- what was said ----

  bool add_previous() {
    const auto id = fields_.string("previous_response_id");
    if (!id) return true;
    const auto previous = memory_.store.find(*id);
    if (previous == nullptr) return false;
    for (const auto* items : {&previous->input, &previous->output}) {
      for (const StoredItemPtr& item : *items) add_stored(item, "previous_response_id");
    }
    return true;
  }

  ApiError previous_error() {
    return {.status = 400,
            .message = fmt::format("previous_response_id: no response '{}' is stored here",
                                   fields_.string("previous_response_id").value_or("")),
            .param = "previous_response_id",
            .code = "previous_response_not_found"};
  }

  void add_stored(const StoredItemPtr& item, const std::string& path) {
    const Result<JsonValue> json = parse_json(item->json);
    if (json.ok()) items_.add(json.value(), path);
    if (request_.plan.is_stored) request_.plan.input.push_back(item);
  }

  void parse_input() {
    const JsonValue* input = fields_.find("input");
    if (input == nullptr) {
      if (fields_.find("previous_response_id") == nullptr) fields_.problem("input", "missing");
    } else if (input->kind == JsonValue::Kind::kString) {
      add_item(json_object({{"role", json_text("user")}, {"content", *input}}), "input");
    } else if (input->kind == JsonValue::Kind::kArray) {
      for (size_t i = 0; i < input->items.size(); ++i) add_item(input->items[i], fmt::format("input[{}]", i));
      const bool is_empty = input->items.empty() && fields_.find("previous_response_id") == nullptr;
      if (is_empty && fields_.find("instructions") == nullptr) fields_.problem("input", "at least one item is needed");
    } else {
      fields_.wrong_type("input", "a string or an array of items", *input);
    }
  }

  static bool is_reference(const JsonValue& item) {
    const std::string_view type = text_member(item, "type");
    const bool has_role = std::ranges::find(item.members, "role", &JsonMember::key) != item.members.end();
    return type == "item_reference" || (type.empty() && !has_role && !text_member(item, "id").empty());
  }

  void add_item(const JsonValue& item, const std::string& path) {
    if (is_reference(item)) return add_reference(std::string(text_member(item, "id")), path);
    items_.add(item, path);
    if (!request_.plan.is_stored || item.kind != JsonValue::Kind::kObject) return;
    const JsonValue whole = complete_item(item);
    request_.plan.input.push_back(std::make_shared<const StoredItem>(
        StoredItem{.id = std::string(text_member(whole, "id")), .json = dump_json(whole)}));
  }

  void add_reference(const std::string& id, const std::string& path) {
    const StoredItemPtr item = memory_.store.find_item(id);
    if (item != nullptr) return add_stored(item, path);
    problems_.push_back({path + ".id", fmt::format("no item '{}' is stored here; send the item itself", id)});
  }

  // ---- tools ----

  void parse_declared_tools() {
    if (const JsonValue* list = fields_.array("tools")) {
      definitions_ = request_.plan.tools.add(*list, "tools", problems_);
    }
  }

  void parse_tool_choice() {
    for (const ToolSignature& signature : request_.plan.tools.signatures()) allowed_.push_back(signature.name);
    request_.rules.parallel_calls = fields_.boolean("parallel_tool_calls").value_or(true);
    const JsonValue* choice = fields_.find("tool_choice");
    if (choice == nullptr) return;
    if (choice->kind == JsonValue::Kind::kString) return set_mode("tool_choice", choice->text);
    if (choice->kind != JsonValue::Kind::kObject) {
      return fields_.wrong_type("tool_choice", "a string or an object", *choice);
    }
    JsonFields chosen = fields_.child("tool_choice", *choice);
    const std::string type = chosen.string("type").value_or("");
    if (type == "allowed_tools") return parse_allowed_tools(chosen);
    request_.rules.tool_name = chosen_name(chosen);
    request_.rules.tool_use = ToolUse::kNamed;
  }

  void set_mode(std::string_view key, std::string_view mode) {
    if (mode == "none") {
      allowed_.clear();
    } else if (mode == "required") {
      request_.rules.tool_use = ToolUse::kRequired;
      if (allowed_.empty()) fields_.problem(key, "'required' needs at least one tool that can be called");
    } else if (mode != "auto") {
      fields_.problem(key, fmt::format("expected auto, none, required or an object, found '{}'", mode));
    }
  }

  void parse_allowed_tools(JsonFields& chosen) {
    allowed_.clear();
    if (const JsonValue* list = chosen.array("tools")) {
      for (size_t i = 0; i < list->items.size(); ++i) {
        const std::string key = fmt::format("tools[{}]", i);
        if (list->items[i].kind != JsonValue::Kind::kObject) {
          chosen.wrong_type(key, "an object", list->items[i]);
          continue;
        }
        JsonFields tool = chosen.child(key, list->items[i]);
        std::string name = chosen_name(tool);
        if (!name.empty()) allowed_.push_back(std::move(name));
      }
    } else {
      chosen.problem("tools", "missing");
    }
    set_mode("tool_choice.mode", chosen.string("mode").value_or("auto"));
  }

  // The model's name for it.
  std::string chosen_name(JsonFields& chosen) {
    const std::string type = chosen.string("type").value_or("");
    ResponsesTool tool{.name = chosen.string("name").value_or(""),
                       .name_space = chosen.string("namespace").value_or("")};
    if (type == "custom") {
      tool.kind = ResponsesToolKind::kCustom;
    } else if (type == kToolSearchName) {
      tool = {.kind = ResponsesToolKind::kToolSearch, .name = std::string(kToolSearchName)};
    } else if (type != "function") {
      chosen.problem("type", fmt::format("'{}' cannot be chosen: this server does not run it", type));
      return {};
    }
    std::string name = request_.plan.tools.name_of(tool);
    if (name.empty()) chosen.problem("name", fmt::format("no {} tool '{}' is declared", type, tool.name));
    return name;
  }

  bool is_allowed(const std::string& name) const { return std::ranges::find(allowed_, name) != allowed_.end(); }

  void define_allowed_tools() {
    std::vector<std::string> shown;
    for (const ToolDefinition& definition : definitions_) {
      if (is_allowed(definition.name)) shown.push_back(definition.json);
    }
    define_tools(std::move(shown), request_.conversation.messages);
    const auto& signatures = request_.plan.tools.signatures();
    const bool any_strict = std::ranges::any_of(
        signatures, [this](const ToolSignature& signature) { return signature.strict && is_allowed(signature.name); });
    if (!any_strict && request_.rules.tool_use == ToolUse::kFree) return;
    for (const ToolSignature& signature : signatures) {
      if (is_allowed(signature.name)) request_.rules.tools.push_back(signature);
    }
  }

  // ---- how to answer ----

  void parse_limits() {
    const std::optional<int32_t> chat_name = read_max_tokens(fields_, "max_tokens");
    const std::optional<int32_t> max_tokens = read_max_tokens(fields_, "max_output_tokens");
    request_.max_tokens = max_tokens.value_or(chat_name.value_or(served_.default_max_tokens));
    read_stop_strings(fields_, "stop", request_.stop_strings);
  }

  void parse_include() {
    const std::optional<int64_t> n_top = fields_.integer("top_logprobs", 0, kMaxTopLogprobs);
    bool with_logprobs = n_top.value_or(0) > 0;
    if (const JsonValue* include = fields_.array("include")) {
      for (const JsonValue& what : include->items) {
        if (what.text == "reasoning.encrypted_content") request_.plan.with_sealed_reasoning = true;
        if (what.text == "message.output_text.logprobs") with_logprobs = true;
      }
    }
    if (with_logprobs) request_.n_top_logprobs = static_cast<int32_t>(n_top.value_or(0));
  }

  void parse_reasoning() {
    ThinkingWish wish{.explicit_switch = read_thinking(fields_), .effort = {}};
    if (const JsonValue* reasoning = fields_.object("reasoning")) {
      JsonFields fields = fields_.child("reasoning", *reasoning);
      wish.effort = fields.string("effort");
      const std::string problem = wish.effort ? effort_problem(*wish.effort) : std::string();
      if (!problem.empty()) fields.problem("effort", problem);
      std::optional<std::string> summary = fields.string("summary");
      if (!summary) summary = fields.string("generate_summary");
      const bool is_wanted = summary == "auto" || summary == "concise" || summary == "detailed";
      if (summary && !is_wanted && *summary != "none") {
        fields.problem("summary", fmt::format("expected auto, concise or detailed, found '{}'", *summary));
      }
      request_.plan.with_summary = is_wanted;
    }
    choose_thinking(wish, served_, request_);
  }

  void parse_text() {
    const JsonValue* text = fields_.object("text");
    if (text == nullptr) return;
    JsonFields fields = fields_.child("text", *text);
    const JsonValue* format = fields.object("format");
    if (format == nullptr) return;
    JsonFields form = fields.child("format", *format);
    const std::string type = form.string("type").value_or("text");
    if (type == "json_object") {
      bind_answer_to_object(request_);
    } else if (type == "json_schema") {
      const JsonValue* schema = form.object("schema");
      if (schema == nullptr) return form.problem("schema", "missing");
      bind_answer(*schema, form.path("schema"), problems_, request_);
    } else if (type != "text") {
      form.problem("type", fmt::format("expected text, json_object or json_schema, found '{}'", type));
    }
  }

  void refuse_unsupported() {
    if (fields_.boolean("background").value_or(false)) fields_.problem("background", "is not supported; use stream");
    if (fields_.find("conversation") != nullptr) {
      fields_.problem("conversation", "is not supported; use previous_response_id");
    }
    if (fields_.find("prompt") != nullptr) fields_.problem("prompt", "no prompts are stored here; use instructions");
    if (const JsonValue* management = fields_.array("context_management");
        management != nullptr && !management->items.empty()) {
      fields_.problem("context_management", "is not supported: the server does not shorten conversations");
    }
    if (const auto truncation = fields_.string("truncation");
        truncation && *truncation != "auto" && *truncation != "disabled") {
      fields_.problem("truncation", fmt::format("expected auto or disabled, found '{}'", *truncation));
    }
    fields_.object("metadata");
  }

  // ---- what the response repeats ----

  JsonValue sent_or(std::string_view key, JsonValue otherwise) const {
    const JsonValue* value = fields_.find(key);
    if (value != nullptr) return *value;
    return otherwise;
  }
  JsonValue sent_or_null(std::string_view key) const { return sent_or(key, json_scalar("null")); }

  static void complete_tools(JsonValue& tools) {
    for (JsonValue& tool : tools.items) {
      if (text_member(tool, "type") == "function") {
        add_missing(tool, "parameters", "null");
        add_missing(tool, "strict", "false");
      }
      const auto nested = std::ranges::find(tool.members, "tools", &JsonMember::key);
      if (nested == tool.members.end()) continue;
      for (JsonValue& inner : nested->value.items) {
        if (text_member(inner, "type") == "function") add_missing(inner, "strict", "false");
      }
    }
  }

  static void add_missing(JsonValue& object, std::string_view key, std::string_view value) {
    if (std::ranges::find(object.members, key, &JsonMember::key) == object.members.end()) {
      set_member(object, key, json_scalar(value));
    }
  }

  std::string settings() const {
    JsonValue tools = sent_or("tools", json_array({}));
    complete_tools(tools);
    JsonValue reasoning = sent_or("reasoning", json_object({}));
    add_missing(reasoning, "effort", "null");
    add_missing(reasoning, "summary", "null");
    JsonValue text = sent_or("text", json_object({}));
    const bool has_format = std::ranges::find(text.members, "format", &JsonMember::key) != text.members.end();
    if (!has_format) set_member(text, "format", json_object({{"type", json_text("text")}}));
    return dump_json(json_object({{"background", json_scalar("false")},
                                  {"instructions", sent_or_null("instructions")},
                                  {"max_output_tokens", sent_or_null("max_output_tokens")},
                                  {"max_tool_calls", sent_or_null("max_tool_calls")},
                                  {"metadata", sent_or("metadata", json_object({}))},
                                  {"parallel_tool_calls", sent_or("parallel_tool_calls", json_scalar("true"))},
                                  {"previous_response_id", sent_or_null("previous_response_id")},
                                  {"prompt_cache_key", sent_or_null("prompt_cache_key")},
                                  {"reasoning", std::move(reasoning)},
                                  {"service_tier", json_text("default")},
                                  {"store", json_scalar(request_.plan.is_stored ? "true" : "false")},
                                  {"temperature", sent_or("temperature", json_scalar("1.0"))},
                                  {"text", std::move(text)},
                                  {"tool_choice", sent_or("tool_choice", json_text("auto"))},
                                  {"tools", std::move(tools)},
                                  {"top_logprobs", sent_or("top_logprobs", json_scalar("0"))},
                                  {"top_p", sent_or("top_p", json_scalar("1.0"))},
                                  {"truncation", json_text("disabled")}}));
  }

  FieldProblems problems_;
  JsonFields fields_;
  const ServedModel& served_;
  ResponsesMemory& memory_;
  ResponsesRequest request_;
  ResponsesItems items_;
  std::vector<ToolDefinition> definitions_;
  std::vector<std::string> allowed_;  // the model's names
};

}  // namespace

std::variant<ResponsesRequest, ApiError> parse_responses_request(std::string body, const ServedModel& served,
                                                                 ResponsesMemory& memory) {
  auto json = parse_json_object(std::move(body));
  if (const auto* error = std::get_if<ApiError>(&json)) return *error;
  replace_infinities(std::get<JsonValue>(json));
  return ResponsesParser(std::get<JsonValue>(json), served, memory).parse();
}

}  // namespace ds4
