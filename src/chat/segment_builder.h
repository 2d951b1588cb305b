#pragma once

// Collects a prompt's segments. Neighbouring texts become one segment, because the pieces and merges of the tokenizer
// cross the joins between template and content. Request data goes through add_text only, so whatever it spells it
// stays text; add_control and add_template are for the constants of this layer. One builder per prompt, no threads.

#include <cstddef>
#include <string_view>
#include <utility>

#include "base/prompt_segments.h"

namespace ds4 {

class SegmentBuilder {
 public:
  void add_control(ControlToken token);
  void add_text(std::string_view text);

  // Text of ours in which <think>, </think> and the DSML marker are control tokens.
  void add_template(std::string_view text);

  // The number of segments so far; a control token added now starts a new one.
  size_t size() const { return segments_.size(); }
  PromptSegments take() { return std::move(segments_); }

 private:
  PromptSegments segments_;
};

}  // namespace ds4
