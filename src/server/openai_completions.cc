#include "server/openai_completions.h"

#include <utility>

#include "base/log.h"
#include "base/utf8.h"
#include "engine/sequence.h"
#include "server/choices.h"
#include "server/service.h"

namespace ds4 {
namespace {

// BOS, unless the client's own tokens begin with it.
std::vector<int32_t> prompt_tokens(const Tokenizer& tokenizer, const RawPrompt& prompt) {
  std::vector<int32_t> tokens;
  if (const auto* text = std::get_if<std::string>(&prompt)) {
    tokens = tokenizer.encode_text(*text);
  } else {
    tokens = std::get<std::vector<int32_t>>(prompt);
  }
  const std::optional<int32_t> bos = tokenizer.control_id(ControlToken::kBos);
  if (bos && (tokens.empty() || tokens.front() != *bos)) tokens.insert(tokens.begin(), *bos);
  return tokens;
}

std::optional<ApiError> check_tokens(const std::vector<int32_t>& tokens, const Generator& generator,
                                     const std::string& param) {
  const int32_t n_vocab = generator.tokenizer()->n_vocab();
  for (const int32_t token : tokens) {
    if (token < n_vocab) continue;
    return ApiError{.status = 400,
                    .message = fmt::format("{}: expected token ids below {}, found {}", param, n_vocab, token),
                    .param = param};
  }
  const Result<void> fits = check_prompt_fits(tokens.size(), generator.model().ctx_tokens);
  if (fits.ok()) return std::nullopt;
  ApiError error = to_api_error(fits.error(), param);
  error.n_prompt_tokens = tokens.size();
  error.n_ctx = generator.model().ctx_tokens;
  return error;
}

std::string echo_of(const Tokenizer& tokenizer, const RawPrompt& prompt) {
  if (const auto* text = std::get_if<std::string>(&prompt)) return *text;
  std::string bytes;
  for (const int32_t token : std::get<std::vector<int32_t>>(prompt)) bytes += tokenizer.token_bytes(token);
  return replace_ill_formed_utf8(bytes);
}

GenerateRequest prompt_request(const CompletionRequest& completion, std::vector<int32_t> tokens) {
  GenerateRequest request;
  request.prompt_tokens = std::move(tokens);
  request.output.raw_text = true;
  request.output.stop_strings = completion.stop_strings;
  request.sampling = completion.sampling;
  request.max_tokens = completion.max_tokens;
  request.n_top_logprobs = completion.n_top_logprobs;
  return request;
}

}  // namespace

void serve_completions(Service& service, HttpRequest& request, const std::shared_ptr<Responder>& responder) {
  Generator& generator = service.generator;
  const Tokenizer* tokenizer = generator.tokenizer();
  if (tokenizer == nullptr) {
    return responder->send(openai_error_response({.status = 501, .message = "the model has no vocabulary"}));
  }
  auto parsed = parse_completion_request(std::move(request.body), generator.model());
  if (const auto* error = std::get_if<ApiError>(&parsed)) return responder->send(openai_error_response(*error));
  CompletionRequest& completion = std::get<CompletionRequest>(parsed);

  CompletionInfo info{.id = random_id("cmpl-"),
                      .model = std::move(completion.model),
                      .system_fingerprint = fmt::format("fp_{}", generator.model().id),
                      .created_s = unix_time_s(),
                      .stream = completion.stream,
                      .include_usage = completion.include_usage,
                      .n = completion.n,
                      .echos = {}};
  std::vector<GenerateRequest> choices;
  size_t n_tokens = 0;
  for (size_t i = 0; i < completion.prompts.size(); ++i) {
    const RawPrompt& prompt = completion.prompts[i];
    std::vector<int32_t> tokens = prompt_tokens(*tokenizer, prompt);
    const std::string param = completion.prompts.size() == 1 ? "prompt" : fmt::format("prompt[{}]", i);
    if (const auto error = check_tokens(tokens, generator, param))
      return responder->send(openai_error_response(*error));
    n_tokens += tokens.size();
    info.echos.insert(info.echos.end(), static_cast<size_t>(completion.n),
                      completion.echo ? echo_of(*tokenizer, prompt) : std::string());
    GenerateRequest generate = prompt_request(completion, std::move(tokens));
    generate.client = client_name(request);
    for (GenerateRequest& choice : choices_of(std::move(generate), completion.n)) choices.push_back(std::move(choice));
  }
  log_info("completion",
           {{"id", info.id}, {"choices", choices.size()}, {"prompt_tokens", n_tokens}, {"stream", completion.stream}});
  const auto answer = make_completion_answer(std::move(info), responder);
  start_answer(generator, std::move(choices), answer, responder, openai_error_response);
}

}  // namespace ds4
