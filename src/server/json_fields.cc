#include "server/json_fields.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "base/utf8.h"

namespace ds4 {
namespace {

bool is_scalar(const JsonValue& value, std::string_view text) {
  return value.kind == JsonValue::Kind::kScalar && value.text == text;
}

// Numbers that no double holds were already dumped as Infinity.
std::optional<double> number_of(const JsonValue& value) {
  if (value.kind != JsonValue::Kind::kScalar) return std::nullopt;
  if (value.text == "Infinity") return HUGE_VAL;
  if (value.text == "-Infinity") return -HUGE_VAL;
  double number = 0;
  const auto [end, error] = std::from_chars(value.text.data(), value.text.data() + value.text.size(), number);
  if (error == std::errc::result_out_of_range) return value.text.front() == '-' ? -HUGE_VAL : HUGE_VAL;
  if (error != std::errc()) return std::nullopt;
  return number;
}

// Exact for every integer, also beyond 2^53.
std::optional<int64_t> integer_of(const JsonValue& value, double number) {
  int64_t integer = 0;
  const char* end = value.text.data() + value.text.size();
  if (const auto parsed = std::from_chars(value.text.data(), end, integer);
      parsed.ec == std::errc() && parsed.ptr == end) {
    return integer;
  }
  if (std::abs(number) > 0x1p53 || number != std::floor(number)) return std::nullopt;
  return static_cast<int64_t>(number);
}

}  // namespace

Result<JsonValue> parse_json_body(std::string body) {
  const auto n_values =
      std::count_if(body.begin(), body.end(), [](char c) { return c == ',' || c == '[' || c == '{'; });
  if (static_cast<size_t>(n_values) > kMaxJsonValues) {
    return make_error(ErrorCode::kInvalidArgument, "the body holds more than {} JSON values", kMaxJsonValues);
  }
  if (!is_well_formed_utf8(body)) body = replace_ill_formed_utf8(body);
  return parse_json(body, JsonDialect::kStandard);
}

bool is_json_null(const JsonValue& value) { return is_scalar(value, "null"); }

std::string_view json_kind_name(const JsonValue& value) {
  switch (value.kind) {
    case JsonValue::Kind::kString: return "a string";
    case JsonValue::Kind::kArray: return "an array";
    case JsonValue::Kind::kObject: return "an object";
    case JsonValue::Kind::kScalar: break;
  }
  if (value.text == "true" || value.text == "false" || value.text == "null") return value.text;
  return "a number";
}

JsonFields::JsonFields(const JsonValue& object, std::string path, FieldProblems& problems)
    : object_(object), path_(std::move(path)), problems_(problems) {}

std::string JsonFields::path(std::string_view key) const {
  return path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key);
}

void JsonFields::problem(std::string_view key, std::string message) {
  problems_.push_back({path(key), std::move(message)});
}

void JsonFields::wrong_type(std::string_view key, std::string_view expected, const JsonValue& found) {
  problem(key, fmt::format("expected {}, found {}", expected, json_kind_name(found)));
}

const JsonValue* JsonFields::find(std::string_view key) const {
  const auto found = std::find_if(object_.members.begin(), object_.members.end(),
                                  [key](const JsonMember& member) { return member.key == key; });
  return found == object_.members.end() || is_json_null(found->value) ? nullptr : &found->value;
}

const JsonValue* JsonFields::of_kind(std::string_view key, JsonValue::Kind kind, std::string_view expected) {
  const JsonValue* value = find(key);
  if (value == nullptr || value->kind == kind) return value;
  wrong_type(key, expected, *value);
  return nullptr;
}

std::optional<std::string> JsonFields::string(std::string_view key) {
  const JsonValue* value = of_kind(key, JsonValue::Kind::kString, "a string");
  if (value == nullptr) return std::nullopt;
  return value->text;
}

std::optional<bool> JsonFields::boolean(std::string_view key) {
  const JsonValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (is_scalar(*value, "true")) return true;
  if (is_scalar(*value, "false")) return false;
  wrong_type(key, "true or false", *value);
  return std::nullopt;
}

std::optional<double> JsonFields::number(std::string_view key, double min, double max) {
  const JsonValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  const std::optional<double> number = number_of(*value);
  if (!number) {
    wrong_type(key, "a number", *value);
    return std::nullopt;
  }
  if (*number >= min && *number <= max) return number;
  problem(key, fmt::format("expected a number from {} to {}, found {}", min, max, value->text));
  return std::nullopt;
}

std::optional<int64_t> JsonFields::integer(std::string_view key, int64_t min, int64_t max) {
  const JsonValue* value = find(key);
  if (value == nullptr) return std::nullopt;
  const std::optional<double> number = number_of(*value);
  if (!number) {
    wrong_type(key, "an integer", *value);
    return std::nullopt;
  }
  const std::optional<int64_t> integer = integer_of(*value, *number);
  if (integer && *integer >= min && *integer <= max) return integer;
  problem(key, fmt::format("expected an integer from {} to {}, found {}", min, max, value->text));
  return std::nullopt;
}

const JsonValue* JsonFields::array(std::string_view key) { return of_kind(key, JsonValue::Kind::kArray, "an array"); }

const JsonValue* JsonFields::object(std::string_view key) {
  return of_kind(key, JsonValue::Kind::kObject, "an object");
}

}  // namespace ds4
