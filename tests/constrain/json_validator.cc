#include "constrain/json_validator.h"

#include <cmath>
#include <regex>

namespace ds4::test {
namespace {

using Json = nlohmann::ordered_json;

size_t n_characters(const std::string& text) {
  size_t n = 0;
  for (const char c : text) n += (static_cast<unsigned char>(c) & 0xC0U) != 0x80U ? 1 : 0;
  return n;
}

bool has_type(const std::string& type, const Json& value) {
  if (type == "integer") {
    return value.is_number_integer() ||
           (value.is_number_float() && value.get<double>() == std::floor(value.get<double>()));
  }
  if (type == "number") return value.is_number();
  if (type == "string") return value.is_string();
  if (type == "boolean") return value.is_boolean();
  if (type == "null") return value.is_null();
  if (type == "array") return value.is_array();
  return value.is_object();
}

std::string check_type(const Json& schema, const Json& value) {
  if (!schema.contains("type")) return {};
  const bool nullable = schema.contains("nullable") && schema["nullable"] == true;
  if (nullable && value.is_null()) return {};
  const Json types = schema["type"].is_array() ? schema["type"] : Json::array({schema["type"]});
  for (const Json& type : types) {
    if (has_type(type, value)) return {};
  }
  return "type";
}

std::string check_scalars(const Json& schema, const Json& value) {
  if (value.is_string()) {
    const std::string text = value.get<std::string>();
    if (schema.contains("minLength") && n_characters(text) < schema["minLength"]) return "minLength";
    if (schema.contains("maxLength") && n_characters(text) > schema["maxLength"]) return "maxLength";
    if (schema.contains("pattern") && !std::regex_search(text, std::regex(schema["pattern"].get<std::string>())))
      return "pattern";
  }
  if (value.is_number()) {
    const double number = value.get<double>();
    if (schema.contains("minimum") && number < schema["minimum"].get<double>()) return "minimum";
    if (schema.contains("maximum") && number > schema["maximum"].get<double>()) return "maximum";
    if (schema.contains("exclusiveMinimum") && number <= schema["exclusiveMinimum"].get<double>())
      return "exclusiveMinimum";
    if (schema.contains("exclusiveMaximum") && number >= schema["exclusiveMaximum"].get<double>())
      return "exclusiveMaximum";
  }
  return {};
}

std::string check_object(const Json& schema, const Json& value, const Json& root) {
  for (const Json& name : schema.value("required", Json::array())) {
    if (!value.contains(name)) return "required " + name.get<std::string>();
  }
  const Json properties = schema.value("properties", Json::object());
  for (const auto& [key, member] : value.items()) {
    const bool is_known = properties.contains(key);
    if (!is_known && !schema.contains("additionalProperties")) continue;
    const std::string problem =
        schema_violation(is_known ? properties[key] : schema["additionalProperties"], member, root);
    if (!problem.empty()) return key + "/" + problem;
  }
  return {};
}

std::string check_array(const Json& schema, const Json& value, const Json& root) {
  if (schema.contains("minItems") && value.size() < schema["minItems"]) return "minItems";
  if (schema.contains("maxItems") && value.size() > schema["maxItems"]) return "maxItems";
  const Json prefix = schema.value("prefixItems", Json::array());
  for (size_t i = 0; i < value.size(); ++i) {
    if (i >= prefix.size() && !schema.contains("items")) continue;
    const std::string problem = schema_violation(i < prefix.size() ? prefix[i] : schema["items"], value[i], root);
    if (!problem.empty()) return std::to_string(i) + "/" + problem;
  }
  return {};
}

std::string check_combined(const Json& schema, const Json& value, const Json& root) {
  for (const char* keyword : {"anyOf", "oneOf"}) {
    if (!schema.contains(keyword)) continue;
    bool fits = false;
    for (const Json& branch : schema[keyword]) fits = fits || schema_violation(branch, value, root).empty();
    if (!fits) return keyword;
  }
  for (const Json& branch : schema.value("allOf", Json::array())) {
    if (const std::string problem = schema_violation(branch, value, root); !problem.empty()) return "allOf/" + problem;
  }
  if (!schema.contains("$ref")) return {};
  const std::string reference = schema["$ref"].get<std::string>().substr(1);
  return schema_violation(root.at(Json::json_pointer(reference)), value, root);
}

}  // namespace

std::string schema_violation(const Json& schema, const Json& value, const Json& root) {
  if (schema.is_boolean()) return schema.get<bool>() ? "" : "false";
  std::string problem = check_type(schema, value);
  if (problem.empty()) problem = check_scalars(schema, value);
  if (problem.empty() && value.is_object()) problem = check_object(schema, value, root);
  if (problem.empty() && value.is_array()) problem = check_array(schema, value, root);
  if (problem.empty()) problem = check_combined(schema, value, root);
  if (problem.empty() && schema.contains("const") && schema["const"] != value) problem = "const";
  if (problem.empty() && schema.contains("enum")) {
    bool known = false;
    for (const Json& item : schema["enum"]) known = known || item == value;
    if (!known) problem = "enum";
  }
  return problem;
}

}  // namespace ds4::test
