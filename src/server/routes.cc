#include "server/routes.h"

#include <algorithm>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/utf8.h"

namespace ds4 {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kModelsPath = "/v1/models/";

bool matches(std::string_view pattern, std::string_view path) {
  const bool is_prefix = pattern.size() > 1 && pattern.back() == '/';
  return is_prefix ? path.size() > pattern.size() && path.starts_with(pattern) : path == pattern;
}

bool accepts(std::string_view route_method, std::string_view method) {
  return route_method == method || (route_method == "GET" && method == "HEAD");
}

HttpResponse json_response(const Json& json) {
  return {.content_type = "application/json", .body = json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"};
}

int hex_value(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

std::string decode_percent(std::string_view text) {
  std::string decoded;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool escape =
        text[i] == '%' && i + 2 < text.size() && hex_value(text[i + 1]) >= 0 && hex_value(text[i + 2]) >= 0;
    decoded.push_back(escape ? static_cast<char>(hex_value(text[i + 1]) * 16 + hex_value(text[i + 2])) : text[i]);
    if (escape) i += 2;
  }
  return replace_ill_formed_utf8(decoded);
}

Json model_json(const ServedModel& model, std::string_view id) {
  const int32_t max_tokens = std::min(model.default_max_tokens, model.ctx_tokens);
  return {{"id", id},
          {"object", "model"},
          {"created", model.created_s},
          {"owned_by", "ds4.cpp"},
          {"name", model.name},
          {"context_length", model.ctx_tokens},
          {"top_provider",
           {{"context_length", model.ctx_tokens}, {"max_completion_tokens", max_tokens}, {"is_moderated", false}}},
          {"supported_parameters",
           {"tools", "tool_choice", "max_tokens", "max_completion_tokens", "temperature", "top_p", "top_k", "min_p",
            "stop", "seed", "stream", "logprobs", "top_logprobs", "reasoning_effort"}}};
}

void root(Service& service, HttpRequest&, const std::shared_ptr<Responder>& responder) {
  responder->send(
      {.content_type = "text/plain; charset=utf-8",
       .body = fmt::format("ds4.cpp serves {}: POST /v1/chat/completions\n", service.generator.model().id)});
}

void health(Service& service, HttpRequest&, const std::shared_ptr<Responder>& responder) {
  responder->send(json_response({{"status", "ok"}, {"model", service.generator.model().id}}));
}

void list_models(Service& service, HttpRequest&, const std::shared_ptr<Responder>& responder) {
  const ServedModel& model = service.generator.model();
  responder->send(json_response({{"object", "list"}, {"data", Json::array({model_json(model, model.id)})}}));
}

void get_model(Service& service, HttpRequest& request, const std::shared_ptr<Responder>& responder) {
  const ServedModel& model = service.generator.model();
  const std::string id = decode_percent(request.path().substr(kModelsPath.size()));
  if (id == model.id || id == kModelAlias || id == kChatAlias || id == kReasonerAlias) {
    return responder->send(json_response(model_json(model, id)));
  }
  responder->send(openai_error_response({.status = 404,
                                         .message = fmt::format("the model '{}' is not served; '{}' is", id, model.id),
                                         .param = "model",
                                         .code = "model_not_found"}));
}

}  // namespace

Routes::Routes(Generator& generator)
    : service_{generator},
      routes_{{"/", "GET", root},
              {"/health", "GET", health},
              {"/v1/models", "GET", list_models},
              {kModelsPath, "GET", get_model},
              {"/v1/chat/completions", "POST", serve_chat_completions}} {}

void Routes::handle(HttpRequest request, const std::shared_ptr<Responder>& responder) const {
  std::string allowed;
  for (const Route& route : routes_) {
    if (!matches(route.path, request.path())) continue;
    if (accepts(route.method, request.method)) return route.handler(service_, request, responder);
    allowed += fmt::format("{}, ", route.method == "GET" ? "GET, HEAD" : route.method);
  }
  const bool known = !allowed.empty();
  if (!known) allowed = "GET, HEAD, POST, ";
  const HttpHeader allow{"Allow", allowed + "OPTIONS"};
  if (request.method == "OPTIONS") return responder->send({.status = 204, .headers = {allow}});
  if (!known) {
    return responder->send(
        openai_error_response({.status = 404,
                               .message = fmt::format("unknown path: {}", decode_percent(request.path())),
                               .code = "unknown_url"}));
  }
  HttpResponse response =
      openai_error_response({.status = 405,
                             .message = fmt::format("{} accepts {}", decode_percent(request.path()), allow.value),
                             .code = "method_not_allowed"});
  response.headers.push_back(allow);
  responder->send(std::move(response));
}

std::vector<HttpHeader> cors_headers() {
  // '*' does not stand for Authorization.
  return {{"Access-Control-Allow-Origin", "*"},
          {"Access-Control-Allow-Methods", "GET, HEAD, POST, OPTIONS"},
          {"Access-Control-Allow-Headers", "*, Authorization"},
          {"Access-Control-Max-Age", "86400"}};
}

}  // namespace ds4
