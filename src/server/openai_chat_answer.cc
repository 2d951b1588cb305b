#include <mutex>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/utf8.h"
#include "server/openai_chat.h"
#include "server/sse.h"

namespace ds4 {
namespace {

using Json = nlohmann::ordered_json;

// Everything that comes from a model or a client is well-formed UTF-8 by now; the handler keeps dump() from throwing.
std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string_view finish_name(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop: return "stop";
    case FinishReason::kLength: return "length";
    case FinishReason::kToolCalls: return "tool_calls";
    case FinishReason::kCancelled: break;
  }
  return "stop";
}

Error cancelled_error() { return make_error(ErrorCode::kCancelled, "the request was cancelled: the server stops"); }

Json usage_json(const Usage& usage) {
  return {{"prompt_tokens", usage.prompt_tokens},
          {"completion_tokens", usage.completion_tokens},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens},
          {"prompt_tokens_details", {{"cached_tokens", usage.cached_tokens}}},
          {"completion_tokens_details", {{"reasoning_tokens", usage.reasoning_tokens}}}};
}

Json logprob_json(const TokenLogprob& token) {
  Json bytes = Json::array();
  for (const char byte : token.bytes) bytes.push_back(static_cast<uint8_t>(byte));
  return {{"token", replace_ill_formed_utf8(token.bytes)}, {"logprob", token.logprob}, {"bytes", std::move(bytes)}};
}

// Tokens wait here until the text that they became tells where they belong; those of tool calls have no place.
class LogprobList {
 public:
  void add(const TokenLogprobs& token) {
    Json entry = logprob_json(token.chosen);
    entry["top_logprobs"] = Json::array();
    for (const TokenLogprob& other : token.top) entry["top_logprobs"].push_back(logprob_json(other));
    waiting_.push_back(std::move(entry));
  }
  Json take() { return std::exchange(waiting_, Json::array()); }

 private:
  Json waiting_ = Json::array();
};

void log_end(const ChatAnswerInfo& info, std::string_view finish, const Usage& usage) {
  log_info("chat done", {{"id", info.id},
                         {"finish", finish},
                         {"prompt_tokens", usage.prompt_tokens},
                         {"cached_tokens", usage.cached_tokens},
                         {"completion_tokens", usage.completion_tokens}});
}

void log_failure(const ChatAnswerInfo& info, const Error& error) {
  log_warn("chat failed", {{"id", info.id}, {"error", error.message}});
}

// One chunk per event. The mutex orders begin(), which the I/O thread calls, against the engine's events.
class ChatStream final : public AnswerSink {
 public:
  ChatStream(ChatAnswerInfo info, std::shared_ptr<Responder> responder)
      : info_(std::move(info)), responder_(std::move(responder)) {}

  void begin() override {
    const std::lock_guard lock(mutex_);
    begin_once();
  }

  void on_events(OutputEvents events) override {
    const std::lock_guard lock(mutex_);
    begin_once();
    std::string bytes;
    for (const OutputEvent& event : events) {
      bytes += std::visit([this](const auto& e) { return encode(e); }, event);
    }
    if (!bytes.empty()) responder_->write(std::move(bytes));
    if (ended_) responder_->end();
  }

 private:
  void begin_once() {
    if (std::exchange(begun_, true)) return;
    HttpResponse head{.content_type = std::string(kSseContentType)};
    head.headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}};
    head.body = delta({{"role", "assistant"}, {"content", ""}});
    responder_->begin_stream(std::move(head), sse_comment("keep-alive"));
  }

  std::string encode(const ReasoningDelta& event) { return text_delta("reasoning_content", event.text); }
  std::string encode(const TextDelta& event) { return text_delta("content", event.text); }

  std::string encode(const ToolCallBegin& event) {
    return call_delta({{"index", event.index},
                       {"id", event.id},
                       {"type", "function"},
                       {"function", {{"name", event.name}, {"arguments", ""}}}});
  }
  std::string encode(const ToolCallArgumentsDelta& event) {
    return call_delta({{"index", event.index}, {"function", {{"arguments", event.json_fragment}}}});
  }
  std::string encode(const ToolCallEnd&) { return {}; }
  std::string encode(const PrefillProgress&) { return {}; }
  std::string encode(const TokenLogprobs& event) {
    logprobs_.add(event);
    with_logprobs_ = true;
    return {};
  }

  std::string encode(const Finished& event) {
    if (event.reason == FinishReason::kCancelled) return encode(Failed{cancelled_error()});
    ended_ = true;
    log_end(info_, finish_name(event.reason), event.usage);
    std::string bytes = chunk(
        {{"index", 0}, {"delta", Json::object()}, {"logprobs", nullptr}, {"finish_reason", finish_name(event.reason)}});
    if (info_.include_usage) {
      Json last = envelope();
      last["choices"] = Json::array();
      last["usage"] = usage_json(event.usage);
      bytes += sse_data(dump(last));
    }
    return bytes + sse_data("[DONE]");
  }

  // Clients take a stream without its end for cut off; the event says why.
  std::string encode(const Failed& event) {
    ended_ = true;
    log_failure(info_, event.error);
    return sse_event("error", openai_error_json(to_api_error(event.error, "")));
  }

  std::string text_delta(std::string_view key, const std::string& text) {
    Json logprobs = nullptr;
    if (with_logprobs_) {
      logprobs = {{"content", nullptr}, {"refusal", nullptr}};
      logprobs[std::string(key)] = logprobs_.take();
    }
    return delta({{std::string(key), text}}, std::move(logprobs));
  }

  std::string call_delta(Json call) {
    logprobs_.take();
    return delta({{"tool_calls", Json::array({std::move(call)})}});
  }

  std::string delta(Json content, Json logprobs = nullptr) {
    return chunk(
        {{"index", 0}, {"delta", std::move(content)}, {"logprobs", std::move(logprobs)}, {"finish_reason", nullptr}});
  }

  std::string chunk(Json choice) {
    Json json = envelope();
    json["choices"] = Json::array({std::move(choice)});
    if (info_.include_usage) json["usage"] = nullptr;
    return sse_data(dump(json));
  }

  Json envelope() const {
    return {{"id", info_.id},
            {"object", "chat.completion.chunk"},
            {"created", info_.created_s},
            {"model", info_.model},
            {"system_fingerprint", info_.system_fingerprint}};
  }

  std::mutex mutex_;
  const ChatAnswerInfo info_;
  const std::shared_ptr<Responder> responder_;
  LogprobList logprobs_;
  bool with_logprobs_ = false;
  bool begun_ = false;
  bool ended_ = false;
};

// Collects everything and sends it at the end.
class ChatAnswer final : public AnswerSink {
 public:
  ChatAnswer(ChatAnswerInfo info, std::shared_ptr<Responder> responder)
      : info_(std::move(info)), responder_(std::move(responder)) {}

  void begin() override {}

  void on_events(OutputEvents events) override {
    for (OutputEvent& event : events) {
      std::visit([this](auto& e) { add(e); }, event);
    }
  }

 private:
  void add(const ReasoningDelta& event) {
    reasoning_ += event.text;
    move_logprobs("reasoning_content");
  }
  void add(const TextDelta& event) {
    content_ += event.text;
    move_logprobs("content");
  }
  void add(const ToolCallBegin& event) {
    call_ = event;
    waiting_logprobs_.take();
  }
  void add(const ToolCallArgumentsDelta&) { waiting_logprobs_.take(); }
  void add(const ToolCallEnd& event) {
    tool_calls_.push_back(
        {{"id", call_.id}, {"type", "function"}, {"function", {{"name", call_.name}, {"arguments", event.arguments}}}});
  }
  void add(const PrefillProgress&) {}
  void add(const TokenLogprobs& event) {
    if (logprobs_.is_null()) logprobs_ = {{"content", Json::array()}, {"refusal", nullptr}};
    waiting_logprobs_.add(event);
  }

  void add(const Finished& event) {
    if (event.reason == FinishReason::kCancelled) return add(Failed{cancelled_error()});
    log_end(info_, finish_name(event.reason), event.usage);
    Json message = {{"role", "assistant"}, {"content", content_}, {"refusal", nullptr}};
    if (content_.empty() && !tool_calls_.empty()) message["content"] = nullptr;
    if (!reasoning_.empty()) message["reasoning_content"] = reasoning_;
    if (!tool_calls_.empty()) message["tool_calls"] = tool_calls_;
    const Json answer = {{"id", info_.id},
                         {"object", "chat.completion"},
                         {"created", info_.created_s},
                         {"model", info_.model},
                         {"system_fingerprint", info_.system_fingerprint},
                         {"choices", Json::array({{{"index", 0},
                                                   {"message", std::move(message)},
                                                   {"logprobs", logprobs_},
                                                   {"finish_reason", finish_name(event.reason)}}})},
                         {"usage", usage_json(event.usage)}};
    responder_->send({.content_type = "application/json", .body = dump(answer) + "\n"});
  }

  void add(const Failed& event) {
    log_failure(info_, event.error);
    responder_->send(openai_error_response(to_api_error(event.error, "")));
  }

  void move_logprobs(const char* key) {
    if (logprobs_.is_null()) return;
    for (Json& entry : waiting_logprobs_.take()) logprobs_[key].push_back(std::move(entry));
  }

  const ChatAnswerInfo info_;
  const std::shared_ptr<Responder> responder_;
  std::string reasoning_;
  std::string content_;
  ToolCallBegin call_;
  Json tool_calls_ = Json::array();
  Json logprobs_ = nullptr;
  LogprobList waiting_logprobs_;
};

}  // namespace

std::shared_ptr<AnswerSink> make_chat_stream(ChatAnswerInfo info, std::shared_ptr<Responder> responder) {
  return std::make_shared<ChatStream>(std::move(info), std::move(responder));
}

std::shared_ptr<AnswerSink> make_chat_answer(ChatAnswerInfo info, std::shared_ptr<Responder> responder) {
  return std::make_shared<ChatAnswer>(std::move(info), std::move(responder));
}

}  // namespace ds4
