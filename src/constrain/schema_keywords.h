#pragma once

// What of a JSON schema is looked at: which keywords mean something here, which are annotations, which are refused, and
// how two schemas that must both hold become one. Pure functions, any thread.

#include <string>
#include <string_view>

#include "base/error.h"
#include "chat/python_json.h"

namespace ds4 {

// Null when absent. Precondition: an object.
const JsonValue* find_keyword(const JsonValue& schema, std::string_view keyword);
bool is_json_literal(const JsonValue& value, std::string_view text);

// Title, description, default and the like, and everything that begins with "x-": they bind nothing.
bool is_annotation(std::string_view keyword);
// Has keywords that bind.
bool binds(const JsonValue& schema);

// Errors: kUnsupported, naming the first keyword that is neither supported nor an annotation, and where it is.
Result<void> check_keywords(const JsonValue& schema, const std::string& path);

// The schema without one keyword.
JsonValue without_keyword(const JsonValue& schema, std::string_view keyword);

// A schema for what fits both. Errors: kUnsupported where the keywords cannot be joined simply.
Result<JsonValue> merge_schemas(const JsonValue& a, const JsonValue& b, const std::string& path, int depth = 0);

}  // namespace ds4
