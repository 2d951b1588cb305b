#include "chat/segment_builder.h"

namespace ds4 {

void SegmentBuilder::add_control(ControlToken token) { segments_.push_back({token, {}}); }

void SegmentBuilder::add_text(std::string_view text) {
  if (text.empty()) return;
  if (segments_.empty() || segments_.back().control) segments_.emplace_back();
  segments_.back().text.append(text);
}

void SegmentBuilder::add_template(std::string_view text) {
  while (!text.empty()) {
    size_t first = text.size();
    ControlToken first_token{};
    for (const ControlToken token : {ControlToken::kThinkBegin, ControlToken::kThinkEnd, ControlToken::kDsml}) {
      const size_t found = text.find(control_token_text(token));
      if (found < first) {
        first = found;
        first_token = token;
      }
    }
    add_text(text.substr(0, first));
    if (first == text.size()) return;
    add_control(first_token);
    text.remove_prefix(first + control_token_text(first_token).size());
  }
}

}  // namespace ds4
