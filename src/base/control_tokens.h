#pragma once

// The control tokens that DeepSeek-V4 prompts are made of, and their literal spelling. A vocabulary may give them
// any id, so they are found by text. The bars are U+FF5C and the low lines U+2581: ASCII look-alikes are plain text.
// The chat renderer names them, the tokenizer turns them into ids; constants only, any thread.

#include <array>
#include <cstddef>
#include <string_view>

namespace ds4 {

enum class ControlToken {
  kBos,
  kEos,
  kUser,
  kAssistant,
  kThinkBegin,
  kThinkEnd,
  kDsml,
  kLatestReminder,
  kAction,
  kQuery,
  kAuthority,
  kDomain,
  kTitle,
  kExtractedUrl,
  kReadUrl,
};

struct ControlTokenInfo {
  ControlToken token;
  std::string_view text;
  bool required;  // no chat is possible without it; the others serve tasks and reminders
};

// Indexed by ControlToken.
inline constexpr std::array<ControlTokenInfo, 15> kControlTokens{{
    {ControlToken::kBos, "<｜begin▁of▁sentence｜>", true},
    {ControlToken::kEos, "<｜end▁of▁sentence｜>", true},
    {ControlToken::kUser, "<｜User｜>", true},
    {ControlToken::kAssistant, "<｜Assistant｜>", true},
    {ControlToken::kThinkBegin, "<think>", true},
    {ControlToken::kThinkEnd, "</think>", true},
    {ControlToken::kDsml, "｜DSML｜", true},
    {ControlToken::kLatestReminder, "<｜latest_reminder｜>", false},
    {ControlToken::kAction, "<｜action｜>", false},
    {ControlToken::kQuery, "<｜query｜>", false},
    {ControlToken::kAuthority, "<｜authority｜>", false},
    {ControlToken::kDomain, "<｜domain｜>", false},
    {ControlToken::kTitle, "<｜title｜>", false},
    {ControlToken::kExtractedUrl, "<｜extracted_url｜>", false},
    {ControlToken::kReadUrl, "<｜read_url｜>", false},
}};

constexpr std::string_view control_token_text(ControlToken token) {
  return kControlTokens[static_cast<size_t>(token)].text;
}

static_assert([] {
  for (size_t i = 0; i < kControlTokens.size(); ++i) {
    if (static_cast<size_t>(kControlTokens[i].token) != i) return false;
  }
  return static_cast<size_t>(ControlToken::kReadUrl) + 1 == kControlTokens.size();
}());

}  // namespace ds4
