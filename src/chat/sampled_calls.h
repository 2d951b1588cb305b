#pragma once

// A turn's tool-call block exactly as the engine sampled it, and how it goes back into a prompt. Clients return calls
// as JSON, which loses spaces, key order and everything that the parser forgave; the block loses nothing, so the prompt
// of the next turn has the very bytes that were computed. Only OutputParser makes one, of what the engine sampled, or
// decode(), of what encode() made: it is the one text outside the templates that contains control tokens, and nothing
// that a client wrote may ever become part of it. Values and pure functions, any thread.

#include <span>
#include <string>
#include <string_view>

#include "base/error.h"
#include "chat/message.h"
#include "chat/segment_builder.h"

namespace ds4 {

struct SampledCalls {
  // From the newlines before the block to the last byte of the token that closed it, in the form of token_markup().
  std::string text;
  // The block itself ended the reasoning: no </think> was sampled, and there is no content.
  bool ends_reasoning = false;

  bool operator==(const SampledCalls&) const = default;
};

void write_sampled_calls(const SampledCalls& sampled, SegmentBuilder& out);

// The block holds these calls, in this order: names and arguments are the same but for what JSON leaves open (white
// space, order of keys, spelling of numbers).
bool says_the_same(const SampledCalls& sampled, std::span<const ToolCall> calls);

// For storage. decode() accepts only what encode() can have made.
std::string encode(const SampledCalls& sampled);
Result<SampledCalls> decode_sampled_calls(std::string_view bytes);

}  // namespace ds4
