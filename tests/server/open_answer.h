#pragma once

// The sink of an answer with one choice as the engine sees it, for tests without an engine.

#include <memory>

#include "server/choices.h"

namespace ds4::test {

inline std::shared_ptr<EventSink> open_answer(std::shared_ptr<AnswerSink> answer,
                                              std::shared_ptr<Responder> responder) {
  const auto gate = std::make_shared<AnswerGate>(std::move(answer), std::move(responder));
  gate->begin();
  return gate->choice(0);
}

}  // namespace ds4::test
