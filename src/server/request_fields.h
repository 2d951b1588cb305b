#pragma once

// The fields that several dialects have, read in the same way: sampling, stop strings, the switches of thinking, tools,
// the arguments of calls that come back. Problems are noted, never thrown away. Pure functions, any thread.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "chat/message.h"
#include "server/api.h"
#include "server/json_fields.h"

namespace ds4 {

// The body as a JSON object, or what is wrong with it.
std::variant<JsonValue, ApiError> parse_json_object(std::string body);

// 400, with all problems in one message; param names the first. Precondition: there are some.
ApiError problems_error(const FieldProblems& problems);

Message make_message(Role role, std::string content = {});

// temperature, top_p, min_p, top_k, seed.
void read_sampling(JsonFields& fields, SamplingParams& sampling);

// A string, or an array of strings; empty ones mean nothing.
void read_stop_strings(JsonFields& fields, std::string_view key, std::vector<std::string>& stop_strings);

// Of an output limit: what a client may ask for, cut to what the engine counts.
std::optional<int32_t> read_max_tokens(JsonFields& fields, std::string_view key);

// Token ids, of an array. False: a problem was noted.
bool read_token_ids(const JsonValue& array, const std::string& path, FieldProblems& problems,
                    std::vector<int32_t>& tokens);

// What a request says of thinking, in whatever words its dialect has for it.
struct ThinkingWish {
  std::optional<bool> explicit_switch;
  std::optional<std::string> effort;  // as sent; effort_problem() says what is wrong with it
};

// The message for an effort that is none; empty for one that is.
std::string effort_problem(std::string_view effort);

// Effort "none" means no; then an explicit switch decides; then the name of the model; then any other effort; then the
// default.
void choose_thinking(const ThinkingWish& wish, const ServedModel& served, ApiRequest& request);

// "thinking": true, false, or an object with a type of enabled, disabled, adaptive or auto.
std::optional<bool> read_thinking(JsonFields& fields);

// The one in front, which is made where there is none.
Message& system_message(std::vector<Message>& messages);

// Defines the functions (JSON texts) in the system message, which is made where there is none.
void define_tools(std::vector<std::string> tools, std::vector<Message>& messages);

// Of a call that a client returns: JSON text. A call that was cut off has no valid arguments; as a JSON string they
// stay in the history as they are. Null: no arguments.
std::string call_arguments(const JsonValue* arguments);

}  // namespace ds4
