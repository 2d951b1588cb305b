#pragma once

// OpenAI's chat completions: POST /v1/chat/completions in, one JSON object or a stream of chunks out, as the official
// SDKs and DeepSeek's own API have it (reasoning_content, thinking). docs/server_api.md lists every field. Nothing that
// changes the answer is silently dropped: what the server cannot do is refused with the field's name, and only unknown
// fields are ignored. Parsing is pure; a sink writes its answer from the engine thread.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <variant>

#include "engine/request.h"
#include "server/api.h"
#include "server/http_message.h"

namespace ds4 {

struct ChatRequest : ApiRequest {
  int32_t n = 1;  // choices
  bool include_usage = false;
};

std::variant<ChatRequest, ApiError> parse_chat_request(std::string body, const ServedModel& served);

// How a request's answer is called.
struct ChatAnswerInfo {
  std::string id;
  std::string model;
  std::string system_fingerprint;
  int64_t created_s = 0;
  bool include_usage = false;
  int32_t n = 1;
};

std::shared_ptr<AnswerSink> make_chat_stream(ChatAnswerInfo info, std::shared_ptr<Responder> responder);
std::shared_ptr<AnswerSink> make_chat_answer(ChatAnswerInfo info, std::shared_ptr<Responder> responder);

}  // namespace ds4
