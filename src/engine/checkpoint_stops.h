#pragma once

// Where to take checkpoints of a prompt: at the end of system prompt and tools, at message starts, every so many
// tokens, and before the last token, so that the same prompt costs one step. Prefill chunks end at these positions.
// Pure functions, any thread.

#include <cstdint>
#include <span>
#include <vector>

#include "session/checkpoint.h"
#include "text/tokenizer.h"

namespace ds4 {

struct CheckpointSpacing {
  int32_t prompt_tokens = 2048;  // at least one checkpoint in as many tokens of a prompt; 0: none at all, anywhere
  int32_t answer_tokens = 1024;  // the same of an answer
  int32_t least_tokens = 128;    // between message starts that get one
};

struct CheckpointStop {
  int32_t n_tokens = 0;
  CheckpointReason reason = CheckpointReason::kInterval;
  bool operator==(const CheckpointStop&) const = default;
};

// Ascending; each leaves at least one token of the prompt. tokenizer may be null: then no message is recognised.
std::vector<CheckpointStop> checkpoint_stops(const Tokenizer* tokenizer, std::span<const int32_t> prompt,
                                             const CheckpointSpacing& spacing);

}  // namespace ds4
