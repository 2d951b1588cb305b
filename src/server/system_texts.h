#pragma once

// How every dialect joins texts, and where system and developer messages go: those in front are the system prompt; a
// later one stays where it is, as part of a user turn. Hoisting it would change the beginning of the prompt, which
// earlier requests share; and the official encoder's form, bare text between turns, would depend on what follows and
// lose the assistant's marker after a user message. One SystemTexts per request; VolatileTextLog by any thread.

#include <atomic>
#include <string>
#include <string_view>
#include <vector>

#include "chat/message.h"
#include "chat/volatile_text.h"

namespace ds4 {

// Of text parts: the same as between the blocks of one turn, so that splitting a text differently changes little.
inline constexpr std::string_view kPartSeparator = "\n\n";

std::string join_texts(const std::vector<std::string>& parts);
// With the separator between two texts that are not empty.
void append_text(std::string& text, std::string_view more);

class SystemTexts {
 public:
  explicit SystemTexts(bool keeps_volatile_text) : keeps_volatile_text_(keeps_volatile_text) {}

  // The text blocks of one system or developer message, after the messages that are there.
  void add(std::vector<std::string> blocks, std::vector<Message>& messages);

  VolatileKinds dropped() const { return dropped_; }

 private:
  bool keeps_volatile_text_;
  VolatileKinds dropped_;
};

// Says once per kind what was dropped.
class VolatileTextLog {
 public:
  void add(VolatileKinds dropped);

 private:
  std::array<std::atomic<bool>, kVolatileRules.size()> said_{};
};

}  // namespace ds4
