#pragma once

// The fields of OpenAI's requests that bind the answer: tools with tool_choice, response_format, penalties and biases.
// What cannot be enforced is a problem of the field that asks for it, with the keyword of the schema. Pure, any thread.

#include <string_view>

#include "server/api.h"
#include "server/json_fields.h"

namespace ds4 {

// "tools", "tool_choice" and "parallel_tool_calls": the definitions for the prompt, and the rules.
void read_tools(JsonFields& fields, FieldProblems& problems, ApiRequest& request);

// "response_format": text, json_object or json_schema. The prompt shows the schema to the model.
void read_response_format(JsonFields& fields, FieldProblems& problems, ApiRequest& request);

// "presence_penalty", "frequency_penalty", "repetition_penalty" and "logit_bias".
void read_penalties(JsonFields& fields, FieldProblems& problems, SamplingParams& sampling);

// "thinking_budget", or "budget_tokens" of the object "thinking".
void read_thinking_budget(JsonFields& fields, FieldProblems& problems, OutputRules& rules);

// A schema for a whole answer, as rule and as text for the prompt; a problem of `param` when it cannot be enforced.
void bind_answer(const JsonValue& schema, std::string_view param, FieldProblems& problems, ApiRequest& request);

}  // namespace ds4
