#pragma once

// What the handlers of all paths share, and the way of a generating request from its parsed form to the engine. A
// handler answers through its responder, at once or by a sink from the engine's thread. Any thread.

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "server/api.h"
#include "server/http_message.h"
#include "server/metrics.h"
#include "server/openai_responses.h"
#include "server/system_texts.h"

namespace ds4 {

// One per server.
struct Service {
  Generator& generator;      // outlives every request
  bool has_web_page = true;  // at /, for browsers
  VolatileTextLog volatile_text_log{};
  std::shared_ptr<Metrics> metrics = std::make_shared<Metrics>();
  std::vector<std::string> endpoints{};  // "POST /v1/completions"
  std::atomic<bool> draining = false;    // nothing new is generated any more
  std::shared_ptr<ResponsesMemory> responses = std::make_shared<ResponsesMemory>();
};

using Handler = void (*)(Service& service, HttpRequest& request, const std::shared_ptr<Responder>& responder);
// A dialect's form of an error.
using ErrorResponse = HttpResponse (*)(const ApiError& error);

// Renders and encodes the prompt and sets everything but who gets the answer. `param` is the field that the prompt came
// from. A prompt that is too long gives context_length_exceeded with both counts.
std::variant<GenerateRequest, ApiError> prepare_request(Service& service, ApiRequest& request, std::string_view param);

// Whose request it is, as far as its headers tell: of one client's requests for as long as it runs. Holds no key.
std::string client_name(const HttpRequest& request);

// Hands over the requests of all choices of an answer, and begins it; or answers with an error.
void start_answer(Generator& generator, std::vector<GenerateRequest> choices, const std::shared_ptr<AnswerSink>& sink,
                  const std::shared_ptr<Responder>& responder, ErrorResponse error_response);

// POST /v1/completions
void serve_completions(Service& service, HttpRequest& request, const std::shared_ptr<Responder>& responder);
// POST /v1/messages and POST /v1/messages/count_tokens
void serve_messages(Service& service, HttpRequest& request, const std::shared_ptr<Responder>& responder);
void serve_count_tokens(Service& service, HttpRequest& request, const std::shared_ptr<Responder>& responder);

// POST /v1/chat/completions
void serve_chat_completions(Service& service, HttpRequest& request, const std::shared_ptr<Responder>& responder);
// POST /v1/responses
void serve_responses(Service& service, HttpRequest& request, const std::shared_ptr<Responder>& responder);
// GET and DELETE /v1/responses/{id}, GET .../input_items, POST .../cancel
void serve_stored_response(Service& service, HttpRequest& request, const std::shared_ptr<Responder>& responder);

}  // namespace ds4
