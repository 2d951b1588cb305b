#include "server/api.h"

#include <chrono>
#include <random>
#include <utility>

#include "chat/python_json.h"

namespace ds4 {
namespace {

constexpr std::string_view kRetryAfterS = "2";

std::string_view error_type(int status) {
  if (status == 429) return "rate_limit_error";
  return status >= 500 ? "server_error" : "invalid_request_error";
}

std::string string_or_null(std::string_view text) { return text.empty() ? "null" : json_string(text); }

}  // namespace

ApiError to_api_error(const Error& error, std::string_view param) {
  ApiError result{.status = error_code_info(error.code).http_status, .message = error.message};
  switch (error.code) {
    case ErrorCode::kInvalidArgument:
    case ErrorCode::kUnsupported: result.param = param; break;
    case ErrorCode::kContextLength:
      result.param = param;
      result.code = "context_length_exceeded";
      break;
    case ErrorCode::kBusy: result.code = "server_busy"; break;
    case ErrorCode::kCancelled: result = {.status = 503, .message = error.message, .code = "cancelled"}; break;
    case ErrorCode::kNotFound:
    case ErrorCode::kCorrupt:
    case ErrorCode::kIo:
    case ErrorCode::kOutOfMemory:
    case ErrorCode::kInternal: break;
  }
  return result;
}

Error cancelled_error(const Responder& responder) {
  // Without the flag it was the engine that ended by itself.
  const bool server_stops = responder.server_stops() || !*responder.cancelled();
  return make_error(ErrorCode::kCancelled, "the request was cancelled: {}",
                    server_stops ? "the server stops" : "its client is gone or too slow");
}

std::string openai_error_json(const ApiError& error) {
  std::string json =
      fmt::format(R"({{"error":{{"message":{},"type":"{}","param":{},"code":{})", json_string(error.message),
                  error_type(error.status), string_or_null(error.param), string_or_null(error.code));
  if (error.n_prompt_tokens) {
    json += fmt::format(R"(,"n_prompt_tokens":{},"n_ctx":{})", *error.n_prompt_tokens, error.n_ctx);
  }
  return json + "}}";
}

HttpResponse openai_error_response(const ApiError& error) {
  HttpResponse response{
      .status = error.status, .content_type = "application/json", .body = openai_error_json(error) + "\n"};
  if (error.status == 429 || error.status == 503)
    response.headers.push_back({"Retry-After", std::string(kRetryAfterS)});
  return response;
}

std::string model_id_from_name(std::string_view name) {
  std::string id;
  for (const char c : name) {
    const char lower = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    const bool plain = (lower >= 'a' && lower <= 'z') || (lower >= '0' && lower <= '9') || lower == '.' || lower == '_';
    if (plain) {
      id.push_back(lower);
    } else if (!id.empty() && id.back() != '-') {
      id.push_back('-');
    }
  }
  while (!id.empty() && id.back() == '-') id.pop_back();
  return id.empty() ? std::string(kModelAlias) : id;
}

std::string random_id(std::string_view prefix, size_t n_bytes) {
  std::random_device device;
  std::string id(prefix);
  for (size_t i = 0; i < n_bytes; ++i) id += fmt::format("{:02x}", device() & 0xFFU);
  return id;
}

int64_t unix_time_s() {
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

}  // namespace ds4
