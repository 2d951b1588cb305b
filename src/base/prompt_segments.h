#pragma once

// A rendered prompt before tokenisation: an ordered list of control tokens and data text. Only the templates of the
// chat layer may put a control token here; whatever came from users, tools or files is text, and text never becomes
// a control token, whatever it spells. Values, any thread.

#include <optional>
#include <string>
#include <vector>

#include "base/control_tokens.h"

namespace ds4 {

struct PromptSegment {
  std::optional<ControlToken> control;
  std::string text;  // empty when `control` is set

  bool operator==(const PromptSegment&) const = default;
};

using PromptSegments = std::vector<PromptSegment>;

}  // namespace ds4
