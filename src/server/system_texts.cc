#include "server/system_texts.h"

#include <utility>

#include "base/log.h"

namespace ds4 {

std::string join_texts(const std::vector<std::string>& parts) {
  std::string text;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i > 0) text += kPartSeparator;
    text += parts[i];
  }
  return text;
}

void append_text(std::string& text, std::string_view more) {
  if (!text.empty() && !more.empty()) text += kPartSeparator;
  text += more;
}

void SystemTexts::add(std::vector<std::string> blocks, std::vector<Message>& messages) {
  if (!keeps_volatile_text_) {
    const VolatileKinds dropped = drop_volatile_text(blocks);
    dropped_ |= dropped;
    // As if the client had not sent it.
    if (dropped.any() && blocks.empty()) return;
  }
  std::string text = join_texts(blocks);
  if (!messages.empty() && messages.back().role == Role::kSystem) return append_text(messages.back().content, text);
  Message message;
  message.role = messages.empty() ? Role::kSystem : Role::kUser;
  message.content = std::move(text);
  messages.push_back(std::move(message));
}

void VolatileTextLog::add(VolatileKinds dropped) {
  for (size_t i = 0; i < kVolatileRules.size(); ++i) {
    if (dropped[i] && !said_[i].exchange(true)) log_debug("volatile text dropped", {{"kind", kVolatileRules[i].name}});
  }
}

}  // namespace ds4
