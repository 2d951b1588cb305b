#include "server/model_endpoints.h"

#include <algorithm>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/utf8.h"
#include "server/openai_chat.h"
#include "server/request_fields.h"

namespace ds4 {
namespace {

using Json = nlohmann::ordered_json;

HttpResponse json_answer(const Json& json, int status = 200) {
  return {.status = status,
          .content_type = "application/json",
          .body = json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"};
}

std::string_view format_name(ChatFormat format) {
  switch (format) {
    case ChatFormat::kPreview: return "preview";
    case ChatFormat::k0731: return "0731";
  }
  return "preview";
}

// Text, or the bytes of a piece that is no whole text.
Json piece_json(std::string_view bytes) {
  if (is_well_formed_utf8(bytes)) return bytes;
  Json list = Json::array();
  for (const char byte : bytes) list.push_back(static_cast<uint8_t>(byte));
  return list;
}

struct TokenizeRequest {
  std::string content;
  bool is_chat = false;
  bool add_special = false;
  bool parse_special = false;
  bool with_pieces = false;
};

std::variant<TokenizeRequest, ApiError> parse_tokenize(const std::string& body) {
  const auto json = parse_json_object(body);
  if (const auto* error = std::get_if<ApiError>(&json)) return *error;
  FieldProblems problems;
  JsonFields fields(std::get<JsonValue>(json), "", problems);
  TokenizeRequest request;
  request.is_chat = fields.find("messages") != nullptr;
  const std::optional<std::string> content = fields.string("content");
  request.content = content.value_or("");
  request.add_special = fields.boolean("add_special").value_or(false);
  request.parse_special = fields.boolean("parse_special").value_or(false);
  request.with_pieces = fields.boolean("with_pieces").value_or(false);
  if (problems.empty() && !content && !request.is_chat) fields.problem("content", "missing; or messages");
  if (problems.empty() && content && request.is_chat) fields.problem("content", "not together with messages");
  if (!problems.empty()) return problems_error(problems);
  return request;
}

void send_tokens(const std::vector<int32_t>& tokens, bool with_pieces, const Tokenizer& tokenizer,
                 Responder& responder) {
  Json list = Json::array();
  for (const int32_t token : tokens) {
    if (with_pieces) {
      list.push_back({{"id", token}, {"piece", piece_json(tokenizer.token_bytes(token))}});
    } else {
      list.push_back(token);
    }
  }
  responder.send(json_answer({{"tokens", std::move(list)}, {"count", tokens.size()}}));
}

const Tokenizer* tokenizer_or_error(const Service& service, Responder& responder) {
  const Tokenizer* tokenizer = service.generator.tokenizer();
  if (tokenizer == nullptr) {
    responder.send(openai_error_response({.status = 501, .message = "the model has no vocabulary"}));
  }
  return tokenizer;
}

}  // namespace

void serve_tokenize(Service& service, HttpRequest& request, const std::shared_ptr<Responder>& responder) {
  const Tokenizer* tokenizer = tokenizer_or_error(service, *responder);
  if (tokenizer == nullptr) return;
  const auto parsed = parse_tokenize(request.body);
  if (const auto* error = std::get_if<ApiError>(&parsed)) return responder->send(openai_error_response(*error));
  const TokenizeRequest& tokenize = std::get<TokenizeRequest>(parsed);
  if (!tokenize.is_chat) {
    std::vector<int32_t> tokens = tokenize.parse_special ? tokenizer->encode_with_special(tokenize.content)
                                                         : tokenizer->encode_text(tokenize.content);
    const std::optional<int32_t> bos = tokenizer->control_id(ControlToken::kBos);
    const bool begins = !tokens.empty() && tokens.front() == bos;
    if (tokenize.add_special && bos && !begins) tokens.insert(tokens.begin(), *bos);
    return send_tokens(tokens, tokenize.with_pieces, *tokenizer, *responder);
  }
  auto chat = parse_chat_request(std::move(request.body), service.generator.model());
  if (const auto* error = std::get_if<ApiError>(&chat)) return responder->send(openai_error_response(*error));
  const auto prepared = prepare_request(service, std::get<ChatRequest>(chat), "messages");
  if (const auto* error = std::get_if<ApiError>(&prepared)) return responder->send(openai_error_response(*error));
  send_tokens(std::get<GenerateRequest>(prepared).prompt_tokens, tokenize.with_pieces, *tokenizer, *responder);
}

void serve_detokenize(Service& service, HttpRequest& request, const std::shared_ptr<Responder>& responder) {
  const Tokenizer* tokenizer = tokenizer_or_error(service, *responder);
  if (tokenizer == nullptr) return;
  const auto json = parse_json_object(std::move(request.body));
  if (const auto* error = std::get_if<ApiError>(&json)) return responder->send(openai_error_response(*error));
  FieldProblems problems;
  JsonFields fields(std::get<JsonValue>(json), "", problems);
  std::vector<int32_t> tokens;
  if (const JsonValue* array = fields.array("tokens")) {
    read_token_ids(*array, "tokens", problems, tokens);
  } else if (problems.empty()) {
    fields.problem("tokens", "missing");
  }
  std::string bytes;
  for (size_t i = 0; i < tokens.size() && problems.empty(); ++i) {
    if (tokens[i] < tokenizer->n_vocab()) {
      bytes += tokenizer->token_bytes(tokens[i]);
    } else {
      fields.problem(fmt::format("tokens[{}]", i),
                     fmt::format("expected an id below {}, found {}", tokenizer->n_vocab(), tokens[i]));
    }
  }
  if (!problems.empty()) return responder->send(openai_error_response(problems_error(problems)));
  responder->send(json_answer({{"content", replace_ill_formed_utf8(bytes)}}));
}

void serve_props(Service& service, HttpRequest&, const std::shared_ptr<Responder>& responder) {
  const ServedModel& model = service.generator.model();
  const SamplingParams sampling;
  Json aliases = {kModelAlias, kChatAlias, kReasonerAlias};
  Json props = {{"model", {{"id", model.id}, {"name", model.name}, {"aliases", std::move(aliases)}}},
                {"chat_format", format_name(model.chat_format)},
                {"ctx_tokens", model.ctx_tokens},
                {"ctx_tokens_trained", model.trained_ctx_tokens},
                {"slots", model.n_slots},
                {"defaults",
                 {{"temperature", sampling.temperature},
                  {"top_p", sampling.top_p},
                  {"min_p", sampling.min_p},
                  {"top_k", sampling.top_k},
                  {"max_tokens", std::min(model.default_max_tokens, model.ctx_tokens)},
                  {"thinking", model.thinks_by_default}}},
                {"endpoints", service.endpoints},
                {"build", {{"name", "ds4.cpp"}, {"version", DS4_VERSION}}}};
  if (const Tokenizer* tokenizer = service.generator.tokenizer(); tokenizer != nullptr) {
    props["vocabulary"] = {{"tokens", tokenizer->n_vocab()},
                           {"bos", tokenizer->control_id(ControlToken::kBos).value_or(-1)},
                           {"eos", tokenizer->eos_id()}};
  }
  responder->send(json_answer(props));
}

void serve_ready(Service& service, HttpRequest&, const std::shared_ptr<Responder>& responder) {
  const bool draining = service.draining;
  HttpResponse response = json_answer({{"status", draining ? "draining" : "ready"}}, draining ? 503 : 200);
  if (draining) response.headers.push_back({"Retry-After", "10"});
  responder->send(std::move(response));
}

void serve_metrics(Service& service, HttpRequest&, const std::shared_ptr<Responder>& responder) {
  responder->send({.content_type = "text/plain; version=0.0.4; charset=utf-8", .body = service.metrics->text()});
}

std::string_view absence_reason(std::string_view path) {
  struct Absent {
    std::string_view prefix;
    std::string_view reason;
  };
  static constexpr Absent kAbsent[] = {
      {"/v1/embeddings", "the model generates text; it has no embeddings to give"},
      {"/v1/moderations", "the model does not classify content"},
      {"/v1/audio", "the model reads and writes text only"},
      {"/v1/images", "the model reads and writes text only"},
      {"/v1/videos", "the model reads and writes text only"},
      {"/v1/realtime", "there are no realtime sessions"},
      {"/v1/files", "the server keeps no files"},
      {"/v1/uploads", "the server keeps no files"},
      {"/v1/vector_stores", "the server keeps no files"},
      {"/v1/batches", "there are no batches: send the requests, they run side by side"},
      {"/v1/messages/batches", "there are no batches: send the requests, they run side by side"},
      {"/v1/fine_tuning", "the server does not train"},
      {"/v1/assistants", "use /v1/chat/completions"},
      {"/v1/threads", "use /v1/chat/completions"},
      {"/v1/edits", "use /v1/chat/completions"},
      {"/v1/complete", "use /v1/messages"},
      {"/v1/organizations", "there are no accounts"},
  };
  for (const Absent& absent : kAbsent) {
    const bool matches =
        path.starts_with(absent.prefix) && (path.size() == absent.prefix.size() || path[absent.prefix.size()] == '/');
    if (matches) return absent.reason;
  }
  return {};
}

}  // namespace ds4
