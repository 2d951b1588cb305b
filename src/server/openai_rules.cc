#include "server/openai_rules.h"

#include <algorithm>
#include <charconv>
#include <limits>
#include <utility>
#include <vector>

#include "constrain/schema_check.h"
#include "server/request_fields.h"

namespace ds4 {
namespace {

using Kind = JsonValue::Kind;

constexpr std::string_view kAnyObject = R"({"type": "object"})";
constexpr double kMaxPenalty = 2;
constexpr double kMaxRepetitionPenalty = 10;
constexpr double kMaxBias = 100;
constexpr size_t kMaxBiases = 1024;
constexpr int64_t kMaxAnswers = 16;

class ToolsReader {
 public:
  ToolsReader(JsonFields& fields, FieldProblems& problems, ApiRequest& request)
      : fields_(fields), problems_(problems), rules_(request.rules), request_(request) {}

  void read() && {
    if (const JsonValue* list = fields_.array("tools")) {
      for (size_t i = 0; i < list->items.size(); ++i) add_tool(list->items[i], fmt::format("tools[{}]", i));
    }
    rules_.parallel_calls = fields_.boolean("parallel_tool_calls").value_or(true);
    if (const JsonValue* choice = fields_.find("tool_choice")) read_choice(*choice);
    if (definitions_.empty()) rules_.parallel_calls = true;
    define_tools(std::move(definitions_), request_.conversation.messages);
  }

 private:
  void add_tool(const JsonValue& tool, const std::string& key) {
    if (tool.kind != Kind::kObject) return fields_.wrong_type(key, "an object", tool);
    JsonFields fields(tool, fields_.path(key), problems_);
    const std::string type = fields.string("type").value_or("function");
    if (type != "function") return fields.problem("type", fmt::format("expected 'function', found '{}'", type));
    const JsonValue* function = fields.object("function");
    if (function == nullptr) {
      if (fields.find("function") == nullptr) fields.problem("function", "missing");
      return;
    }
    JsonFields definition(*function, fields.path("function"), problems_);
    ToolSignature signature{.name = definition.string("name").value_or("")};
    if (signature.name.empty()) definition.problem("name", "missing");
    signature.strict = definition.boolean("strict").value_or(false);
    if (const JsonValue* parameters = definition.find("parameters")) signature.parameters = dump_json(*parameters);
    check_strict_tool(signature, "parameters", definition);
    definitions_.push_back(dump_json(*function));
    rules_.tools.push_back(std::move(signature));
  }

  void read_choice(const JsonValue& choice) {
    if (choice.kind == Kind::kObject) return read_choice_object(choice);
    if (choice.kind != Kind::kString) return fields_.wrong_type("tool_choice", "a string or an object", choice);
    read_mode(choice.text, "tool_choice", true);
  }

  void read_mode(const std::string& mode, std::string_view key, bool with_none) {
    if (mode == "auto") return;
    if (mode == "none" && with_none) {
      definitions_.clear();
      rules_.tools.clear();
    } else if (mode == "required" || (mode == "any" && with_none)) {
      if (rules_.tools.empty()) fields_.problem(key, "a call is required, but there are no tools");
      rules_.tool_use = ToolUse::kRequired;
    } else {
      fields_.problem(key, fmt::format("expected auto, {}required, or an object that names a function, found '{}'",
                                       with_none ? "none, " : "", mode));
    }
  }

  void read_choice_object(const JsonValue& choice) {
    JsonFields fields = fields_.child("tool_choice", choice);
    const std::string type = fields.string("type").value_or("function");
    if (type == "function") {
      rules_.tool_use = ToolUse::kNamed;
      rules_.tool_name = named_tool(fields);
    } else if (type == "allowed_tools") {
      const JsonValue* nested = fields.object("allowed_tools");
      JsonFields allowed = nested != nullptr ? fields.child("allowed_tools", *nested) : fields;
      allow(allowed);
    } else {
      fields.problem("type", fmt::format("expected 'function' or 'allowed_tools', found '{}'", type));
    }
  }

  // The name in {"function": {"name"}}, or beside the type.
  std::string named_tool(JsonFields& fields) {
    const JsonValue* function = fields.object("function");
    JsonFields holder = function != nullptr ? fields.child("function", *function) : fields;
    const std::string name = holder.string("name").value_or("");
    const bool is_known = std::ranges::find(rules_.tools, name, &ToolSignature::name) != rules_.tools.end();
    if (name.empty()) {
      holder.problem("name", "missing");
    } else if (!is_known) {
      holder.problem("name", fmt::format("'{}' is none of the tools", name));
    }
    return name;
  }

  // The prompt shows all tools all the same: it stays the same, and so does what is remembered of it.
  void allow(JsonFields& allowed) {
    std::vector<std::string> names;
    if (const JsonValue* list = allowed.array("tools")) {
      for (size_t i = 0; i < list->items.size(); ++i) {
        const std::string key = fmt::format("tools[{}]", i);
        if (list->items[i].kind != Kind::kObject) {
          allowed.wrong_type(key, "an object", list->items[i]);
          continue;
        }
        JsonFields tool(list->items[i], allowed.path(key), problems_);
        names.push_back(named_tool(tool));
      }
    }
    if (names.empty()) allowed.problem("tools", "at least one tool is needed");
    std::erase_if(rules_.tools,
                  [&](const ToolSignature& tool) { return std::ranges::find(names, tool.name) == names.end(); });
    read_mode(allowed.string("mode").value_or("auto"), "tool_choice", false);
  }

  JsonFields& fields_;
  FieldProblems& problems_;
  OutputRules& rules_;
  ApiRequest& request_;
  std::vector<std::string> definitions_;
};

}  // namespace

void read_tools(JsonFields& fields, FieldProblems& problems, ApiRequest& request) {
  ToolsReader(fields, problems, request).read();
}

void check_strict_tool(const ToolSignature& tool, std::string_view key, JsonFields& fields) {
  if (!tool.strict || tool.parameters.empty()) return;
  const Result<void> checked = check_parameters_schema(tool.parameters);
  if (!checked.ok()) fields.problem(key, checked.error().message);
}

int32_t read_n(JsonFields& fields) { return static_cast<int32_t>(fields.integer("n", 1, kMaxAnswers).value_or(1)); }

void bind_answer_to_object(ApiRequest& request) { request.rules.json_schema = kAnyObject; }

void bind_answer(const JsonValue& schema, std::string_view param, FieldProblems& problems, ApiRequest& request) {
  std::string text = dump_json(schema);
  if (const Result<void> checked = check_answer_schema(text); !checked.ok()) {
    problems.push_back({std::string(param), checked.error().message});
    return;
  }
  request.rules.json_schema = text;
  system_message(request.conversation.messages).response_format = std::move(text);
}

void read_response_format(JsonFields& fields, FieldProblems& problems, ApiRequest& request) {
  const JsonValue* format = fields.object("response_format");
  if (format == nullptr) return;
  JsonFields format_fields = fields.child("response_format", *format);
  const std::string type = format_fields.string("type").value_or("text");
  if (type == "json_object") {
    bind_answer_to_object(request);
  } else if (type == "json_schema") {
    const JsonValue* definition = format_fields.object("json_schema");
    if (definition == nullptr) {
      if (format_fields.find("json_schema") == nullptr) format_fields.problem("json_schema", "missing");
      return;
    }
    JsonFields definition_fields = format_fields.child("json_schema", *definition);
    const JsonValue* schema = definition_fields.find("schema");
    if (schema == nullptr) return definition_fields.problem("schema", "missing");
    bind_answer(*schema, definition_fields.path("schema"), problems, request);
  } else if (type != "text") {
    format_fields.problem("type", fmt::format("expected text, json_object or json_schema, found '{}'", type));
  }
}

void read_penalties(JsonFields& fields, FieldProblems& problems, SamplingParams& sampling) {
  const auto number = [&fields](std::string_view key, double least, double most, float& value) {
    value = static_cast<float>(fields.number(key, least, most).value_or(value));
  };
  number("presence_penalty", -kMaxPenalty, kMaxPenalty, sampling.presence_penalty);
  number("frequency_penalty", -kMaxPenalty, kMaxPenalty, sampling.frequency_penalty);
  number("repetition_penalty", 1 / kMaxRepetitionPenalty, kMaxRepetitionPenalty, sampling.repetition_penalty);
  const JsonValue* biases = fields.object("logit_bias");
  if (biases == nullptr) return;
  if (biases->members.size() > kMaxBiases) {
    return fields.problem("logit_bias", fmt::format("at most {} tokens are supported", kMaxBiases));
  }
  JsonFields values(*biases, fields.path("logit_bias"), problems);
  for (const JsonMember& member : biases->members) {
    TokenBias bias;
    const char* end = member.key.data() + member.key.size();
    const auto [stop, error] = std::from_chars(member.key.data(), end, bias.token);
    if (error != std::errc() || stop != end || bias.token < 0) {
      values.problem(member.key, "expected the id of a token");
    } else if (const auto value = values.number(member.key, -kMaxBias, kMaxBias)) {
      bias.value = static_cast<float>(*value);
      sampling.logit_bias.push_back(bias);
    }
  }
}

void read_thinking_budget(JsonFields& fields, FieldProblems& problems, OutputRules& rules) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  std::optional<int64_t> budget = fields.integer("thinking_budget", -1, kMost);
  if (const JsonValue* thinking = fields.find("thinking"); thinking != nullptr && thinking->kind == Kind::kObject) {
    JsonFields object(*thinking, fields.path("thinking"), problems);
    if (const auto tokens = object.integer("budget_tokens", 0, kMost)) budget = tokens;
  }
  // -1 is another way to say none.
  if (budget && *budget >= 0) {
    rules.max_reasoning_tokens = static_cast<int32_t>(std::min<int64_t>(*budget, kUnlimitedTokens));
  }
}

}  // namespace ds4
