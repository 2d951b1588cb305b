#pragma once

// The fields that bind the answer or choose among several: tools with tool_choice, the format of the answer, penalties
// and biases, n. In OpenAI's spelling; the other dialects come here for what the fields mean.
// What cannot be enforced is a problem of the field that asks for it, with the keyword of the schema. Pure, any thread.

#include <string_view>

#include "server/api.h"
#include "server/json_fields.h"

namespace ds4 {

// "tools", "tool_choice" and "parallel_tool_calls": the definitions for the prompt, and the rules.
void read_tools(JsonFields& fields, FieldProblems& problems, ApiRequest& request);

// "response_format": text, json_object or json_schema. The prompt shows the schema to the model.
void read_response_format(JsonFields& fields, FieldProblems& problems, ApiRequest& request);

// "n": how many answers. 1 unless it is given.
int32_t read_n(JsonFields& fields);

// "presence_penalty", "frequency_penalty", "repetition_penalty" and "logit_bias".
void read_penalties(JsonFields& fields, FieldProblems& problems, SamplingParams& sampling);

// "thinking_budget", or "budget_tokens" of the object "thinking".
void read_thinking_budget(JsonFields& fields, FieldProblems& problems, OutputRules& rules);

// Of a tool whose arguments are bound: a problem of `key`, its schema's field, when they cannot be.
void check_strict_tool(const ToolSignature& tool, std::string_view key, JsonFields& fields);

// The whole answer is any JSON object.
void bind_answer_to_object(ApiRequest& request);
// A schema for a whole answer, as rule and as text for the prompt; a problem of `param` when it cannot be enforced.
void bind_answer(const JsonValue& schema, std::string_view param, FieldProblems& problems, ApiRequest& request);

}  // namespace ds4
