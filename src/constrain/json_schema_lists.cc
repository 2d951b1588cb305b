// Objects and arrays of JsonSchemaBuilder.

#include <algorithm>
#include <map>

#include "base/utf8.h"
#include "constrain/json_schema.h"
#include "constrain/schema_keywords.h"

namespace ds4 {
namespace {

constexpr uint32_t kMaxItems = 1024;

using Kind = JsonValue::Kind;

Error wrong(const std::string& path, std::string_view keyword, std::string_view expected) {
  return make_error(ErrorCode::kInvalidArgument, "{}: '{}' must be {}", path, keyword, expected);
}

const JsonValue& any_schema() {
  static const JsonValue kAny{.kind = Kind::kScalar, .text = "true", .items = {}, .members = {}};
  return kAny;
}

}  // namespace

Result<std::vector<JsonSchemaBuilder::Property>> JsonSchemaBuilder::properties_of(const JsonValue& schema,
                                                                                  const std::string& path) const {
  std::vector<Property> properties;
  if (const JsonValue* list = find_keyword(schema, "properties"); list != nullptr) {
    if (list->kind != Kind::kObject) return wrong(path, "properties", "an object");
    for (const JsonMember& member : list->members) {
      properties.push_back({member.key, &member.value, path + "/properties/" + member.key, false});
    }
  }
  if (const JsonValue* required = find_keyword(schema, "required"); required != nullptr) {
    if (required->kind != Kind::kArray) return wrong(path, "required", "an array of strings");
    const JsonValue* more = find_keyword(schema, "additionalProperties");
    for (const JsonValue& name : required->items) {
      if (name.kind != Kind::kString) return wrong(path, "required", "an array of strings");
      const auto known = std::ranges::find(properties, name.text, &Property::name);
      if (known != properties.end()) {
        known->required = true;
      } else {
        properties.push_back({name.text, more != nullptr ? more : &any_schema(), path + "/required", true});
      }
    }
  }
  return properties;
}

Result<void> JsonSchemaBuilder::add_object(const JsonValue& schema, const std::string& path, const Place& place) {
  const std::vector<Property> properties = TRY(properties_of(schema, path));
  const JsonValue* more = find_keyword(schema, "additionalProperties");
  if (const JsonValue* names = find_keyword(schema, "propertyNames"); names != nullptr) {
    const JsonValue* type = find_keyword(*names, "type");
    const JsonValue rest = without_keyword(*names, "type");
    const bool is_idle = names->kind == Kind::kObject && !binds(rest) && (type == nullptr || type->text == "string");
    if (!is_idle)
      return make_error(ErrorCode::kUnsupported, "{}: 'propertyNames' that restricts is not supported", path);
  }
  if (properties.empty() && (more == nullptr || is_json_literal(*more, "true"))) {
    json_.add_any_object(place.from, place.to);
    return {};
  }
  // A schema that lists its properties means those.
  const bool has_more = more != nullptr && !is_json_literal(*more, "false");
  GrammarState first = grammar_.add_state();   // at a property, and none was written
  GrammarState others = grammar_.add_state();  // at a property, and some were written
  grammar_.add_any_of(place.from, "{", first);
  const GrammarState closer = grammar_.add_state();
  for (const Property& property : properties) {
    const GrammarState spaced = grammar_.add_state();
    const GrammarState key = grammar_.add_state();
    const GrammarState value = grammar_.add_state();
    const GrammarState next_first = grammar_.add_state();
    const GrammarState next_others = grammar_.add_state();
    json_.add_space(first, key);
    grammar_.add_any_of(others, ",", spaced);
    json_.add_space(spaced, key);
    add_key(property.name, key, value);
    TRY(add(*property.schema, property.path, {value, next_others, ValueForm::kJson}));
    if (!property.required) {
      grammar_.add_jump(first, next_first);
      grammar_.add_jump(others, next_others);
    }
    first = next_first;
    others = next_others;
  }
  if (has_more) {
    const GrammarState spaced = grammar_.add_state();
    const GrammarState key = grammar_.add_state();
    json_.add_space(first, key);
    grammar_.add_any_of(others, ",", spaced);
    json_.add_space(spaced, key);
    TRY(add_more_members(*more, properties, path, {key, others, ValueForm::kJson}));
  }
  grammar_.add_any_of(first, "}", place.to);
  json_.add_space(others, closer);
  grammar_.add_any_of(closer, "}", place.to);
  return {};
}

Result<void> JsonSchemaBuilder::add_more_members(const JsonValue& more, const std::vector<Property>& known,
                                                 const std::string& path, const Place& place) {
  const GrammarState colon = grammar_.add_state();
  const GrammarState spaced = grammar_.add_state();
  const GrammarState value = grammar_.add_state();
  add_other_key(known, place.from, colon);
  grammar_.add_any_of(colon, ":", spaced);
  json_.add_space(spaced, value);
  return add(more, path + "/additionalProperties", {value, place.to, ValueForm::kJson});
}

void JsonSchemaBuilder::add_key(std::string_view name, GrammarState from, GrammarState to) {
  const GrammarState spaced = grammar_.add_state();
  grammar_.add_literal(from, json_string(name) + ":", spaced);
  json_.add_space(spaced, to);
}

// A key in quotes that is none of the known ones, however many characters it shares with them.
void JsonSchemaBuilder::add_other_key(const std::vector<Property>& known, GrammarState from, GrammarState to) {
  if (known.empty()) return json_.add_any_string(from, to);
  struct Node {
    GrammarState state;
    std::map<char32_t, size_t> children;
    bool is_key = false;
  };
  const CharacterForm form = CharacterForm::kJsonString;
  std::vector<Node> nodes{{grammar_.add_state(true), {}, false}};
  for (const Property& property : known) {
    size_t at = 0;
    for (size_t i = 0; i < property.name.size();) {
      const Utf8Character character = decode_utf8(property.name, i);
      i += character.n_bytes;
      const auto [child, is_new] = nodes[at].children.try_emplace(character.code_point, nodes.size());
      at = child->second;
      if (is_new) nodes.push_back({grammar_.add_state(true), {}, false});
    }
    nodes[at].is_key = true;
  }
  const GrammarState other = grammar_.add_state(true);
  constexpr CodePointRange kAll{0, 0x10FFFF};
  grammar_.add_any_of(from, "\"", nodes[0].state);
  grammar_.add_character(other, std::span(&kAll, 1), other, form);
  grammar_.add_any_of(other, "\"", to);
  for (const Node& node : nodes) {
    if (!node.is_key) grammar_.add_any_of(node.state, "\"", to);
    std::vector<CodePointRange> rest;
    char32_t first = 0;
    for (const auto& [code_point, child] : node.children) {
      const CodePointRange one{code_point, code_point};
      grammar_.add_character(node.state, std::span(&one, 1), nodes[child].state, form);
      if (code_point > first) rest.push_back({first, code_point - 1});
      first = code_point + 1;
    }
    if (first <= kAll.last) rest.push_back({first, kAll.last});
    grammar_.add_character(node.state, rest, other, form);
  }
}

Result<void> JsonSchemaBuilder::add_array(const JsonValue& schema, const std::string& path, const Place& place) {
  const JsonValue* items = find_keyword(schema, "items");
  const JsonValue* prefix = find_keyword(schema, "prefixItems");
  const uint32_t min = TRY(count(schema, "minItems", path, 0));
  uint32_t max = TRY(count(schema, "maxItems", path, UINT32_MAX));
  if (prefix != nullptr && prefix->kind != Kind::kArray) return wrong(path, "prefixItems", "an array of schemas");
  if (items != nullptr && items->kind == Kind::kArray) {
    return make_error(ErrorCode::kUnsupported, "{}: 'items' with an array is not supported: use 'prefixItems'", path);
  }
  const size_t n_prefix = prefix != nullptr ? prefix->items.size() : 0;
  // A schema that lists its first items means those.
  const bool has_more = items != nullptr ? !is_json_literal(*items, "false") : n_prefix == 0;
  if (items == nullptr && prefix == nullptr && min == 0 && max == UINT32_MAX) {
    json_.add_any_array(place.from, place.to);
    return {};
  }
  if (!has_more) max = std::min(max, static_cast<uint32_t>(n_prefix));
  const bool is_bounded = max != UINT32_MAX;
  if (min > kMaxItems || (is_bounded && max > kMaxItems) || n_prefix > kMaxItems) {
    return make_error(ErrorCode::kUnsupported, "{}: more than {} counted items are not supported", path, kMaxItems);
  }
  const JsonValue& rest = items != nullptr ? *items : any_schema();
  const auto item_rule = [&](uint32_t n) {
    if (n < n_prefix) return rule_of(prefix->items[n], fmt::format("{}/prefixItems/{}", path, n), ValueForm::kJson);
    return rule_of(rest, path + "/items", ValueForm::kJson);
  };
  GrammarState at = grammar_.add_state();
  grammar_.add_any_of(place.from, "[", at);
  for (uint32_t n = 0;; ++n) {
    if (n >= min) {
      const GrammarState closer = n == 0 ? at : grammar_.add_state();
      if (n > 0) json_.add_space(at, closer);
      grammar_.add_any_of(closer, "]", place.to);
    }
    if (n >= max) return {};
    const GrammarState item = grammar_.add_state();
    GrammarState spaced = at;
    if (n > 0) {
      spaced = grammar_.add_state();
      grammar_.add_any_of(at, ",", spaced);
    }
    json_.add_space(spaced, item);
    const bool loops = n > 0 && n >= min && n >= n_prefix && !is_bounded;
    const GrammarState next = loops ? at : grammar_.add_state();
    grammar_.add_call(item, item_rule(n), next);
    if (loops) return {};
    at = next;
  }
}

Result<std::vector<JsonSchemaBuilder::Property>> JsonSchemaBuilder::root_properties() {
  const JsonValue* schema = &root_;
  for (int n = 0; schema->kind == Kind::kObject && find_keyword(*schema, "$ref") != nullptr; ++n) {
    if (n > 16) return make_error(ErrorCode::kUnsupported, "#: '$ref' refers to itself");
    schema = TRY(resolve(find_keyword(*schema, "$ref")->text, "#"));
  }
  if (schema->kind != Kind::kObject)
    return make_error(ErrorCode::kInvalidArgument, "#: expected the schema of an object");
  TRY(check_keywords(*schema, "#"));
  for (const char* keyword : {"anyOf", "oneOf", "allOf", "enum", "const"}) {
    if (find_keyword(*schema, keyword) == nullptr) continue;
    return make_error(ErrorCode::kUnsupported, "#: '{}' for all parameters together is not supported", keyword);
  }
  const JsonValue* type = find_keyword(*schema, "type");
  if (type != nullptr && type->text != "object") return wrong("#", "type", "object: parameters are an object");
  return properties_of(*schema, "#");
}

Result<void> JsonSchemaBuilder::add_property(const Property& property, GrammarState from, GrammarState to,
                                             ValueForm form) {
  TRY(add(*property.schema, property.path, {from, to, form}));
  return add_pending_rules();
}

}  // namespace ds4
