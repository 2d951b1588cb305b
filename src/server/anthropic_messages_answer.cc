#include <utility>

#include <fmt/format.h>

#include "base/log.h"
#include "chat/python_json.h"
#include "server/anthropic_messages.h"
#include "server/anthropic_signature.h"
#include "server/event_stream.h"

// JSON is written as text here: the arguments of a call must arrive with the keys, numbers and spaces that the model
// wrote, as a part of the message.

namespace ds4 {
namespace {

constexpr std::string_view kPing = R"({"type":"ping"})";

struct Ending {
  std::string_view reason;
  std::string stop_sequence = "null";  // JSON
};

Ending ending_of(const Finished& event, const MessageInfo& info) {
  switch (event.reason) {
    case FinishReason::kToolCalls: return {"tool_use"};
    case FinishReason::kLength:
      // What ended before its own limit filled the context.
      return {event.usage.completion_tokens < static_cast<size_t>(info.max_tokens) ? "model_context_window_exceeded"
                                                                                   : "max_tokens"};
    case FinishReason::kStop:
    case FinishReason::kCancelled: break;
  }
  if (event.stop_string.empty()) return {"end_turn"};
  return {"stop_sequence", json_string(event.stop_string)};
}

// The fields that both usage objects have.
std::string usage_fields(const Usage& usage, const MessageInfo& info) {
  return fmt::format(
      R"("input_tokens":{},"cache_creation_input_tokens":0,"cache_read_input_tokens":{},"output_tokens":{},)"
      R"("output_tokens_details":{{"thinking_tokens":{}}},"server_tool_use":null{})",
      usage.prompt_tokens - usage.cached_tokens, usage.cached_tokens, usage.completion_tokens, usage.reasoning_tokens,
      info.is_beta ? R"(,"iterations":null,"fallback_credit":null)" : "");
}

std::string_view beta_fields(const MessageInfo& info) { return info.is_beta ? R"(,"context_management":null)" : ""; }

// `content` is the inside of the array; `reason` and `stop_sequence` are JSON.
std::string message_json(const MessageInfo& info, std::string_view content, std::string_view reason,
                         std::string_view stop_sequence, const Usage& usage) {
  return fmt::format(
      R"({{"id":{},"type":"message","role":"assistant","model":{},"content":[{}],"stop_reason":{},"stop_sequence":{},)"
      R"("stop_details":null,"container":null,"diagnostics":null{},"usage":{{{},"cache_creation":)"
      R"({{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0}},"service_tier":"standard",)"
      R"("inference_geo":null,"speed":null}}}})",
      json_string(info.id), json_string(info.model), content, reason, stop_sequence, beta_fields(info),
      usage_fields(usage, info));
}

std::string text_block(std::string_view text) {
  return fmt::format(R"({{"type":"text","text":{},"citations":null}})", json_string(text));
}

std::string thinking_block(std::string_view text, std::string_view signature) {
  return fmt::format(R"({{"type":"thinking","thinking":{},"signature":{}}})", json_string(text),
                     json_string(signature));
}

// `input` is JSON.
std::string tool_use_block(const ToolCallBegin& call, std::string_view input) {
  return fmt::format(R"({{"type":"tool_use","id":{},"name":{},"input":{},"caller":{{"type":"direct"}}}})",
                     json_string(call.id), json_string(call.name), input);
}

std::string signature_of(std::string_view thinking, const MessageInfo& info) {
  return sign_thinking(thinking, info.omits_thinking ? SignatureKind::kText : SignatureKind::kHash);
}

void log_end(const MessageInfo& info, const Ending& ending, const Usage& usage) {
  log_info("messages done", {{"id", info.id},
                             {"finish", ending.reason},
                             {"prompt_tokens", usage.prompt_tokens},
                             {"cached_tokens", usage.cached_tokens},
                             {"completion_tokens", usage.completion_tokens}});
}

void log_failure(const MessageInfo& info, const Error& error) {
  log_warn("messages failed", {{"id", info.id}, {"error", error.message}});
}

enum class BlockKind { kNone, kThinking, kText, kToolUse };

// The events of one message, block after block.
class MessageStream final : public AnswerSink {
 public:
  MessageStream(MessageInfo info, std::shared_ptr<Responder> responder)
      : info_(std::move(info)), responder_(std::move(responder)) {}

  void begin() override {
    const Usage usage{.prompt_tokens = info_.prompt_tokens};
    const std::string message = message_json(info_, "", "null", "null", usage);
    // Watchdogs of clients look at events, not at comments.
    const std::string ping = sse_event("ping", kPing);
    HttpResponse head = event_stream_head(event("message_start", fmt::format(R"("message":{})", message)) + ping);
    head.headers.push_back({"request-id", info_.request_id});
    responder_->begin_stream(std::move(head), ping);
  }

  void on_events(size_t, OutputEvents events) override {
    write_events(events, *responder_, [this](const auto& event) { return encode(event); });
    if (ended_) responder_->end();
  }

 private:
  std::string encode(const ReasoningDelta& delta) {
    std::string bytes = open(BlockKind::kThinking, thinking_block("", ""));
    thinking_ += delta.text;
    if (info_.omits_thinking) return bytes;
    return bytes + block_delta(fmt::format(R"("type":"thinking_delta","thinking":{}{})", json_string(delta.text),
                                           info_.is_beta ? R"(,"estimated_tokens":null)" : ""));
  }
  std::string encode(const TextDelta& delta) {
    has_answer_ = true;
    std::string bytes = open(BlockKind::kText, text_block(""));
    return bytes + block_delta(fmt::format(R"("type":"text_delta","text":{})", json_string(delta.text)));
  }
  std::string encode(const ToolCallBegin& call) {
    has_answer_ = true;
    std::string bytes = close();
    return bytes + open(BlockKind::kToolUse, tool_use_block(call, "{}"));
  }
  std::string encode(const ToolCallArgumentsDelta& delta) {
    return block_delta(fmt::format(R"("type":"input_json_delta","partial_json":{})", json_string(delta.json_fragment)));
  }
  std::string encode(const ToolCallEnd&) { return close(); }
  std::string encode(const PrefillProgress&) { return {}; }
  std::string encode(const TokenLogprobs&) { return {}; }

  std::string encode(const Finished& finished) {
    ended_ = true;
    const Ending ending = ending_of(finished, info_);
    log_end(info_, ending, finished.usage);
    std::string bytes = close();
    if (!has_answer_) {
      bytes += open(BlockKind::kText, text_block(""));
      bytes += close();
    }
    bytes +=
        event("message_delta", fmt::format(R"("delta":{{"stop_reason":"{}","stop_sequence":{},"stop_details":null,)"
                                           R"("container":null}},"usage":{{{}}}{})",
                                           ending.reason, ending.stop_sequence, usage_fields(finished.usage, info_),
                                           beta_fields(info_)));
    return bytes + sse_event("message_stop", R"({"type":"message_stop"})");
  }

  std::string encode(const Failed& failed) {
    ended_ = true;
    log_failure(info_, failed.error);
    return sse_event("error", anthropic_error_json(to_api_error(failed.error, ""), info_.request_id));
  }

  // Goes on in the open block if it is of that kind.
  std::string open(BlockKind kind, std::string_view block) {
    if (kind_ == kind) return {};
    std::string bytes = close();
    kind_ = kind;
    return bytes + event("content_block_start", fmt::format(R"("index":{},"content_block":{})", n_blocks_, block));
  }

  std::string close() {
    if (kind_ == BlockKind::kNone) return {};
    std::string bytes;
    if (kind_ == BlockKind::kThinking) {
      const std::string signature = signature_of(std::exchange(thinking_, {}), info_);
      bytes = block_delta(fmt::format(R"("type":"signature_delta","signature":{})", json_string(signature)));
    }
    kind_ = BlockKind::kNone;
    return bytes + event("content_block_stop", fmt::format(R"("index":{})", n_blocks_++));
  }

  std::string block_delta(std::string_view fields) const {
    return event("content_block_delta", fmt::format(R"("index":{},"delta":{{{}}})", n_blocks_, fields));
  }

  static std::string event(std::string_view type, std::string_view fields) {
    return sse_event(type, fmt::format(R"({{"type":"{}",{}}})", type, fields));
  }

  const MessageInfo info_;
  const std::shared_ptr<Responder> responder_;
  BlockKind kind_ = BlockKind::kNone;
  size_t n_blocks_ = 0;  // those that are closed: the index of the next or open one
  std::string thinking_;
  bool has_answer_ = false;
  bool ended_ = false;
};

// Collects everything and sends it at the end.
class MessageAnswer final : public AnswerSink {
 public:
  MessageAnswer(MessageInfo info, std::shared_ptr<Responder> responder)
      : info_(std::move(info)), responder_(std::move(responder)) {}

  void begin() override {}

  void on_events(size_t, OutputEvents events) override {
    for (const OutputEvent& event : events) {
      std::visit([this](const auto& e) { add(e); }, event);
    }
  }

 private:
  void add(const ReasoningDelta& event) { add_text(BlockKind::kThinking, event.text); }
  void add(const TextDelta& event) { add_text(BlockKind::kText, event.text); }
  void add(const ToolCallBegin& event) {
    close();
    call_ = event;
  }
  void add(const ToolCallArgumentsDelta&) {}
  void add(const ToolCallEnd& event) { add_block(BlockKind::kToolUse, tool_use_block(call_, event.arguments)); }
  void add(const PrefillProgress&) {}
  void add(const TokenLogprobs&) {}

  void add(const Finished& event) {
    const Ending ending = ending_of(event, info_);
    log_end(info_, ending, event.usage);
    close();
    if (!has_answer_) add_block(BlockKind::kText, text_block(""));
    responder_->send(
        {.content_type = "application/json",
         .body = message_json(info_, content_, json_string(ending.reason), ending.stop_sequence, event.usage) + "\n",
         .headers = {{"request-id", info_.request_id}}});
  }

  void add(const Failed& event) {
    log_failure(info_, event.error);
    responder_->send(anthropic_error_response(to_api_error(event.error, ""), info_.request_id));
  }

  void add_text(BlockKind kind, std::string_view text) {
    if (kind_ != kind) close();
    kind_ = kind;
    text_ += text;
  }

  void close() {
    const BlockKind kind = std::exchange(kind_, BlockKind::kNone);
    const std::string text = std::exchange(text_, {});
    if (kind == BlockKind::kText) add_block(kind, text_block(text));
    if (kind == BlockKind::kThinking) {
      add_block(kind, thinking_block(info_.omits_thinking ? std::string_view() : text, signature_of(text, info_)));
    }
  }

  void add_block(BlockKind kind, std::string_view block) {
    if (!content_.empty()) content_ += ",";
    content_ += block;
    has_answer_ = has_answer_ || kind != BlockKind::kThinking;
  }

  const MessageInfo info_;
  const std::shared_ptr<Responder> responder_;
  BlockKind kind_ = BlockKind::kNone;
  std::string text_;  // of the open block
  ToolCallBegin call_;
  std::string content_;
  bool has_answer_ = false;
};

}  // namespace

std::shared_ptr<AnswerSink> make_message_stream(MessageInfo info, std::shared_ptr<Responder> responder) {
  return std::make_shared<MessageStream>(std::move(info), std::move(responder));
}

std::shared_ptr<AnswerSink> make_message_answer(MessageInfo info, std::shared_ptr<Responder> responder) {
  return std::make_shared<MessageAnswer>(std::move(info), std::move(responder));
}

}  // namespace ds4
