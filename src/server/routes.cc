#include "server/routes.h"

#include <algorithm>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/utf8.h"
#include "server/anthropic_messages.h"
#include "server/counted_responder.h"
#include "server/error_shapes.h"
#include "server/model_endpoints.h"
#include "server/web_page.h"

namespace ds4 {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kModelsPath = "/v1/models/";
constexpr std::string_view kResponsesPath = "/v1/responses/";

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
           {"tools",
            "tool_choice",
            "max_tokens",
            "max_completion_tokens",
            "temperature",
            "top_p",
            "top_k",
            "min_p",
            "stop",
            "seed",
            "stream",
            "logprobs",
            "top_logprobs",
            "reasoning_effort",
            "parallel_tool_calls",
            "response_format",
            "structured_outputs",
            "presence_penalty",
            "frequency_penalty",
            "repetition_penalty",
            "logit_bias"}}};
}

// A browser gets the web page, everybody else one line.
void root(Service& service, HttpRequest& request, const std::shared_ptr<Responder>& responder) {
  if (service.has_web_page && wants_web_page(request)) return responder->send(web_page_response(request));
  responder->send({.content_type = "text/plain; charset=utf-8",
                   .body = fmt::format("ds4.cpp serves {}: POST /v1/chat/completions\n", service.generator.model().id),
                   .headers = {{"Vary", "Accept"}}});
}

void health(Service& service, HttpRequest&, const std::shared_ptr<Responder>& responder) {
  responder->send(json_response({{"status", "ok"}, {"model", service.generator.model().id}}));
}

HttpResponse anthropic_response(std::string body) {
  return {.content_type = "application/json",
          .body = std::move(body) + "\n",
          .headers = {{"request-id", random_id("req_")}}};
}

void list_models(Service& service, HttpRequest& request, const std::shared_ptr<Responder>& responder) {
  const ServedModel& model = service.generator.model();
  if (speaks_anthropic(request)) return responder->send(anthropic_response(anthropic_models_json(model)));
  responder->send(json_response({{"object", "list"}, {"data", Json::array({model_json(model, model.id)})}}));
}

void get_model(Service& service, HttpRequest& request, const std::shared_ptr<Responder>& responder) {
  const ServedModel& model = service.generator.model();
  const std::string id = decode_percent(request.path().substr(kModelsPath.size()));
  if (id == model.id || id == kModelAlias || id == kChatAlias || id == kReasonerAlias) {
    return responder->send(speaks_anthropic(request) ? anthropic_response(anthropic_model_json(model, id))
                                                     : json_response(model_json(model, id)));
  }
  responder->send(
      error_shape_of(request)({.status = 404,
                               .message = fmt::format("the model '{}' is not served; '{}' is", id, model.id),
                               .param = "model",
                               .code = "model_not_found"}));
}

}  // namespace

Routes::Routes(Generator& generator, std::shared_ptr<Metrics> metrics)
    : service_{.generator = generator, .metrics = std::move(metrics)},
      routes_{{"/", "GET", root},
              {"/health", "GET", health},
              {"/ready", "GET", serve_ready},
              {"/metrics", "GET", serve_metrics},
              {"/props", "GET", serve_props},
              {"/tokenize", "POST", serve_tokenize},
              {"/detokenize", "POST", serve_detokenize},
              {"/v1/models", "GET", list_models},
              {kModelsPath, "GET", get_model},
              {"/v1/completions", "POST", serve_completions, true},
              {"/v1/chat/completions", "POST", serve_chat_completions, true},
              {"/v1/messages", "POST", serve_messages, true},
              {"/v1/messages/count_tokens", "POST", serve_count_tokens},
              {"/v1/responses", "POST", serve_responses, true},
              {kResponsesPath, "GET", serve_stored_response},
              {kResponsesPath, "DELETE", serve_stored_response},
              {kResponsesPath, "POST", serve_stored_response}} {
  for (const Route& route : routes_) service_.endpoints.push_back(fmt::format("{} {}", route.method, route.path));
}

void Routes::handle(HttpRequest request, const std::shared_ptr<Responder>& responder) const {
  std::string allowed;
  const Route* route = find(request, allowed);
  const std::string_view endpoint = route != nullptr ? route->path : "none";
  const auto counted = std::make_shared<CountedResponder>(responder, endpoint, service_.metrics);
  if (route == nullptr) return refuse(request, allowed, *counted);
  if (route->generates && service_.draining) {
    return counted->send(error_shape_of(request)({.status = 503,
                                                  .message = "the server is about to stop and takes no new requests",
                                                  .code = "server_draining"}));
  }
  route->handler(service_, request, counted);
}

// Null when there is none; `allowed` has the methods of the path then.
const Routes::Route* Routes::find(const HttpRequest& request, std::string& allowed) const {
  for (const Route& route : routes_) {
    if (!matches(route.path, request.path())) continue;
    if (accepts(route.method, request.method)) return &route;
    allowed += fmt::format("{}, ", route.method == "GET" ? "GET, HEAD" : route.method);
  }
  return nullptr;
}

void Routes::refuse(const HttpRequest& request, const std::string& allowed, Responder& responder) const {
  const bool known = !allowed.empty();
  const HttpHeader allow{"Allow", (known ? allowed : "GET, HEAD, POST, ") + "OPTIONS"};
  if (request.method == "OPTIONS") return responder.send({.status = 204, .headers = {allow}});
  const ErrorResponse error_response = error_shape_of(request);
  const std::string path = decode_percent(request.path());
  if (!known) {
    const std::string_view reason = absence_reason(request.path());
    if (!reason.empty()) {
      return responder.send(error_response({.status = 404,
                                            .message = fmt::format("{} is not supported: {}", path, reason),
                                            .code = "unsupported_endpoint"}));
    }
    return responder.send(
        error_response({.status = 404, .message = fmt::format("unknown path: {}", path), .code = "unknown_url"}));
  }
  HttpResponse response = error_response(
      {.status = 405, .message = fmt::format("{} accepts {}", path, allow.value), .code = "method_not_allowed"});
  response.headers.push_back(allow);
  responder.send(std::move(response));
}

std::vector<HttpHeader> cors_headers(std::string origin) {
  // '*' does not stand for Authorization.
  return {{"Access-Control-Allow-Origin", std::move(origin)},
          {"Access-Control-Allow-Methods", "GET, HEAD, POST, DELETE, OPTIONS"},
          {"Access-Control-Allow-Headers", "*, Authorization"},
          {"Access-Control-Expose-Headers", "*"},
          {"Access-Control-Allow-Private-Network", "true"},
          {"Access-Control-Max-Age", "86400"}};
}

}  // namespace ds4
