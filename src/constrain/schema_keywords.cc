#include "constrain/schema_keywords.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <utility>
#include <vector>

namespace ds4 {
namespace {

constexpr int kMaxMergeDepth = 32;

constexpr std::array<std::string_view, 26> kSupported{"type",
                                                      "properties",
                                                      "required",
                                                      "additionalProperties",
                                                      "propertyNames",
                                                      "items",
                                                      "prefixItems",
                                                      "minItems",
                                                      "maxItems",
                                                      "enum",
                                                      "const",
                                                      "anyOf",
                                                      "oneOf",
                                                      "allOf",
                                                      "$ref",
                                                      "$defs",
                                                      "definitions",
                                                      "minLength",
                                                      "maxLength",
                                                      "pattern",
                                                      "format",
                                                      "minimum",
                                                      "maximum",
                                                      "exclusiveMinimum",
                                                      "exclusiveMaximum",
                                                      "nullable"};
constexpr std::array<std::string_view, 16> kAnnotations{
    "$schema",     "$id",       "$comment",        "$anchor",          "title",
    "description", "default",   "example",         "examples",         "deprecated",
    "readOnly",    "writeOnly", "contentEncoding", "contentMediaType", "markdownDescription",
    "strict"};

bool is_schema_object(const JsonValue& value) { return value.kind == JsonValue::Kind::kObject; }

bool equal(const JsonValue& a, const JsonValue& b) { return dump_json(a) == dump_json(b); }

std::optional<double> number_of(const JsonValue& value) {
  double number = 0;
  const auto [end, error] = std::from_chars(value.text.data(), value.text.data() + value.text.size(), number);
  if (value.kind != JsonValue::Kind::kScalar || error != std::errc()) return std::nullopt;
  return number;
}

std::vector<JsonValue> as_list(const JsonValue& value) {
  if (value.kind == JsonValue::Kind::kArray) return value.items;
  return {value};
}

// The items that both have; an integer is a number, too.
JsonValue common_items(const JsonValue& a, const JsonValue& b, bool are_types) {
  const std::vector<JsonValue> first = as_list(a), second = as_list(b);
  JsonValue common;
  common.kind = JsonValue::Kind::kArray;
  const auto has = [](const std::vector<JsonValue>& list, const JsonValue& wanted) {
    return std::ranges::any_of(list, [&](const JsonValue& item) { return equal(item, wanted); });
  };
  JsonValue number;
  number.kind = JsonValue::Kind::kString;
  number.text = "number";
  for (const auto& [from, other] : {std::pair(&first, &second), std::pair(&second, &first)}) {
    for (const JsonValue& item : *from) {
      const bool fits = has(*other, item) || (are_types && item.text == "integer" && has(*other, number));
      if (fits && !has(common.items, item)) common.items.push_back(item);
    }
  }
  return common;
}

class Merger {
 public:
  Merger(const std::string& path, int depth) : path_(path), depth_(depth) {}

  Result<JsonValue> merge(std::string_view keyword, const JsonValue& a, const JsonValue& b) const {
    if (equal(a, b)) return a;
    if (keyword == "type") return common_items(a, b, true);
    if (keyword == "enum") return common_items(a, b, false);
    if (keyword == "required") return all_items(a, b);
    if (keyword == "properties") return merge_properties(a, b);
    if (keyword == "items" || keyword == "additionalProperties") return merge_schemas(a, b, path_, depth_ + 1);
    if (keyword.starts_with("min") || keyword == "exclusiveMinimum") return stricter(keyword, a, b, true);
    if (keyword.starts_with("max") || keyword == "exclusiveMaximum") return stricter(keyword, a, b, false);
    return unjoined(keyword);
  }

 private:
  Error unjoined(std::string_view keyword) const {
    return make_error(ErrorCode::kUnsupported,
                      "{}: '{}' with two different values that must both hold is not supported", path_, keyword);
  }

  static JsonValue all_items(const JsonValue& a, const JsonValue& b) {
    JsonValue all = a;
    for (const JsonValue& item : b.items) {
      const bool known = std::ranges::any_of(a.items, [&](const JsonValue& other) { return equal(item, other); });
      if (!known) all.items.push_back(item);
    }
    return all;
  }

  Result<JsonValue> merge_properties(const JsonValue& a, const JsonValue& b) const {
    JsonValue all = a;
    for (const JsonMember& member : b.members) {
      const auto known =
          std::ranges::find_if(all.members, [&](const JsonMember& other) { return other.key == member.key; });
      if (known == all.members.end()) {
        all.members.push_back(member);
      } else {
        known->value = TRY(merge_schemas(known->value, member.value, path_ + "/properties/" + member.key, depth_ + 1));
      }
    }
    return all;
  }

  Result<JsonValue> stricter(std::string_view keyword, const JsonValue& a, const JsonValue& b, bool larger) const {
    const std::optional<double> first = number_of(a), second = number_of(b);
    if (!first || !second) return unjoined(keyword);
    return (*first > *second) == larger ? a : b;
  }

  const std::string& path_;
  int depth_;
};

// A keyword about all other properties or items means those that its own schema does not name.
Result<void> check_extent(const JsonValue& schema, const JsonValue& other, const std::string& path) {
  const JsonValue* more = find_keyword(schema, "additionalProperties");
  const JsonValue* others = find_keyword(other, "properties");
  if (more != nullptr && others != nullptr && !is_json_literal(*more, "true")) {
    const JsonValue* own = find_keyword(schema, "properties");
    for (const JsonMember& member : others->members) {
      if (own != nullptr && find_keyword(*own, member.key) != nullptr) continue;
      return make_error(ErrorCode::kUnsupported,
                        "{}: 'additionalProperties' beside another schema that has the property '{}' is not supported",
                        path, member.key);
    }
  }
  const bool mixes_items = find_keyword(schema, "items") != nullptr && find_keyword(schema, "prefixItems") == nullptr &&
                           find_keyword(other, "prefixItems") != nullptr;
  if (!mixes_items) return {};
  return make_error(ErrorCode::kUnsupported, "{}: 'items' beside another schema with 'prefixItems' is not supported",
                    path);
}

}  // namespace

const JsonValue* find_keyword(const JsonValue& schema, std::string_view keyword) {
  const auto found =
      std::ranges::find_if(schema.members, [keyword](const JsonMember& member) { return member.key == keyword; });
  return found == schema.members.end() ? nullptr : &found->value;
}

bool is_json_literal(const JsonValue& value, std::string_view text) {
  return value.kind == JsonValue::Kind::kScalar && value.text == text;
}

bool is_annotation(std::string_view keyword) {
  return keyword.starts_with("x-") || std::ranges::find(kAnnotations, keyword) != kAnnotations.end();
}

bool binds(const JsonValue& schema) {
  return std::ranges::any_of(schema.members, [](const JsonMember& member) {
    return !is_annotation(member.key) && member.key != "$defs" && member.key != "definitions";
  });
}

Result<void> check_keywords(const JsonValue& schema, const std::string& path) {
  for (const JsonMember& member : schema.members) {
    if (is_annotation(member.key) || std::ranges::find(kSupported, member.key) != kSupported.end()) continue;
    // What changes nothing.
    const bool is_idle =
        (member.key == "uniqueItems" && is_json_literal(member.value, "false")) ||
        ((member.key == "minProperties" || member.key == "minContains") && is_json_literal(member.value, "0")) ||
        (member.key == "patternProperties" && member.value.members.empty());
    if (is_idle) continue;
    return make_error(ErrorCode::kUnsupported, "{}: the keyword '{}' is not supported", path, member.key);
  }
  return {};
}

JsonValue without_keyword(const JsonValue& schema, std::string_view keyword) {
  JsonValue rest = schema;
  std::erase_if(rest.members, [keyword](const JsonMember& member) { return member.key == keyword; });
  return rest;
}

Result<JsonValue> merge_schemas(const JsonValue& a, const JsonValue& b, const std::string& path, int depth) {
  if (depth > kMaxMergeDepth) {
    return make_error(ErrorCode::kUnsupported, "{}: schemas that must all hold are nested too deeply", path);
  }
  if (is_json_literal(a, "true") || is_json_literal(b, "false")) return b;
  if (is_json_literal(b, "true") || is_json_literal(a, "false")) return a;
  if (!is_schema_object(a) || !is_schema_object(b)) {
    return make_error(ErrorCode::kInvalidArgument, "{}: expected a schema: an object, true or false", path);
  }
  TRY(check_extent(a, b, path));
  TRY(check_extent(b, a, path));
  JsonValue merged = a;
  for (const JsonMember& member : b.members) {
    if (is_annotation(member.key)) continue;
    const auto known =
        std::ranges::find_if(merged.members, [&](const JsonMember& other) { return other.key == member.key; });
    if (known == merged.members.end()) {
      merged.members.push_back(member);
    } else {
      known->value = TRY(Merger(path, depth).merge(member.key, known->value, member.value));
    }
  }
  return merged;
}

}  // namespace ds4
