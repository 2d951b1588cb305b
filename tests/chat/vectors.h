#pragma once

// Reads the golden files under tests/vectors/chat. Messages keep the number text and key order of the files, which is
// why they are read with the parser of this layer; python_json_test.cc checks that parser against another one.

#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "chat/message.h"
#include "chat/python_json.h"

namespace ds4::test {

std::string read_file(const std::string& path);

// The "cases" of a golden file. Aborts when the file is not readable: the tests cannot run without it.
std::vector<JsonValue> load_cases(std::string_view file_name);

// The member, or null.
const JsonValue* find(const JsonValue& object, std::string_view key);
// The member as text; "" when absent or null.
std::string text_of(const JsonValue& object, std::string_view key);
std::vector<int32_t> ids_of(const JsonValue& object, std::string_view key);

struct RenderCase {
  Conversation conversation;
  RenderOptions options;
};

// What an API layer does with a request: an error where a value has no place in a Conversation.
Result<RenderCase> to_render_case(const JsonValue& golden_case, ChatFormat format);

}  // namespace ds4::test
