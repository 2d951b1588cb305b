#include "server/openai_responses.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include "base/log.h"
#include "base/utf8.h"
#include "chat/python_json.h"
#include "server/choices.h"
#include "server/service.h"
#include "server/sse.h"

namespace ds4 {
namespace {

constexpr std::string_view kPath = "/v1/responses/";
constexpr size_t kDefaultPageItems = 20;
constexpr size_t kMaxPageItems = 100;

// PATH/ID[/ACTION]
struct StoredPath {
  std::string id;
  std::string action;
};

StoredPath stored_path(const HttpRequest& request) {
  const std::string_view rest = request.path().substr(kPath.size());
  const size_t slash = std::min(rest.find('/'), rest.size());
  return {.id = replace_ill_formed_utf8(rest.substr(0, slash)),
          .action = replace_ill_formed_utf8(rest.substr(std::min(slash + 1, rest.size())))};
}

std::string_view query_value(const HttpRequest& request, std::string_view key) {
  std::string_view query = std::string_view(request.target).substr(request.path().size());
  while (!query.empty()) {
    query.remove_prefix(1);  // '?' or '&'
    const std::string_view pair = query.substr(0, query.find('&'));
    query.remove_prefix(pair.size());
    if (pair.starts_with(key) && pair.substr(key.size()).starts_with('=')) return pair.substr(key.size() + 1);
  }
  return {};
}

void send_error(Responder& responder, const ApiError& error) { responder.send(openai_error_response(error)); }

void send_json(Responder& responder, std::string json) {
  responder.send({.content_type = "application/json", .body = std::move(json) + "\n"});
}

void send_not_found(Responder& responder, std::string_view id) {
  send_error(responder, {.status = 404,
                         .message = fmt::format("no response '{}' is stored here", id),
                         .param = "response_id",
                         .code = "response_not_found"});
}

void send_unknown_path(Responder& responder, const HttpRequest& request) {
  send_error(responder, {.status = 404,
                         .message = fmt::format("unknown path: {}", replace_ill_formed_utf8(request.path())),
                         .code = "unknown_url"});
}

// Those of other responses that it continues, too; the newest first unless order=asc.
void send_input_items(const HttpRequest& request, std::vector<StoredItemPtr> items, Responder& responder) {
  const std::string_view order = query_value(request, "order");
  if (!order.empty() && order != "asc" && order != "desc") {
    return send_error(responder, {.message = "order: expected asc or desc", .param = "order"});
  }
  if (order != "asc") std::ranges::reverse(items);
  size_t limit = kDefaultPageItems;
  if (const std::string_view text = query_value(request, "limit"); !text.empty()) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), limit);
    if (error != std::errc() || end != text.data() + text.size() || limit < 1 || limit > kMaxPageItems) {
      return send_error(responder, {.message = fmt::format("limit: expected an integer from 1 to {}", kMaxPageItems),
                                    .param = "limit"});
    }
  }
  auto first = items.begin();
  if (const std::string_view after = query_value(request, "after"); !after.empty()) {
    first = std::ranges::find(items, after, [](const StoredItemPtr& item) { return std::string_view(item->id); });
    if (first == items.end()) {
      return send_error(responder, {.message = "after: no input item of this response has that id", .param = "after"});
    }
    ++first;
  }
  const size_t n = std::min(limit, static_cast<size_t>(items.end() - first));
  std::string data;
  for (size_t i = 0; i < n; ++i) data += (i > 0 ? "," : "") + first[static_cast<ptrdiff_t>(i)]->json;
  const auto id_at = [&](size_t i) { return n > 0 ? json_string(first[static_cast<ptrdiff_t>(i)]->id) : R"("")"; };
  const bool has_more = static_cast<size_t>(items.end() - first) > n;
  send_json(responder, fmt::format(R"({{"object":"list","data":[{}],"first_id":{},"last_id":{},"has_more":{}}})", data,
                                   id_at(0), id_at(n > 0 ? n - 1 : 0), has_more));
}

}  // namespace

void serve_responses(Service& service, HttpRequest& request, const std::shared_ptr<Responder>& responder) {
  const ServedModel& model = service.generator.model();
  auto parsed = parse_responses_request(std::move(request.body), model, *service.responses);
  if (const auto* error = std::get_if<ApiError>(&parsed)) return send_error(*responder, *error);
  ResponsesRequest& wanted = std::get<ResponsesRequest>(parsed);
  ResponsesPlan& plan = wanted.plan;
  plan.id = random_id("resp_");
  plan.created_s = unix_time_s();
  auto prepared = prepare_request(service, wanted, "input");
  if (const auto* error = std::get_if<ApiError>(&prepared)) {
    if (!wanted.stream || error->code != "context_length_exceeded") return send_error(*responder, *error);
    HttpResponse stream{.content_type = std::string(kSseContentType)};
    stream.headers = {{"Cache-Control", "no-cache"}};
    stream.body = failed_responses_stream(std::move(plan), *error);
    return responder->send(std::move(stream));
  }
  GenerateRequest& generate = std::get<GenerateRequest>(prepared);
  generate.client = client_name(request);
  log_info("response", {{"id", plan.id}, {"prompt_tokens", generate.prompt_tokens.size()}, {"stream", wanted.stream}});
  const auto sink = wanted.stream ? make_responses_stream(std::move(plan), service.responses, responder)
                                  : make_responses_answer(std::move(plan), service.responses, responder);
  start_answer(service.generator, choices_of(std::move(generate), 1), sink, responder, openai_error_response);
}

void serve_stored_response(Service& service, HttpRequest& request, const std::shared_ptr<Responder>& responder) {
  const StoredPath path = stored_path(request);
  const bool wants_items = path.action == "input_items";
  const bool cancels = request.method == "POST" && path.action == "cancel";
  const bool reads = request.method != "POST" && (path.action.empty() || wants_items);
  const bool deletes = request.method == "DELETE" && path.action.empty();
  if (path.id.empty() || (!cancels && !reads) || (request.method == "DELETE" && !deletes)) {
    return send_unknown_path(*responder, request);
  }
  const auto stored = service.responses->store.find(path.id);
  if (stored == nullptr) return send_not_found(*responder, path.id);
  if (cancels) {
    return send_error(*responder,
                      {.message = fmt::format("'{}' has ended: only background responses can be cancelled", path.id)});
  }
  if (deletes) {
    service.responses->store.erase(path.id);
    return send_json(*responder,
                     fmt::format(R"({{"id":{},"object":"response","deleted":true}})", json_string(path.id)));
  }
  if (wants_items) return send_input_items(request, stored->input, *responder);
  if (query_value(request, "stream") == "true") {
    return send_error(*responder, {.message = "stream: events are not kept, only the response", .param = "stream"});
  }
  send_json(*responder, stored->json);
}

}  // namespace ds4
