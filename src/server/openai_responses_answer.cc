#include <optional>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/utf8.h"
#include "server/custom_input.h"
#include "server/event_stream.h"
#include "server/openai_responses.h"

namespace ds4 {
namespace {

using Json = nlohmann::ordered_json;

// Some clients take comments for silence, so an event says now and then that the prompt is being computed.
constexpr size_t kTokensPerProgressEvent = 2048;

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

Json parse(const std::string& text) {
  Json json = Json::parse(text, nullptr, false);
  return json.is_discarded() ? Json::object() : json;
}

Json usage_json(const Usage& usage) {
  return {{"input_tokens", usage.prompt_tokens},
          {"input_tokens_details",
           {{"cached_tokens", usage.cached_tokens}, {"cache_write_tokens", usage.prompt_tokens - usage.cached_tokens}}},
          {"output_tokens", usage.completion_tokens},
          {"output_tokens_details", {{"reasoning_tokens", usage.reasoning_tokens}}},
          {"total_tokens", usage.prompt_tokens + usage.completion_tokens}};
}

Json logprob_json(const TokenLogprob& token) {
  Json bytes = Json::array();
  for (const char byte : token.bytes) bytes.push_back(static_cast<uint8_t>(byte));
  return {{"token", replace_ill_formed_utf8(token.bytes)}, {"bytes", std::move(bytes)}, {"logprob", token.logprob}};
}

Json text_part(std::string_view text, Json logprobs) {
  return {{"type", "output_text"}, {"text", text}, {"annotations", Json::array()}, {"logprobs", std::move(logprobs)}};
}
Json reasoning_part(std::string_view text) { return {{"type", "reasoning_text"}, {"text", text}}; }
Json summary_part(std::string_view text) { return {{"type", "summary_text"}, {"text", text}}; }

// The engine's events as those of the protocol, and the response object that they build. Items open and end one after
// the other.
class ResponseEncoder {
 public:
  ResponseEncoder(ResponsesPlan plan, std::shared_ptr<ResponsesMemory> memory)
      : plan_(std::move(plan)), memory_(std::move(memory)), settings_(parse(plan_.settings)) {}

  void begin() {
    event("response.created", {{"response", response("in_progress")}});
    event("response.in_progress", {{"response", response("in_progress")}});
  }

  bool has_ended() const { return has_ended_; }
  const std::optional<Error>& failure() const { return failure_; }
  // The response object. Precondition: has_ended() without a failure.
  std::string take_result() { return std::move(result_); }
  // The text of all events since the last time.
  std::string take_events() { return std::exchange(events_, {}); }

  void encode(const ReasoningDelta& delta) {
    open(ItemKind::kReasoning);
    text_ += delta.text;
    waiting_logprobs_ = Json::array();
    part_event("response.reasoning_text.delta", {{"delta", delta.text}});
    if (plan_.with_summary) summary_event("response.reasoning_summary_text.delta", {{"delta", delta.text}});
  }

  void encode(const TextDelta& delta) {
    open(ItemKind::kMessage);
    text_ += delta.text;
    Json logprobs = std::exchange(waiting_logprobs_, Json::array());
    for (const Json& entry : logprobs) logprobs_.push_back(entry);
    part_event("response.output_text.delta", {{"delta", delta.text}, {"logprobs", std::move(logprobs)}});
  }

  void encode(const ToolCallBegin& call) {
    close("completed");
    const ResponsesTool* declared = plan_.tools.find(call.name);
    tool_ = declared != nullptr ? *declared : ResponsesTool{.name = call.name, .name_space = {}};
    custom_input_ = {};
    waiting_logprobs_ = Json::array();
    kind_ = ItemKind::kCall;
    switch (tool_.kind) {
      case ResponsesToolKind::kFunction: item_ = new_item("fc_", "function_call"); break;
      case ResponsesToolKind::kCustom: item_ = new_item("ctc_", "custom_tool_call"); break;
      case ResponsesToolKind::kToolSearch: item_ = new_item("tsc_", "tool_search_call"); break;
    }
    item_["call_id"] = call.id;
    if (tool_.kind == ResponsesToolKind::kToolSearch) {
      item_["execution"] = "client";
    } else {
      item_["name"] = tool_.name;
      if (!tool_.name_space.empty()) item_["namespace"] = tool_.name_space;
    }
    set_call_text("");
    item_event("response.output_item.added");
  }

  void encode(const ToolCallArgumentsDelta& delta) {
    waiting_logprobs_ = Json::array();
    if (kind_ != ItemKind::kCall) return;
    switch (tool_.kind) {
      case ResponsesToolKind::kFunction: text_ += delta.json_fragment; break;
      case ResponsesToolKind::kCustom: return custom_delta(custom_input_.push(delta.json_fragment));
      case ResponsesToolKind::kToolSearch: return;
    }
    call_event("response.function_call_arguments.delta", {{"delta", delta.json_fragment}});
  }

  void encode(const ToolCallEnd& end) {
    if (kind_ != ItemKind::kCall) return;
    switch (tool_.kind) {
      case ResponsesToolKind::kFunction:
        set_call_text(end.arguments);
        call_event("response.function_call_arguments.done", {{"arguments", end.arguments}, {"name", tool_.name}});
        break;
      case ResponsesToolKind::kCustom:
        custom_delta(custom_input_.finish(end.arguments));
        set_call_text(custom_input_.text());
        call_event("response.custom_tool_call_input.done", {{"input", custom_input_.text()}});
        break;
      case ResponsesToolKind::kToolSearch: item_["arguments"] = parse(end.arguments); break;
    }
    finish_item("completed");
  }

  void encode(const PrefillProgress& progress) {
    if (progress.done_tokens < next_progress_tokens_) return;
    next_progress_tokens_ = progress.done_tokens + kTokensPerProgressEvent;
    event("response.in_progress", {{"response", response("in_progress")}});
  }

  void encode(const TokenLogprobs& token) {
    Json entry = logprob_json(token.chosen);
    entry["top_logprobs"] = Json::array();
    for (const TokenLogprob& other : token.top) entry["top_logprobs"].push_back(logprob_json(other));
    waiting_logprobs_.push_back(std::move(entry));
  }

  void encode(const Finished& finished) {
    const bool is_cut_off = finished.reason == FinishReason::kLength;
    close(is_cut_off ? "incomplete" : "completed");
    const std::string status = is_cut_off ? "incomplete" : "completed";
    Json whole = response(status);
    if (is_cut_off) {
      whole["incomplete_details"] = {{"reason", "max_output_tokens"}};
    } else {
      whole["completed_at"] = unix_time_s();
    }
    whole["usage"] = usage_json(finished.usage);
    has_ended_ = true;
    result_ = dump(whole);
    if (plan_.is_stored) store();
    log_end(status, finished.usage);
    event("response." + status, {{"response", std::move(whole)}});
  }

  void encode(const Failed& failed) {
    failure_ = failed.error;
    return fail(to_api_error(failed.error, ""));
  }

  void fail(const ApiError& error) {
    has_ended_ = true;
    log_warn("response failed", {{"id", plan_.id}, {"error", error.message}});
    Json whole = response("failed");
    const std::string code = error.code == "context_length_exceeded" ? error.code : "server_error";
    whole["error"] = {{"code", code}, {"message", error.message}};
    event("response.failed", {{"response", std::move(whole)}});
  }

 private:
  enum class ItemKind { kNone, kReasoning, kMessage, kCall };

  Json response(std::string_view status) const {
    Json json = {
        {"id", plan_.id},       {"object", "response"}, {"created_at", plan_.created_s}, {"completed_at", nullptr},
        {"status", status},     {"error", nullptr},     {"incomplete_details", nullptr}, {"access_programs", nullptr},
        {"model", plan_.model}, {"output", output_}};
    for (const auto& [key, value] : settings_.items()) json[key] = value;
    json["usage"] = nullptr;
    if (status == "in_progress" || status == "failed") json.erase("usage");
    return json;
  }

  void event(const std::string& type, Json members) {
    Json json = {{"type", type}, {"sequence_number", sequence_number_++}};
    for (auto& [key, value] : members.items()) json[key] = std::move(value);
    events_ += sse_event(type, dump(json));
  }
  void item_event(const std::string& type) { event(type, {{"output_index", output_.size()}, {"item", item_}}); }
  void call_event(const std::string& type, const Json& members) {
    Json json = {{"item_id", item_["id"]}, {"output_index", output_.size()}};
    json.update(members);
    event(type, std::move(json));
  }
  void part_event(const std::string& type, const Json& members) {
    Json json = {{"item_id", item_["id"]}, {"output_index", output_.size()}, {"content_index", 0}};
    json.update(members);
    event(type, std::move(json));
  }
  void summary_event(const std::string& type, const Json& members) {
    Json json = {{"item_id", item_["id"]}, {"output_index", output_.size()}, {"summary_index", 0}};
    json.update(members);
    event(type, std::move(json));
  }

  // Made of the response's id, so nobody guesses them, and the same events give the same ids.
  Json new_item(std::string_view prefix, std::string_view type) {
    const std::string_view unique = std::string_view(plan_.id).substr(plan_.id.find('_') + 1);
    text_.clear();
    return {
        {"id", fmt::format("{}{}{:04x}", prefix, unique, output_.size())}, {"type", type}, {"status", "in_progress"}};
  }

  void open(ItemKind kind) {
    if (kind_ == kind) return;
    close("completed");
    kind_ = kind;
    if (kind == ItemKind::kReasoning) {
      item_ = new_item("rs_", "reasoning");
      item_["summary"] = Json::array();
      item_["content"] = Json::array();
      item_event("response.output_item.added");
      part_event("response.content_part.added", {{"part", reasoning_part("")}});
      if (plan_.with_summary) {
        summary_event("response.reasoning_summary_part.added", {{"part", summary_part("")}});
      }
      return;
    }
    item_ = new_item("msg_", "message");
    item_["role"] = "assistant";
    item_["content"] = Json::array();
    logprobs_ = Json::array();
    item_event("response.output_item.added");
    part_event("response.content_part.added", {{"part", text_part("", Json::array())}});
  }

  void close(std::string_view status) {
    switch (kind_) {
      case ItemKind::kNone: return;
      case ItemKind::kReasoning: close_reasoning(); break;
      case ItemKind::kMessage: close_message(); break;
      case ItemKind::kCall: return keep_unfinished_call();
    }
    finish_item(status);
  }

  void close_reasoning() {
    Json part = reasoning_part(text_);
    item_["content"] = Json::array({part});
    part_event("response.reasoning_text.done", {{"text", text_}});
    part_event("response.content_part.done", {{"part", std::move(part)}});
    if (plan_.with_summary) {
      item_["summary"] = Json::array({summary_part(text_)});
      summary_event("response.reasoning_summary_text.done", {{"text", text_}});
      summary_event("response.reasoning_summary_part.done", {{"part", summary_part(text_)}});
    }
    if (plan_.with_sealed_reasoning) item_["encrypted_content"] = memory_->sealer.seal(text_);
  }

  void close_message() {
    Json part = text_part(text_, logprobs_);
    item_["content"] = Json::array({part});
    part_event("response.output_text.done", {{"text", text_}, {"logprobs", logprobs_}});
    part_event("response.content_part.done", {{"part", std::move(part)}});
  }

  void finish_item(std::string_view status) {
    item_["status"] = status;
    item_event("response.output_item.done");
    output_.push_back(std::move(item_));
    kind_ = ItemKind::kNone;
  }

  // Clients run a call as soon as its item is done, so that is never said of one that was cut off.
  void keep_unfinished_call() {
    if (tool_.kind == ResponsesToolKind::kFunction) set_call_text(std::string(text_));
    if (tool_.kind == ResponsesToolKind::kCustom) set_call_text(custom_input_.text());
    item_["status"] = "incomplete";
    output_.push_back(std::move(item_));
    kind_ = ItemKind::kNone;
  }

  void custom_delta(const std::string& text) {
    if (text.empty()) return;
    call_event("response.custom_tool_call_input.delta", {{"delta", text}});
  }

  void set_call_text(const std::string& text) {
    switch (tool_.kind) {
      case ResponsesToolKind::kFunction: item_["arguments"] = text; break;
      case ResponsesToolKind::kCustom: item_["input"] = text; break;
      case ResponsesToolKind::kToolSearch: item_["arguments"] = Json::object(); break;
    }
  }

  void store() {
    StoredResponse stored{.id = plan_.id, .json = result_, .input = std::move(plan_.input), .output = {}};
    for (const Json& item : output_) {
      stored.output.push_back(
          std::make_shared<const StoredItem>(StoredItem{.id = item["id"].get<std::string>(), .json = dump(item)}));
    }
    memory_->store.put(std::move(stored));
  }

  void log_end(std::string_view status, const Usage& usage) const {
    log_info("response done", {{"id", plan_.id},
                               {"status", status},
                               {"prompt_tokens", usage.prompt_tokens},
                               {"cached_tokens", usage.cached_tokens},
                               {"completion_tokens", usage.completion_tokens}});
  }

  ResponsesPlan plan_;
  const std::shared_ptr<ResponsesMemory> memory_;  // null: nothing is stored or sealed
  const Json settings_;
  Json output_ = Json::array();
  std::string events_;
  size_t sequence_number_ = 0;
  size_t next_progress_tokens_ = kTokensPerProgressEvent;

  ItemKind kind_ = ItemKind::kNone;
  Json item_;
  std::string text_;  // of the open item
  Json logprobs_ = Json::array();
  Json waiting_logprobs_ = Json::array();  // until the text that they became tells where they belong
  ResponsesTool tool_;
  CustomInput custom_input_;

  bool has_ended_ = false;
  std::optional<Error> failure_;
  std::string result_;
};

class ResponsesStream final : public AnswerSink {
 public:
  ResponsesStream(ResponsesPlan plan, std::shared_ptr<ResponsesMemory> memory, std::shared_ptr<Responder> responder)
      : encoder_(std::move(plan), std::move(memory)), responder_(std::move(responder)) {}

  void begin() override {
    encoder_.begin();
    responder_->begin_stream(event_stream_head(encoder_.take_events()), sse_comment("keep-alive"));
  }

  void on_events(size_t, OutputEvents events) override {
    write_events(events, *responder_, [this](const auto& event) {
      encoder_.encode(event);
      return encoder_.take_events();
    });
    if (encoder_.has_ended()) responder_->end();
  }

 private:
  ResponseEncoder encoder_;
  const std::shared_ptr<Responder> responder_;
};

class ResponsesAnswer final : public AnswerSink {
 public:
  ResponsesAnswer(ResponsesPlan plan, std::shared_ptr<ResponsesMemory> memory, std::shared_ptr<Responder> responder)
      : encoder_(std::move(plan), std::move(memory)), responder_(std::move(responder)) {}

  void begin() override {}

  void on_events(size_t, OutputEvents events) override {
    for (const OutputEvent& event : events) {
      std::visit([this](const auto& e) { encoder_.encode(e); }, event);
    }
    encoder_.take_events();
    if (!encoder_.has_ended()) return;
    if (const auto& failure = encoder_.failure()) {
      return responder_->send(openai_error_response(to_api_error(*failure, "")));
    }
    responder_->send({.content_type = "application/json", .body = encoder_.take_result() + "\n"});
  }

 private:
  ResponseEncoder encoder_;
  const std::shared_ptr<Responder> responder_;
};

}  // namespace

std::shared_ptr<AnswerSink> make_responses_stream(ResponsesPlan plan, std::shared_ptr<ResponsesMemory> memory,
                                                  std::shared_ptr<Responder> responder) {
  return std::make_shared<ResponsesStream>(std::move(plan), std::move(memory), std::move(responder));
}

std::shared_ptr<AnswerSink> make_responses_answer(ResponsesPlan plan, std::shared_ptr<ResponsesMemory> memory,
                                                  std::shared_ptr<Responder> responder) {
  return std::make_shared<ResponsesAnswer>(std::move(plan), std::move(memory), std::move(responder));
}

std::string failed_responses_stream(ResponsesPlan plan, const ApiError& error) {
  ResponseEncoder encoder(std::move(plan), nullptr);
  encoder.begin();
  encoder.fail(error);
  return encoder.take_events();
}

}  // namespace ds4
