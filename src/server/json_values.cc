#include "server/json_values.h"

#include <algorithm>
#include <utility>

namespace ds4 {

JsonValue json_text(std::string text) {
  JsonValue value;
  value.kind = JsonValue::Kind::kString;
  value.text = std::move(text);
  return value;
}

JsonValue json_scalar(std::string_view text) {
  JsonValue value;
  value.text = text;
  return value;
}

JsonValue json_object(std::vector<JsonMember> members) {
  JsonValue value;
  value.kind = JsonValue::Kind::kObject;
  value.members = std::move(members);
  return value;
}

JsonValue json_array(std::vector<JsonValue> items) {
  JsonValue value;
  value.kind = JsonValue::Kind::kArray;
  value.items = std::move(items);
  return value;
}

std::string_view text_member(const JsonValue& object, std::string_view key) {
  const auto found = std::ranges::find(object.members, key, &JsonMember::key);
  return found != object.members.end() && found->value.kind == JsonValue::Kind::kString ? found->value.text
                                                                                        : std::string_view{};
}

void set_member(JsonValue& object, std::string_view key, JsonValue value) {
  const auto found = std::ranges::find(object.members, key, &JsonMember::key);
  if (found == object.members.end()) {
    object.members.push_back({std::string(key), std::move(value)});
  } else {
    found->value = std::move(value);
  }
}

void replace_infinities(JsonValue& value) {
  std::vector<JsonValue*> rest{&value};
  while (!rest.empty()) {
    JsonValue& next = *rest.back();
    rest.pop_back();
    if (next.kind == JsonValue::Kind::kScalar && next.text == "Infinity") next.text = "1.7976931348623157e308";
    if (next.kind == JsonValue::Kind::kScalar && next.text == "-Infinity") next.text = "-1.7976931348623157e308";
    for (JsonValue& item : next.items) rest.push_back(&item);
    for (JsonMember& member : next.members) rest.push_back(&member.value);
  }
}

}  // namespace ds4
