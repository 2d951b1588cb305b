#pragma once

// Making and changing JsonValues, where a dialect returns what it was sent or shows a form of it to the model. Pure
// functions, any thread.

#include <string>
#include <string_view>
#include <vector>

#include "chat/python_json.h"

namespace ds4 {

// The member, or an empty text when it is none.
std::string_view text_member(const JsonValue& object, std::string_view key);
void set_member(JsonValue& object, std::string_view key, JsonValue value);
JsonValue json_text(std::string text);
JsonValue json_scalar(std::string_view text);
JsonValue json_object(std::vector<JsonMember> members);
JsonValue json_array(std::vector<JsonValue> items);

// Numbers that no double holds, which parse as Infinity, become the largest that one does: JSON has no Infinity, and
// other readers refuse it.
void replace_infinities(JsonValue& value);

}  // namespace ds4
