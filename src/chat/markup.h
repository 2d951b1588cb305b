#pragma once

// The markers that the parsers look for, in one of two forms. Spelled: as text, for streams whose tokens are not
// known. Token: each control token is one byte that no UTF-8 text contains, so text which merely quotes a marker can
// never match. The parsers are the same for both; spell_controls() turns what they pass on into plain text.
// Values and pure functions, any thread.

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

#include "base/control_tokens.h"

namespace ds4 {

struct Markup {
  std::string think_begin;
  std::string think_end;
  std::string dsml;
  std::string tag_opener;        // "<D"
  std::string tag_closer;        // "</D"
  std::string block_opener;      // "<D" "tool_calls>"
  std::string parameter_closer;  // "</D" "parameter>"
};

Markup spelled_markup();
Markup token_markup();

// What a byte stands for in token_markup(); nothing when it is a byte of text.
std::optional<ControlToken> control_of_markup_byte(char byte);

// Replaces the bytes of token_markup() by the texts of their tokens.
std::string spell_controls(std::string_view text);

// Length of the longest suffix of `text` that is the beginning of `marker`, but not all of it.
size_t partial_marker_size(std::string_view text, std::string_view marker);

}  // namespace ds4
