#pragma once

// What a running request tells its client, in order: the waist between the engine and every dialect and program.
// The output parser makes the deltas and tool-call events, the engine adds the rest. Every request ends with exactly
// one Finished or Failed. All text is well-formed UTF-8; no event cuts a character in two.
//
// Tool calls: `index` counts calls from 0. A call is valid only once its ToolCallEnd came; a ToolCallBegin without an
// end was cut off and is not a call (it can only be the last one). The concatenated fragments of a call are its
// arguments text, with one exception: when the model repeats a parameter, the stream holds both members while
// ToolCallEnd holds the last value only; as JSON, where the last of equal keys wins, both say the same.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/error.h"
#include "chat/sampled_calls.h"

namespace ds4 {

struct ReasoningDelta {
  std::string text;
  bool operator==(const ReasoningDelta&) const = default;
};

struct TextDelta {
  std::string text;
  bool operator==(const TextDelta&) const = default;
};

struct ToolCallBegin {
  size_t index = 0;
  std::string name;
  std::string id{};  // from the server on; the engine knows none
  bool operator==(const ToolCallBegin&) const = default;
};

struct ToolCallArgumentsDelta {
  size_t index = 0;
  std::string json_fragment;
  bool operator==(const ToolCallArgumentsDelta&) const = default;
};

struct ToolCallEnd {
  size_t index = 0;
  std::string arguments;  // the complete JSON object
  bool operator==(const ToolCallEnd&) const = default;
};

// Prompt tokens computed so far, out of those that no cache provided.
struct PrefillProgress {
  size_t done_tokens = 0;
  size_t total_tokens = 0;
  bool operator==(const PrefillProgress&) const = default;
};

struct TokenLogprob {
  int32_t token_id = 0;
  std::string bytes;  // as decoded; may be part of a character
  float logprob = 0.0F;
  bool operator==(const TokenLogprob&) const = default;
};

// One per generated token, when asked for; sent before the deltas that the token completes.
struct TokenLogprobs {
  TokenLogprob chosen;
  std::vector<TokenLogprob> top;  // most likely first
  bool operator==(const TokenLogprobs&) const = default;
};

enum class FinishReason { kStop, kLength, kToolCalls, kCancelled };

struct Usage {
  size_t prompt_tokens = 0;
  size_t completion_tokens = 0;
  size_t reasoning_tokens = 0;  // part of completion_tokens
  size_t cached_tokens = 0;     // part of prompt_tokens
  bool cached_on_disk = false;  // those were read from disk
  bool operator==(const Usage&) const = default;
};

struct Finished {
  FinishReason reason = FinishReason::kStop;
  Usage usage;
  std::optional<SampledCalls> sampled_calls{};  // those of the turn, for ReplayMap
  std::string stop_string{};                    // the one that ended the answer, or empty
  bool operator==(const Finished&) const = default;
};

struct Failed {
  Error error;
  bool operator==(const Failed& other) const {
    return error.code == other.error.code && error.message == other.error.message;
  }
};

using OutputEvent = std::variant<ReasoningDelta, TextDelta, ToolCallBegin, ToolCallArgumentsDelta, ToolCallEnd,
                                 PrefillProgress, TokenLogprobs, Finished, Failed>;
using OutputEvents = std::vector<OutputEvent>;

// Adds `event`, joining a delta to a delta of the same kind and call at the end of the list.
void append_event(OutputEvents& events, OutputEvent event);

}  // namespace ds4
