#pragma once

// What the handlers of all paths share, and the way of a generating request from its parsed form to the engine. A
// handler answers through its responder, at once or by a sink from the engine's thread. Any thread.

#include <memory>
#include <string_view>
#include <variant>

#include "server/api.h"
#include "server/http_message.h"
#include "server/system_texts.h"

namespace ds4 {

// One per server.
struct Service {
  Generator& generator;  // outlives every request
  VolatileTextLog volatile_text_log{};
};

using Handler = void (*)(Service& service, HttpRequest& request, const std::shared_ptr<Responder>& responder);
// A dialect's form of an error.
using ErrorResponse = HttpResponse (*)(const ApiError& error);

// Renders and encodes the prompt and sets everything but the sink. `param` is the field that the prompt came from.
// A prompt that is too long gives context_length_exceeded with both counts.
std::variant<GenerateRequest, ApiError> prepare_request(Service& service, ApiRequest& request,
                                                        const Responder& responder, std::string_view param);

// Hands the request over with its sink, and begins the answer; or answers with an error.
void start_request(Service& service, GenerateRequest request, std::shared_ptr<AnswerSink> sink,
                   const std::shared_ptr<Responder>& responder, ErrorResponse error_response);

// POST /v1/chat/completions
void serve_chat_completions(Service& service, HttpRequest& request, const std::shared_ptr<Responder>& responder);

}  // namespace ds4
