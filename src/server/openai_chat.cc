#include "server/openai_chat.h"

#include <utility>

#include "base/log.h"
#include "server/choices.h"
#include "server/service.h"

namespace ds4 {

void serve_chat_completions(Service& service, HttpRequest& request, const std::shared_ptr<Responder>& responder) {
  const ServedModel& model = service.generator.model();
  auto parsed = parse_chat_request(std::move(request.body), model);
  if (const auto* error = std::get_if<ApiError>(&parsed)) return responder->send(openai_error_response(*error));
  ChatRequest& chat = std::get<ChatRequest>(parsed);
  auto prepared = prepare_request(service, chat, "messages");
  if (const auto* error = std::get_if<ApiError>(&prepared)) return responder->send(openai_error_response(*error));
  GenerateRequest& generate = std::get<GenerateRequest>(prepared);
  generate.client = client_name(request);

  ChatAnswerInfo info{.id = random_id("chatcmpl-"),
                      .model = std::move(chat.model),
                      .system_fingerprint = fmt::format("fp_{}", model.id),
                      .created_s = unix_time_s(),
                      .include_usage = chat.include_usage,
                      .n = chat.n};
  log_info("chat", {{"id", info.id},
                    {"choices", chat.n},
                    {"prompt_tokens", generate.prompt_tokens.size()},
                    {"stream", chat.stream}});
  const auto sink =
      chat.stream ? make_chat_stream(std::move(info), responder) : make_chat_answer(std::move(info), responder);
  start_answer(service.generator, choices_of(std::move(generate), chat.n), sink, responder, openai_error_response);
}

}  // namespace ds4
