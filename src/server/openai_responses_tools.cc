#include "server/openai_responses_tools.h"

#include <algorithm>
#include <array>
#include <utility>

#include "server/json_values.h"
#include "server/openai_rules.h"

namespace ds4 {
namespace {

// Of a function: for the server, not for the model.
constexpr std::array<std::string_view, 6> kNotShown{"type",          "defer_loading", "async", "allowed_callers",
                                                    "output_schema", "execution"};

JsonValue input_schema(std::string description) {
  JsonValue input = json_object({{"type", json_text("string")}, {"description", json_text(std::move(description))}});
  return json_object({{"type", json_text("object")},
                      {"properties", json_object({{std::string(kCustomInput), std::move(input)}})},
                      {"required", json_array({json_text(std::string(kCustomInput))})},
                      {"additionalProperties", json_scalar("false")}});
}

}  // namespace

std::vector<ToolDefinition> ResponsesTools::add(const JsonValue& list, const std::string& path,
                                                FieldProblems& problems) {
  for (size_t i = 0; i < list.items.size(); ++i) {
    const std::string place = fmt::format("{}[{}]", path, i);
    const JsonValue& tool = list.items[i];
    if (tool.kind == JsonValue::Kind::kObject) {
      add_tool(JsonFields(tool, place, problems), tool, "");
    } else {
      problems.push_back({place, fmt::format("expected an object, found {}", json_kind_name(tool))});
    }
  }
  return std::exchange(added_, {});
}

const ResponsesTool* ResponsesTools::find(std::string_view name) const {
  const auto found = by_name_.find(std::string(name));
  return found == by_name_.end() ? nullptr : &found->second;
}

std::string ResponsesTools::name_of(const ResponsesTool& as_called) const {
  for (const ToolSignature& signature : signatures_) {
    const ResponsesTool& tool = *find(signature.name);
    const bool matches = tool.kind == as_called.kind && tool.name == as_called.name &&
                         (as_called.name_space.empty() || tool.name_space == as_called.name_space);
    if (matches) return signature.name;
  }
  return {};
}

void ResponsesTools::add_tool(JsonFields fields, const JsonValue& tool, const std::string& name_space) {
  const std::string type = fields.string("type").value_or("");
  ResponsesTool as_called{.name = fields.string("name").value_or(""), .name_space = name_space};
  if (type == kToolSearchName) {
    if (fields.string("execution") != "client") return;
    as_called = {.kind = ResponsesToolKind::kToolSearch, .name = std::string(kToolSearchName)};
    return add_function(fields, tool, as_called);
  }
  if (type.empty()) return fields.problem("type", "missing");
  if (type != "function" && type != "custom" && type != "namespace") return;  // one that we cannot run
  if (as_called.name.empty()) return fields.problem("name", "missing");
  if (type == "function") return add_function(fields, tool, as_called);
  if (type == "custom") return add_custom(fields, as_called);
  const JsonValue* tools = fields.array("tools");
  if (tools == nullptr || !name_space.empty()) {
    return fields.problem("tools", name_space.empty() ? "missing" : "namespaces cannot be nested");
  }
  for (size_t i = 0; i < tools->items.size(); ++i) {
    const std::string key = fmt::format("tools[{}]", i);
    if (tools->items[i].kind != JsonValue::Kind::kObject) {
      fields.wrong_type(key, "an object", tools->items[i]);
    } else {
      add_tool(fields.child(key, tools->items[i]), tools->items[i], as_called.name);
    }
  }
}

void ResponsesTools::add_function(JsonFields& fields, const JsonValue& tool, const ResponsesTool& as_called) {
  const std::string name = as_called.name_space + as_called.name;
  JsonValue shown = json_object({});
  if (fields.find("name") == nullptr) shown.members.push_back({"name", json_text(name)});
  for (const JsonMember& member : tool.members) {
    if (std::ranges::find(kNotShown, member.key) != kNotShown.end() || is_json_null(member.value)) continue;
    shown.members.push_back(member.key == "name" ? JsonMember{"name", json_text(name)} : member);
  }
  const JsonValue* parameters = fields.object("parameters");
  ToolSignature signature{.name = name,
                          .parameters = parameters != nullptr ? dump_json(*parameters) : "{}",
                          .strict = fields.boolean("strict").value_or(false)};
  check_strict_tool(signature, "parameters", fields);
  define(as_called, std::move(signature), shown);
}

void ResponsesTools::add_custom(JsonFields& fields, const ResponsesTool& as_called) {
  const std::string name = as_called.name_space + as_called.name;
  std::string input = "The whole input of the tool, as raw text";
  if (const JsonValue* format = fields.object("format")) {
    JsonFields syntax = fields.child("format", *format);
    if (syntax.string("type") == "grammar") {
      input += fmt::format(". It must match this {} grammar:\n{}", syntax.string("syntax").value_or(""),
                           syntax.string("definition").value_or(""));
    }
  }
  const JsonValue parameters = input_schema(std::move(input));
  JsonValue shown = json_object({{"name", json_text(name)}});
  if (auto description = fields.string("description")) {
    shown.members.push_back({"description", json_text(*std::move(description))});
  }
  shown.members.push_back({"parameters", parameters});
  ResponsesTool custom = as_called;
  custom.kind = ResponsesToolKind::kCustom;
  define(custom, {.name = name, .parameters = dump_json(parameters)}, shown);
}

void ResponsesTools::define(const ResponsesTool& as_called, ToolSignature signature, const JsonValue& definition) {
  if (!by_name_.emplace(signature.name, as_called).second) return;  // known from an earlier place
  added_.push_back({.name = signature.name, .json = dump_json(definition)});
  signatures_.push_back(std::move(signature));
}

}  // namespace ds4
