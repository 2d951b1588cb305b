#pragma once

// An EventSink that keeps what it gets, for tests that run the scheduler themselves.

#include <string>
#include <vector>

#include "engine/request.h"

namespace ds4::test {

class RecordingSink final : public EventSink {
 public:
  void on_events(OutputEvents new_events) override {
    for (OutputEvent& event : new_events) events.push_back(std::move(event));
  }

  template <class Event>
  std::vector<Event> all() const {
    std::vector<Event> found;
    for (const OutputEvent& event : events) {
      if (const auto* value = std::get_if<Event>(&event)) found.push_back(*value);
    }
    return found;
  }
  // The last event, if it is of that kind.
  template <class Event>
  const Event* last() const {
    return events.empty() ? nullptr : std::get_if<Event>(&events.back());
  }
  std::string text() const {
    std::string text;
    for (const TextDelta& delta : all<TextDelta>()) text += delta.text;
    return text;
  }
  std::string reasoning() const {
    std::string text;
    for (const ReasoningDelta& delta : all<ReasoningDelta>()) text += delta.text;
    return text;
  }
  // Of requests with n_top_logprobs >= 0.
  std::vector<int32_t> tokens() const {
    std::vector<int32_t> ids;
    for (const TokenLogprobs& token : all<TokenLogprobs>()) ids.push_back(token.chosen.token_id);
    return ids;
  }
  bool has_ended() const { return last<Finished>() != nullptr || last<Failed>() != nullptr; }

  OutputEvents events;
};

}  // namespace ds4::test
