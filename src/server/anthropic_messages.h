#pragma once

// Anthropic's messages: POST /v1/messages in, one message or a stream of named events out, and what belongs to that
// API: count_tokens, the form of errors, the list of models. docs/server_api.md lists every field. As in openai_chat.h,
// nothing that changes the answer is silently dropped, unknown fields are ignored, parsing is pure, and a sink writes
// its answer from the engine thread.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>

#include "engine/request.h"
#include "server/api.h"
#include "server/http_message.h"

namespace ds4 {

struct MessagesRequest : ApiRequest {
  bool omits_thinking = false;  // the client wants signatures only
};

std::variant<MessagesRequest, ApiError> parse_messages_request(std::string body, const ServedModel& served);

// How a request's answer is called, and what only the request knows.
struct MessageInfo {
  std::string id;
  std::string request_id;
  std::string model;
  size_t prompt_tokens = 0;
  int32_t max_tokens = kUnlimitedTokens;
  bool omits_thinking = false;
  bool is_beta = false;  // the answer has the fields of the SDKs' beta types, too
};

std::shared_ptr<AnswerSink> make_message_stream(MessageInfo info, std::shared_ptr<Responder> responder);
std::shared_ptr<AnswerSink> make_message_answer(MessageInfo info, std::shared_ptr<Responder> responder);

// {"type":"error","error":{"type","message"},"request_id"}, in one line.
std::string anthropic_error_json(const ApiError& error, std::string_view request_id);
HttpResponse anthropic_error_response(const ApiError& error, std::string_view request_id);
// With a request id of its own.
HttpResponse anthropic_error_response(const ApiError& error);

// The client expects answers in Anthropic's form: by the path, or because it names a version of that API.
bool speaks_anthropic(const HttpRequest& request);

std::string anthropic_model_json(const ServedModel& model, std::string_view id);
std::string anthropic_models_json(const ServedModel& model);

}  // namespace ds4
