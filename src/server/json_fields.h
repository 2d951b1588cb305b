#pragma once

// Typed reading of a request's JSON, for all dialects. null counts as absent everywhere, since many clients write it
// for what they do not set; unknown fields are never looked at. Every problem is noted with the path of its field
// ("messages[2].content"), so that an answer can name all of them. Views into a JsonValue that must outlive them.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "chat/python_json.h"

namespace ds4 {

struct FieldProblem {
  std::string param;
  std::string message;
};
using FieldProblems = std::vector<FieldProblem>;

inline constexpr size_t kMaxJsonValues = 4U << 20;

// The body of a request, made well-formed UTF-8. Bounds the number of values, whose memory is far larger than the text.
Result<JsonValue> parse_json_body(std::string body);

bool is_json_null(const JsonValue& value);
// "a string", "a number", "true", "null", "an array", "an object".
std::string_view json_kind_name(const JsonValue& value);

class JsonFields {
 public:
  // `path` is empty for the body itself. Precondition: an object.
  JsonFields(const JsonValue& object, std::string path, FieldProblems& problems);

  std::string path(std::string_view key) const;
  void problem(std::string_view key, std::string message);
  void wrong_type(std::string_view key, std::string_view expected, const JsonValue& found);

  // Null when absent or null.
  const JsonValue* find(std::string_view key) const;
  // These note a problem and return nothing when the field has another type or is out of range.
  std::optional<std::string> string(std::string_view key);
  std::optional<bool> boolean(std::string_view key);
  std::optional<double> number(std::string_view key, double min, double max);
  std::optional<int64_t> integer(std::string_view key, int64_t min, int64_t max);
  // Null unless it is an array or object.
  const JsonValue* array(std::string_view key);
  const JsonValue* object(std::string_view key);
  // The fields of an object that is found under this one. Precondition: an object.
  JsonFields child(std::string_view key, const JsonValue& object) { return {object, path(key), problems_}; }

 private:
  const JsonValue* of_kind(std::string_view key, JsonValue::Kind kind, std::string_view expected);

  const JsonValue& object_;
  std::string path_;
  FieldProblems& problems_;
};

}  // namespace ds4
