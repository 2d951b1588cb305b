#pragma once

// JSON as DeepSeek's encoder embeds it in prompts: the style of Python's json.dumps(ensure_ascii=False). Separators are
// ", " and ": ", text is raw UTF-8, integers keep all their digits, other numbers are the shortest double that reads
// back the same. Prompts must match those bytes, so this is not a general JSON library: it keeps key order and number
// text, which those do not. Of equal keys the first gives the position and the last the value.
// Nesting is limited, so hostile input cannot exhaust the stack. Pure functions, any thread.

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace ds4 {

inline constexpr size_t kMaxJsonDepth = 256;

struct JsonMember;

struct JsonValue {
  enum class Kind {
    kScalar,  // number, true, false, null, NaN, Infinity: `text` is its dumped form
    kString,  // `text` is the decoded string
    kArray,
    kObject,
  };
  Kind kind = Kind::kScalar;
  std::string text;
  std::vector<JsonValue> items;
  std::vector<JsonMember> members;
};

struct JsonMember {
  std::string key;
  JsonValue value;
};

enum class JsonDialect {
  kPython,    // standard JSON plus NaN, Infinity and -Infinity
  kStandard,  // RFC 8259
};

// The whole text must be one value. An error names the byte, what was expected and what was found. Unpaired surrogate
// escapes become U+FFFD; bytes above 7F are taken as they are.
Result<JsonValue> parse_json(std::string_view text, JsonDialect dialect = JsonDialect::kPython);

std::string dump_json(const JsonValue& value);

// Appends `text` as the inside of a JSON string, without the quotes.
void append_json_escaped(std::string_view text, std::string& out);

// `text` as a JSON string, with its quotes.
std::string json_string(std::string_view text);

}  // namespace ds4
