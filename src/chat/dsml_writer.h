#pragma once

// Writes the tool calls of an earlier assistant turn as the markup that the model itself would have produced. Names,
// keys and values are request data and stay text; only the markup's own marker is a control token. Nothing is
// escaped, as in the official encoder, so data that spells a closer confuses the text but never the token sequence.
// Pure, any thread.

#include <span>

#include "chat/message.h"
#include "chat/segment_builder.h"

namespace ds4 {

// The block without the two newlines before it. Arguments that are not a JSON object are passed on whole, as one
// string parameter named "arguments".
void write_tool_calls(std::span<const ToolCall> calls, SegmentBuilder& out);

}  // namespace ds4
