#include "server/anthropic_messages.h"

#include <algorithm>
#include <utility>

#include <fmt/chrono.h>

#include "base/log.h"
#include "chat/python_json.h"
#include "server/choices.h"
#include "server/service.h"

namespace ds4 {
namespace {

constexpr std::string_view kMessagesPath = "/v1/messages";
constexpr std::string_view kVersionHeader = "anthropic-version";
constexpr std::string_view kRetryAfterS = "2";
constexpr int kOverloaded = 529;

bool equals_ignoring_case(std::string_view a, std::string_view b) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
  return std::ranges::equal(a, b, {}, lower, lower);
}

bool is_beta(const HttpRequest& request) {
  const std::string_view target = request.target;
  return target.substr(request.path().size()).find("beta=true") != std::string_view::npos;
}

// This API has one status for all that passes by itself.
int status_of(const ApiError& error) {
  const bool passes = error.status == 503 || (error.status == 429 && error.code == "server_busy");
  return passes ? kOverloaded : error.status;
}

std::string_view error_type(int status) {
  switch (status) {
    case 401: return "authentication_error";
    case 403: return "permission_error";
    case 404: return "not_found_error";
    case 413: return "request_too_large";
    case 429: return "rate_limit_error";
    case kOverloaded: return "overloaded_error";
    default: return status >= 500 ? "api_error" : "invalid_request_error";
  }
}

}  // namespace

std::string anthropic_error_json(const ApiError& error, std::string_view request_id) {
  std::string message = error.message;
  std::string counts;
  if (error.n_prompt_tokens) {
    // Clients know this sentence, and read the numbers. One token at least is for the answer.
    message = fmt::format("prompt is too long: {} tokens > {} maximum", *error.n_prompt_tokens, error.n_ctx - 1);
    counts = fmt::format(R"(,"n_prompt_tokens":{},"n_ctx":{})", *error.n_prompt_tokens, error.n_ctx);
  }
  return fmt::format(R"({{"type":"error","error":{{"type":"{}","message":{}{}}},"request_id":{}}})",
                     error_type(status_of(error)), json_string(message), counts, json_string(request_id));
}

HttpResponse anthropic_error_response(const ApiError& error, std::string_view request_id) {
  HttpResponse response{.status = status_of(error),
                        .content_type = "application/json",
                        .body = anthropic_error_json(error, request_id) + "\n",
                        .headers = {{"request-id", std::string(request_id)}}};
  if (response.status == 429 || response.status == kOverloaded) {
    response.headers.push_back({"Retry-After", std::string(kRetryAfterS)});
  }
  return response;
}

HttpResponse anthropic_error_response(const ApiError& error) {
  return anthropic_error_response(error, random_id("req_"));
}

bool speaks_anthropic(const HttpRequest& request) {
  const std::string_view path = request.path();
  if (path.starts_with(kMessagesPath) && (path.size() == kMessagesPath.size() || path[kMessagesPath.size()] == '/')) {
    return true;
  }
  return std::ranges::any_of(
      request.headers, [](const HttpHeader& header) { return equals_ignoring_case(header.name, kVersionHeader); });
}

std::string anthropic_model_json(const ServedModel& model, std::string_view id) {
  return fmt::format(
      R"({{"type":"model","id":{},"display_name":{},"created_at":"{:%Y-%m-%dT%H:%M:%SZ}","max_input_tokens":{},)"
      R"("max_tokens":{},"capabilities":null,"lifecycle":"active","line":null,"deprecated_at":null,"retires_at":null}})",
      json_string(id), json_string(model.name), fmt::gmtime(static_cast<std::time_t>(model.created_s)),
      model.ctx_tokens, std::min(model.default_max_tokens, model.ctx_tokens));
}

std::string anthropic_models_json(const ServedModel& model) {
  return fmt::format(R"({{"data":[{}],"has_more":false,"first_id":{},"last_id":{}}})",
                     anthropic_model_json(model, model.id), json_string(model.id), json_string(model.id));
}

void serve_messages(Service& service, HttpRequest& request, const std::shared_ptr<Responder>& responder) {
  auto parsed = parse_messages_request(std::move(request.body), service.generator.model());
  if (const auto* error = std::get_if<ApiError>(&parsed)) return responder->send(anthropic_error_response(*error));
  MessagesRequest& messages = std::get<MessagesRequest>(parsed);
  auto prepared = prepare_request(service, messages, "messages");
  if (const auto* error = std::get_if<ApiError>(&prepared)) return responder->send(anthropic_error_response(*error));
  GenerateRequest& generate = std::get<GenerateRequest>(prepared);
  generate.client = client_name(request);
  generate.output.call_id_prefix = "toolu_";

  MessageInfo info{.id = random_id("msg_"),
                   .request_id = random_id("req_"),
                   .model = std::move(messages.model),
                   .prompt_tokens = generate.prompt_tokens.size(),
                   .max_tokens = generate.max_tokens,
                   .omits_thinking = messages.omits_thinking,
                   .is_beta = is_beta(request)};
  log_info("messages", {{"id", info.id}, {"prompt_tokens", info.prompt_tokens}, {"stream", messages.stream}});
  const auto sink = messages.stream ? make_message_stream(std::move(info), responder)
                                    : make_message_answer(std::move(info), responder);
  start_answer(service.generator, choices_of(std::move(generate), 1), sink, responder, anthropic_error_response);
}

void serve_count_tokens(Service& service, HttpRequest& request, const std::shared_ptr<Responder>& responder) {
  auto parsed = parse_messages_request(std::move(request.body), service.generator.model());
  if (const auto* error = std::get_if<ApiError>(&parsed)) return responder->send(anthropic_error_response(*error));
  const MessagesRequest& messages = std::get<MessagesRequest>(parsed);
  service.volatile_text_log.add(messages.dropped_text);
  const Result<size_t> n_tokens = service.generator.count_prompt_tokens(messages.conversation, messages.render);
  if (!n_tokens.ok()) {
    return responder->send(anthropic_error_response(to_api_error(n_tokens.error(), "messages")));
  }
  responder->send({.content_type = "application/json",
                   .body = fmt::format("{{\"input_tokens\":{}{}}}\n", n_tokens.value(),
                                       is_beta(request) ? ",\"context_management\":null" : ""),
                   .headers = {{"request-id", random_id("req_")}}});
}

}  // namespace ds4
