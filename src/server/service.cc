#include "server/service.h"

#include <functional>
#include <utility>

namespace ds4 {
namespace {

// Keys, programs, and what agents call their sessions.
constexpr std::string_view kClientHeaders[] = {"Authorization", "x-api-key",  "User-Agent",
                                               "x-session-id",  "session_id", "x-session-affinity"};

}  // namespace

std::string client_name(const HttpRequest& request) {
  std::string name;
  for (const std::string_view header : kClientHeaders) name += fmt::format("{}\n", request.header(header));
  return fmt::format("{:x}", std::hash<std::string>()(name));
}

std::variant<GenerateRequest, ApiError> prepare_request(Service& service, ApiRequest& request,
                                                        const Responder& responder, std::string_view param) {
  service.volatile_text_log.add(request.dropped_text);
  Generator& generator = service.generator;
  Result<GenerateRequest> prepared = generator.prepare(request.conversation, request.render);
  if (!prepared.ok()) {
    ApiError error = to_api_error(prepared.error(), param);
    if (prepared.error().code == ErrorCode::kContextLength) {
      const Result<size_t> n_tokens = generator.count_prompt_tokens(request.conversation, request.render);
      if (n_tokens.ok()) error.n_prompt_tokens = n_tokens.value();
      error.n_ctx = generator.model().ctx_tokens;
    }
    return error;
  }
  GenerateRequest generate = prepared.take_value();
  generate.output.stop_strings = std::move(request.stop_strings);
  generate.output.rules = std::move(request.rules);
  if (const Result<void> bound = generator.bind_rules(generate); !bound.ok()) return to_api_error(bound.error(), "");
  generate.sampling = request.sampling;
  generate.max_tokens = request.max_tokens;
  generate.n_top_logprobs = request.n_top_logprobs;
  generate.cancel = responder.cancelled();
  return generate;
}

void start_request(Service& service, GenerateRequest request, const std::shared_ptr<AnswerSink>& sink,
                   const std::shared_ptr<Responder>& responder, ErrorResponse error_response) {
  request.sink = sink;
  if (Result<void> submitted = service.generator.submit(std::move(request)); !submitted.ok()) {
    return responder->send(error_response(to_api_error(submitted.error(), "")));
  }
  sink->begin();
}

}  // namespace ds4
