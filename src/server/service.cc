#include "server/service.h"

#include <functional>
#include <utility>

#include "server/choices.h"

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

std::variant<GenerateRequest, ApiError> prepare_request(Service& service, ApiRequest& request, std::string_view param) {
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
  return generate;
}

void start_answer(Generator& generator, std::vector<GenerateRequest> choices, const std::shared_ptr<AnswerSink>& sink,
                  const std::shared_ptr<Responder>& responder, ErrorResponse error_response) {
  const auto gate = std::make_shared<AnswerGate>(sink, responder);
  for (size_t i = 0; i < choices.size(); ++i) {
    choices[i].sink = gate->choice(i);
    choices[i].cancel = responder->cancelled();
    if (const Result<void> submitted = generator.submit(std::move(choices[i])); !submitted.ok()) {
      gate->close();
      return responder->send(error_response(to_api_error(submitted.error(), "")));
    }
  }
  gate->begin();
}

}  // namespace ds4
