#include "constrain/json_schema.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <set>

#include "base/utf8.h"
#include "constrain/regex.h"
#include "constrain/schema_keywords.h"
#include "constrain/string_formats.h"

namespace ds4 {
namespace {

constexpr int kMaxSchemaDepth = 100;
constexpr uint32_t kMaxLength = 20'000;

using Kind = JsonValue::Kind;

Error wrong(const std::string& path, std::string_view keyword, std::string_view expected) {
  return make_error(ErrorCode::kInvalidArgument, "{}: '{}' must be {}", path, keyword, expected);
}

std::string_view type_of(const JsonValue& value) {
  switch (value.kind) {
    case Kind::kString: return "string";
    case Kind::kArray: return "array";
    case Kind::kObject: return "object";
    case Kind::kScalar: break;
  }
  if (value.text == "true" || value.text == "false") return "boolean";
  if (value.text == "null") return "null";
  return value.text.find_first_of(".eE") == std::string::npos ? "integer" : "number";
}

bool has_any(const JsonValue& schema, std::initializer_list<const char*> keywords) {
  return std::ranges::any_of(keywords, [&](const char* keyword) { return find_keyword(schema, keyword) != nullptr; });
}

// Of a schema without "type": what its other keywords are about.
std::vector<std::string> implied_types(const JsonValue& schema) {
  std::vector<std::string> types;
  if (has_any(schema, {"properties", "required", "additionalProperties", "propertyNames"}))
    types.emplace_back("object");
  if (has_any(schema, {"items", "prefixItems", "minItems", "maxItems"})) types.emplace_back("array");
  if (has_any(schema, {"minLength", "maxLength", "pattern", "format"})) types.emplace_back("string");
  if (has_any(schema, {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"})) types.emplace_back("number");
  if (types.empty()) types = {"string", "number", "boolean", "object", "array", "null"};
  return types;
}

}  // namespace

Result<void> JsonSchemaBuilder::add_root(GrammarState from, GrammarState to, ValueForm form) {
  TRY(add(root_, "#", {from, to, form}));
  return add_pending_rules();
}

Result<void> JsonSchemaBuilder::add_pending_rules() {
  while (!pending_.empty()) {
    const Rule rule = std::move(pending_.front());
    pending_.pop_front();
    TRY(add(*rule.schema, rule.path, {rule.start, rule.end, rule.form}));
  }
  return {};
}

GrammarState JsonSchemaBuilder::rule_of(const JsonValue& schema, const std::string& path, ValueForm form) {
  const auto [found, is_new] = rules_.try_emplace({&schema, form}, 0);
  if (is_new) {
    found->second = grammar_.add_state(form == ValueForm::kRawString);
    const GrammarState end = grammar_.add_state();
    grammar_.set_end(end);
    pending_.push_back({&schema, path, form, found->second, end});
  }
  return found->second;
}

Result<const JsonValue*> JsonSchemaBuilder::resolve(const std::string& reference, const std::string& path) const {
  if (!reference.starts_with('#')) {
    return make_error(ErrorCode::kUnsupported,
                      "{}: '$ref' to '{}': only references into the schema itself (#/...) are supported", path,
                      reference);
  }
  const JsonValue* at = &root_;
  std::string_view rest = std::string_view(reference).substr(1);
  while (!rest.empty()) {
    if (rest.front() != '/') break;
    rest.remove_prefix(1);
    std::string key(rest.substr(0, rest.find('/')));
    rest.remove_prefix(key.size());
    for (const auto& [code, character] : {std::pair("~1", "/"), std::pair("~0", "~")}) {
      for (size_t i = key.find(code); i != std::string::npos; i = key.find(code, i + 1)) key.replace(i, 2, character);
    }
    if (at->kind == Kind::kArray) {
      size_t index = at->items.size();
      std::from_chars(key.data(), key.data() + key.size(), index);
      at = index < at->items.size() ? &at->items[index] : nullptr;
    } else {
      at = find_keyword(*at, key);
    }
    if (at == nullptr) break;
  }
  if (at != nullptr && rest.empty()) return at;
  return make_error(ErrorCode::kInvalidArgument, "{}: '$ref' to '{}', which does not exist", path, reference);
}

Result<void> JsonSchemaBuilder::add(const JsonValue& schema, const std::string& path, const Place& place) {
  if (grammar_.is_too_large()) return make_error(ErrorCode::kUnsupported, "{}: the schema is too large", path);
  if (is_json_literal(schema, "false")) return {};
  const bool is_any = is_json_literal(schema, "true") || (schema.kind == Kind::kObject && !binds(schema));
  if (is_any) {
    switch (place.form) {
      case ValueForm::kJson: json_.add_any(place.from, place.to); return {};
      case ValueForm::kJsonNoStrings: json_.add_any_but_string(place.from, place.to); return {};
      case ValueForm::kRawString: json_.add_text(place.from, place.to, {}, CharacterForm::kRaw); return {};
    }
  }
  if (schema.kind != Kind::kObject) {
    return make_error(ErrorCode::kInvalidArgument, "{}: expected a schema: an object, true or false", path);
  }
  if (depth_ > kMaxSchemaDepth) return make_error(ErrorCode::kUnsupported, "{}: the schema is nested too deeply", path);
  TRY(check_keywords(schema, path));
  ++depth_;
  const Result<bool> combined = add_combined(schema, path, place);
  Result<void> result;
  if (!combined.ok()) {
    result = combined.error();
  } else if (!combined.value()) {
    result = add_values(schema, path, place);
  }
  --depth_;
  return result;
}

// Schemas made of others. False: this is none.
Result<bool> JsonSchemaBuilder::add_combined(const JsonValue& schema, const std::string& path, const Place& place) {
  if (find_keyword(schema, "$ref") != nullptr) {
    TRY(add_reference(schema, path, place));
    return true;
  }
  if (const JsonValue* all = find_keyword(schema, "allOf"); all != nullptr) {
    if (all->kind != Kind::kArray) return wrong(path, "allOf", "an array of schemas");
    JsonValue merged = without_keyword(schema, "allOf");
    for (size_t i = 0; i < all->items.size(); ++i) {
      JsonValue part = all->items[i];
      const std::string part_path = fmt::format("{}/allOf/{}", path, i);
      for (int n = 0; part.kind == Kind::kObject && find_keyword(part, "$ref") != nullptr; ++n) {
        const JsonValue& reference = *find_keyword(part, "$ref");
        if (n > kMaxSchemaDepth) return make_error(ErrorCode::kUnsupported, "{}: '$ref' refers to itself", part_path);
        const JsonValue& target = *TRY(resolve(reference.text, part_path));
        part = TRY(merge_schemas(target, without_keyword(part, "$ref"), part_path));
      }
      merged = TRY(merge_schemas(merged, part, part_path));
    }
    TRY(add(keep(std::move(merged)), path, place));
    return true;
  }
  for (const char* keyword : {"anyOf", "oneOf"}) {
    if (find_keyword(schema, keyword) == nullptr) continue;
    TRY(add_branches(schema, keyword, path, place));
    return true;
  }
  return false;
}

Result<void> JsonSchemaBuilder::add_reference(const JsonValue& schema, const std::string& path, const Place& place) {
  const JsonValue& reference = *find_keyword(schema, "$ref");
  if (reference.kind != Kind::kString) return wrong(path, "$ref", "a string");
  const JsonValue& target = *TRY(resolve(reference.text, path));
  const JsonValue siblings = without_keyword(schema, "$ref");
  if (binds(siblings)) {
    JsonValue merged = TRY(merge_schemas(target, siblings, path));
    return add(keep(std::move(merged)), path, place);
  }
  grammar_.add_call(place.from, rule_of(target, reference.text, place.form), place.to);
  return {};
}

Result<void> JsonSchemaBuilder::add_branches(const JsonValue& schema, const char* keyword, const std::string& path,
                                             const Place& place) {
  const JsonValue& branches = *find_keyword(schema, keyword);
  if (branches.kind != Kind::kArray || branches.items.empty()) return wrong(path, keyword, "an array of schemas");
  JsonValue common = without_keyword(schema, keyword);
  for (const char* definitions : {"$defs", "definitions"}) common = without_keyword(common, definitions);
  for (size_t i = 0; i < branches.items.size(); ++i) {
    const JsonValue& branch = branches.items[i];
    const std::string branch_path = fmt::format("{}/{}/{}", path, keyword, i);
    if (!binds(common)) {
      TRY(add(branch, branch_path, place));
      continue;
    }
    JsonValue both = branch;
    for (int n = 0; both.kind == Kind::kObject && find_keyword(both, "$ref") != nullptr; ++n) {
      if (n > kMaxSchemaDepth) return make_error(ErrorCode::kUnsupported, "{}: '$ref' refers to itself", branch_path);
      const JsonValue& target = *TRY(resolve(find_keyword(both, "$ref")->text, branch_path));
      both = TRY(merge_schemas(target, without_keyword(both, "$ref"), branch_path));
    }
    JsonValue merged = TRY(merge_schemas(common, both, branch_path));
    TRY(add(keep(std::move(merged)), branch_path, place));
  }
  return {};
}

Result<std::vector<std::string>> JsonSchemaBuilder::types_of(const JsonValue& schema, const std::string& path) const {
  static const std::set<std::string> kTypes{"string", "number", "integer", "boolean", "object", "array", "null"};
  std::vector<std::string> types;
  if (const JsonValue* type = find_keyword(schema, "type"); type == nullptr) {
    types = implied_types(schema);
  } else {
    for (const JsonValue& item : type->kind == Kind::kArray ? type->items : std::vector<JsonValue>{*type}) {
      if (item.kind != Kind::kString || !kTypes.contains(item.text)) {
        return wrong(path, "type", "of string, number, integer, boolean, object, array, null");
      }
      types.push_back(item.text);
    }
  }
  if (const JsonValue* nullable = find_keyword(schema, "nullable");
      nullable != nullptr && is_json_literal(*nullable, "true")) {
    types.emplace_back("null");
  }
  const bool has_number = std::ranges::find(types, "number") != types.end();
  if (has_number) std::erase(types, "integer");
  std::ranges::sort(types);
  const auto repeated = std::ranges::unique(types);
  types.erase(repeated.begin(), repeated.end());
  return types;
}

Result<void> JsonSchemaBuilder::add_values(const JsonValue& schema, const std::string& path, const Place& place) {
  const JsonValue* list = find_keyword(schema, "enum");
  const JsonValue* constant = find_keyword(schema, "const");
  if (list == nullptr && constant == nullptr) {
    const std::vector<std::string> types = TRY(types_of(schema, path));
    for (const std::string& type : types) TRY(add_type(schema, type, path, place));
    return {};
  }
  for (const JsonMember& member : schema.members) {
    const bool fits = member.key == "enum" || member.key == "const" || member.key == "type" ||
                      member.key == "nullable" || member.key == "$defs" || member.key == "definitions" ||
                      is_annotation(member.key);
    if (!fits)
      return make_error(ErrorCode::kUnsupported, "{}: '{}' beside 'enum' or 'const' is not supported", path,
                        member.key);
  }
  if (list != nullptr && list->kind != Kind::kArray) return wrong(path, "enum", "an array");
  const std::vector<std::string> types =
      find_keyword(schema, "type") != nullptr ? TRY(types_of(schema, path)) : std::vector<std::string>{};
  const auto fits_type = [&](const JsonValue& value) {
    const std::string_view type = type_of(value);
    const auto has = [&](std::string_view wanted) { return std::ranges::find(types, wanted) != types.end(); };
    return types.empty() || has(type) || (type == "integer" && has("number"));
  };
  for (const JsonValue& value : list != nullptr ? list->items : std::vector<JsonValue>{*constant}) {
    if (constant != nullptr && dump_json(*constant) != dump_json(value)) continue;
    const bool is_string = value.kind == Kind::kString;
    const bool is_left_out = place.form == (is_string ? ValueForm::kJsonNoStrings : ValueForm::kRawString);
    if (is_left_out || !fits_type(value)) continue;
    grammar_.add_literal(place.from, place.form == ValueForm::kRawString ? value.text : dump_json(value), place.to);
  }
  return {};
}

Result<void> JsonSchemaBuilder::add_type(const JsonValue& schema, const std::string& type, const std::string& path,
                                         const Place& place) {
  if ((type == "string") != (place.form == ValueForm::kRawString) && place.form != ValueForm::kJson) return {};
  if (type == "string") return add_string(schema, path, place);
  if (type == "object") return add_object(schema, path, place);
  if (type == "array") return add_array(schema, path, place);
  if (type == "null") {
    grammar_.add_literal(place.from, "null", place.to);
  } else if (type == "boolean") {
    grammar_.add_literal(place.from, "true", place.to);
    grammar_.add_literal(place.from, "false", place.to);
  } else if (type == "integer") {
    json_.add_integer(place.from, place.to, TRY(number_bounds(schema, path, true)));
  } else {
    json_.add_number(place.from, place.to, TRY(number_bounds(schema, path, false)));
  }
  return {};
}

Result<void> JsonSchemaBuilder::add_string(const JsonValue& schema, const std::string& path, const Place& place) {
  const JsonValue* pattern = find_keyword(schema, "pattern");
  const JsonValue* format = find_keyword(schema, "format");
  const bool is_raw = place.form == ValueForm::kRawString;
  const CharacterForm form = is_raw ? CharacterForm::kRaw : CharacterForm::kJsonString;
  LengthBounds length{.min = TRY(count(schema, "minLength", path, 0)), .max = std::nullopt};
  if (find_keyword(schema, "maxLength") != nullptr) length.max = TRY(count(schema, "maxLength", path, 0));
  if (std::max(length.min, length.max.value_or(0)) > kMaxLength) {
    // Nobody writes so much; the token limit is nearer.
    if (length.min > kMaxLength) {
      return make_error(ErrorCode::kUnsupported, "{}: 'minLength' above {} is not supported", path, kMaxLength);
    }
    length.max = kMaxLength;
  }
  const bool has_length = length.min > 0 || length.max;
  if ((pattern != nullptr) + (format != nullptr) + has_length > 1) {
    return make_error(ErrorCode::kUnsupported, "{}: 'pattern', 'format' and lengths together are not supported", path);
  }
  if (pattern == nullptr && format == nullptr && !has_length && !is_raw) {
    json_.add_any_string(place.from, place.to);
    return {};
  }
  GrammarState from = place.from;
  if (!is_raw) {
    from = grammar_.add_state(true);
    grammar_.add_any_of(place.from, "\"", from);
  }
  if (pattern == nullptr && format == nullptr) {
    json_.add_text(from, place.to, length, form);
    return {};
  }
  GrammarState to = place.to;
  if (!is_raw) {
    to = grammar_.add_state();
    grammar_.add_any_of(to, "\"", place.to);
  }
  const JsonValue& value = pattern != nullptr ? *pattern : *format;
  const char* keyword = pattern != nullptr ? "pattern" : "format";
  if (value.kind != Kind::kString) return wrong(path, keyword, "a string");
  std::string_view expression = value.text;
  if (format != nullptr) {
    expression = pattern_of_format(value.text);
    if (expression.empty()) {
      return make_error(ErrorCode::kUnsupported, "{}: 'format' '{}' is not supported", path, value.text);
    }
  }
  const Result<void> added = add_pattern(expression, form, from, to, grammar_);
  if (!added.ok()) {
    return make_error(added.error().code, "{}: '{}' {}: {}", path, keyword, json_string(value.text),
                      added.error().message);
  }
  return {};
}

Result<uint32_t> JsonSchemaBuilder::count(const JsonValue& schema, const char* keyword, const std::string& path,
                                          uint32_t otherwise) const {
  const JsonValue* value = find_keyword(schema, keyword);
  if (value == nullptr) return otherwise;
  uint32_t number = 0;
  const char* end = value->text.data() + value->text.size();
  const auto [stop, error] = std::from_chars(value->text.data(), end, number);
  if (value->kind == Kind::kScalar && error == std::errc::result_out_of_range && value->text[0] != '-')
    return UINT32_MAX;
  if (value->kind != Kind::kScalar || error != std::errc() || stop != end)
    return wrong(path, keyword, "an integer from 0 on");
  return number;
}

Result<NumberBounds> JsonSchemaBuilder::number_bounds(const JsonValue& schema, const std::string& path,
                                                      bool is_integer) const {
  NumberBounds bounds;
  for (const char* keyword : {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"}) {
    const JsonValue* value = find_keyword(schema, keyword);
    if (value == nullptr) continue;
    double number = 0;
    const auto [end, error] = std::from_chars(value->text.data(), value->text.data() + value->text.size(), number);
    if (value->kind != Kind::kScalar || error != std::errc()) return wrong(path, keyword, "a number");
    const bool is_min = std::string_view(keyword).ends_with("inimum");
    bool excluded = keyword[0] == 'e';
    if (number != std::floor(number)) {
      if (!is_integer) {
        return make_error(ErrorCode::kUnsupported, "{}: '{}' of a number that is no integer is not supported", path,
                          keyword);
      }
      number = is_min ? std::ceil(number) : std::floor(number);
      excluded = false;
    }
    const int64_t bound = std::abs(number) < static_cast<double>(kMostInteger)
                              ? static_cast<int64_t>(number)
                              : (number < 0 ? -kMostInteger : kMostInteger);
    std::optional<int64_t>& known = is_min ? bounds.min : bounds.max;
    bool& excludes = is_min ? bounds.excludes_min : bounds.excludes_max;
    const bool is_stricter = !known || (is_min ? bound > *known : bound < *known);
    excludes = is_stricter ? excluded : excludes || (excluded && bound == *known);
    if (is_stricter) known = bound;
  }
  return bounds;
}

}  // namespace ds4
