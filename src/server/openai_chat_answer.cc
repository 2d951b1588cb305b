#include <utility>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/utf8.h"
#include "server/choices.h"
#include "server/event_stream.h"
#include "server/openai_chat.h"

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

// One chunk per event.
class ChatStream final : public AnswerSink {
 public:
  ChatStream(ChatAnswerInfo info, std::shared_ptr<Responder> responder)
      : info_(std::move(info)), responder_(std::move(responder)), choices_(static_cast<size_t>(info_.n)) {}

  void begin() override {
    std::string bytes;
    for (index_ = 0; index_ < choices_.size(); ++index_) bytes += delta({{"role", "assistant"}, {"content", ""}});
    responder_->begin_stream(event_stream_head(std::move(bytes)), sse_comment("keep-alive"));
  }

  void on_events(size_t choice, OutputEvents events) override {
    index_ = choice;
    write_events(events, *responder_, [this](const auto& event) { return encode(event); });
    if (ended_) responder_->end();
  }

 private:
  struct Choice {
    LogprobList logprobs;
    bool with_logprobs = false;
  };

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
    choice().logprobs.add(event);
    choice().with_logprobs = true;
    return {};
  }

  std::string encode(const Finished& event) {
    add_choice_usage(usage_, event.usage, index_ == 0);
    std::string bytes = chunk({{"index", index_},
                               {"delta", Json::object()},
                               {"logprobs", nullptr},
                               {"finish_reason", finish_name(event.reason)}});
    ended_ = ++n_finished_ == choices_.size();
    if (!ended_) return bytes;
    log_end(info_, finish_name(event.reason), usage_);
    if (info_.include_usage) {
      Json last = envelope();
      last["choices"] = Json::array();
      last["usage"] = usage_json(usage_);
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
    if (choice().with_logprobs) {
      logprobs = {{"content", nullptr}, {"refusal", nullptr}};
      logprobs[std::string(key)] = choice().logprobs.take();
    }
    return delta({{std::string(key), text}}, std::move(logprobs));
  }

  std::string call_delta(Json call) {
    choice().logprobs.take();
    return delta({{"tool_calls", Json::array({std::move(call)})}});
  }

  std::string delta(Json content, Json logprobs = nullptr) {
    return chunk({{"index", index_},
                  {"delta", std::move(content)},
                  {"logprobs", std::move(logprobs)},
                  {"finish_reason", nullptr}});
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

  Choice& choice() { return choices_[index_]; }

  const ChatAnswerInfo info_;
  const std::shared_ptr<Responder> responder_;
  std::vector<Choice> choices_;
  size_t index_ = 0;  // of the choice whose events come
  size_t n_finished_ = 0;
  Usage usage_;
  bool ended_ = false;
};

// Collects everything and sends it at the end.
class ChatAnswer final : public AnswerSink {
 public:
  ChatAnswer(ChatAnswerInfo info, std::shared_ptr<Responder> responder)
      : info_(std::move(info)), responder_(std::move(responder)), choices_(static_cast<size_t>(info_.n)) {}

  void begin() override {}

  void on_events(size_t choice, OutputEvents events) override {
    for (const OutputEvent& event : events) {
      std::visit([&](const auto& e) { add(e, choices_[choice]); }, event);
    }
    if (n_finished_ == choices_.size()) send();
  }

 private:
  struct Choice {
    std::string reasoning;
    std::string content;
    ToolCallBegin call;
    Json tool_calls = Json::array();
    Json logprobs = nullptr;
    LogprobList waiting_logprobs;
    std::string_view finish;
    Usage usage;
  };

  static void add(const ReasoningDelta& event, Choice& choice) {
    choice.reasoning += event.text;
    move_logprobs("reasoning_content", choice);
  }
  static void add(const TextDelta& event, Choice& choice) {
    choice.content += event.text;
    move_logprobs("content", choice);
  }
  static void add(const ToolCallBegin& event, Choice& choice) {
    choice.call = event;
    choice.waiting_logprobs.take();
  }
  static void add(const ToolCallArgumentsDelta&, Choice& choice) { choice.waiting_logprobs.take(); }
  static void add(const ToolCallEnd& event, Choice& choice) {
    choice.tool_calls.push_back({{"id", choice.call.id},
                                 {"type", "function"},
                                 {"function", {{"name", choice.call.name}, {"arguments", event.arguments}}}});
  }
  static void add(const PrefillProgress&, const Choice&) {}
  static void add(const TokenLogprobs& event, Choice& choice) {
    if (choice.logprobs.is_null()) choice.logprobs = {{"content", Json::array()}, {"refusal", nullptr}};
    choice.waiting_logprobs.add(event);
  }
  void add(const Finished& event, Choice& choice) {
    choice.finish = finish_name(event.reason);
    choice.usage = event.usage;
    ++n_finished_;
  }

  void send() {
    Usage usage;
    Json choices = Json::array();
    for (size_t i = 0; i < choices_.size(); ++i) {
      add_choice_usage(usage, choices_[i].usage, i == 0);
      choices.push_back(choice_json(i));
    }
    log_end(info_, choices_.front().finish, usage);
    const Json answer = {{"id", info_.id},
                         {"object", "chat.completion"},
                         {"created", info_.created_s},
                         {"model", info_.model},
                         {"system_fingerprint", info_.system_fingerprint},
                         {"choices", std::move(choices)},
                         {"usage", usage_json(usage)}};
    responder_->send({.content_type = "application/json", .body = dump(answer) + "\n"});
  }

  Json choice_json(size_t index) const {
    const Choice& choice = choices_[index];
    Json message = {{"role", "assistant"}, {"content", choice.content}, {"refusal", nullptr}};
    if (choice.content.empty() && !choice.tool_calls.empty()) message["content"] = nullptr;
    if (!choice.reasoning.empty()) message["reasoning_content"] = choice.reasoning;
    if (!choice.tool_calls.empty()) message["tool_calls"] = choice.tool_calls;
    return {{"index", index},
            {"message", std::move(message)},
            {"logprobs", choice.logprobs},
            {"finish_reason", choice.finish}};
  }

  void add(const Failed& event, const Choice&) {
    log_failure(info_, event.error);
    responder_->send(openai_error_response(to_api_error(event.error, "")));
  }

  static void move_logprobs(const char* key, Choice& choice) {
    if (choice.logprobs.is_null()) return;
    for (Json& entry : choice.waiting_logprobs.take()) choice.logprobs[key].push_back(std::move(entry));
  }

  const ChatAnswerInfo info_;
  const std::shared_ptr<Responder> responder_;
  std::vector<Choice> choices_;
  size_t n_finished_ = 0;
};

}  // namespace

std::shared_ptr<AnswerSink> make_chat_stream(ChatAnswerInfo info, std::shared_ptr<Responder> responder) {
  return std::make_shared<ChatStream>(std::move(info), std::move(responder));
}

std::shared_ptr<AnswerSink> make_chat_answer(ChatAnswerInfo info, std::shared_ptr<Responder> responder) {
  return std::make_shared<ChatAnswer>(std::move(info), std::move(responder));
}

}  // namespace ds4
