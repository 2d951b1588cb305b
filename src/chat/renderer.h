#pragma once

// Turns a conversation into the prompt that the model was trained on, byte for byte as the official encoder of the
// chosen revision writes it. What this guarantees beyond those bytes: control tokens come from the templates only, so
// a text that spells "<｜User｜>" stays text. Where the official encoder raises, this returns an error that names the
// message and the field, except that arguments which are JSON but no object are passed on as text.
// Calls that RenderOptions::replay remembers are written as they were sampled instead. Used by the HTTP dialects and
// the programs; pure but for that map's recency, any thread.

#include <cstddef>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/prompt_segments.h"
#include "chat/message.h"

namespace ds4 {

struct RenderedPrompt {
  PromptSegments segments;
  // Where a later request is likely to share this prompt: numbers of leading segments, ascending. Each is the start of
  // a user or reminder turn, or follows the last assistant marker, and always stands at a control token, where a
  // prefix in text is also a prefix in tokens.
  std::vector<size_t> anchors;
  // The prompt ends with <think>: the output begins inside reasoning.
  bool starts_in_thinking = false;

  // Control tokens spelt out: for tests and logs, not for the tokenizer.
  std::string to_text() const;
};

Result<RenderedPrompt> render(const Conversation& conversation, const RenderOptions& options);

}  // namespace ds4
