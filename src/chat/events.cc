#include "chat/events.h"

#include <utility>

namespace ds4 {
namespace {

// True when `next` was appended to `last`.
bool merge(OutputEvent& last, const OutputEvent& next) {
  if (last.index() != next.index()) return false;
  if (auto* reasoning = std::get_if<ReasoningDelta>(&last)) {
    reasoning->text += std::get<ReasoningDelta>(next).text;
    return true;
  }
  if (auto* text = std::get_if<TextDelta>(&last)) {
    text->text += std::get<TextDelta>(next).text;
    return true;
  }
  if (auto* arguments = std::get_if<ToolCallArgumentsDelta>(&last)) {
    const auto& more = std::get<ToolCallArgumentsDelta>(next);
    if (arguments->index != more.index) return false;
    arguments->json_fragment += more.json_fragment;
    return true;
  }
  return false;
}

}  // namespace

void append_event(OutputEvents& events, OutputEvent event) {
  if (events.empty() || !merge(events.back(), event)) events.push_back(std::move(event));
}

}  // namespace ds4
