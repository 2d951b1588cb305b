#include <algorithm>
#include <utility>

#include <nlohmann/json.hpp>

#include "base/log.h"
#include "base/utf8.h"
#include "server/choices.h"
#include "server/event_stream.h"
#include "server/openai_completions.h"

namespace ds4 {
namespace {

using Json = nlohmann::ordered_json;

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

size_t n_characters(std::string_view text) {
  return static_cast<size_t>(
      std::ranges::count_if(text, [](char c) { return (static_cast<uint8_t>(c) & 0xC0U) != 0x80U; }));
}

// The tokens of one choice, in the API's four parallel arrays. They wait for the text that they became: a token whose
// text a stop string cut off has no place.
class TokenList {
 public:
  explicit TokenList(size_t first_offset) : next_offset_(first_offset) {}

  void add(TokenLogprobs token) {
    // A token may begin inside the character that the one before it began.
    const std::string& bytes = token.chosen.bytes;
    const bool begins_inside = !bytes.empty() && n_characters(bytes.substr(0, 1)) == 0 && next_offset_ > 0;
    const size_t offset = next_offset_ - (begins_inside ? 1 : 0);
    next_offset_ += n_characters(bytes);
    waiting_.push_back({std::move(token), offset});
  }

  // Those that begin before `end`, which counts characters.
  Json take(size_t end) {
    Json tokens = Json::array();
    Json logprobs = Json::array();
    Json tops = Json::array();
    Json offsets = Json::array();
    size_t n = 0;
    for (; n < waiting_.size() && waiting_[n].offset < end; ++n) {
      const TokenLogprobs& token = waiting_[n].token;
      tokens.push_back(replace_ill_formed_utf8(token.chosen.bytes));
      logprobs.push_back(token.chosen.logprob);
      offsets.push_back(waiting_[n].offset);
      Json top = Json::object();
      for (const TokenLogprob& other : token.top) top[replace_ill_formed_utf8(other.bytes)] = other.logprob;
      tops.push_back(std::move(top));
    }
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(n));
    return {{"tokens", std::move(tokens)},
            {"token_logprobs", std::move(logprobs)},
            {"top_logprobs", std::move(tops)},
            {"text_offset", std::move(offsets)}};
  }

 private:
  struct Waiting {
    TokenLogprobs token;
    size_t offset;
  };
  size_t next_offset_;
  std::vector<Waiting> waiting_;
};

struct Choice {
  std::string text;    // of an answer in one piece: all; of a stream: what is to be sent next
  size_t n_given = 0;  // characters, echo included
  TokenList tokens;
  Json logprobs = nullptr;
  std::string_view finish{};  // empty: not yet
};

class Answer final : public AnswerSink {
 public:
  Answer(CompletionInfo info, std::shared_ptr<Responder> responder)
      : info_(std::move(info)), responder_(std::move(responder)) {
    for (std::string& echo : info_.echos) {
      const size_t n = n_characters(echo);
      choices_.push_back({.text = std::move(echo), .n_given = n, .tokens = TokenList(n)});
    }
    n_open_ = choices_.size();
  }

  void begin() override {
    if (!info_.stream) return;
    std::string echos;
    for (size_t i = 0; i < choices_.size(); ++i) {
      if (!choices_[i].text.empty()) echos += take_chunk(i);
    }
    responder_->begin_stream(event_stream_head(std::move(echos)), sse_comment("keep-alive"));
  }

  void on_events(size_t index, OutputEvents events) override {
    Choice& choice = choices_[index];
    for (OutputEvent& event : events) {
      if (auto* text = std::get_if<TextDelta>(&event)) {
        choice.text += text->text;
        choice.n_given += n_characters(text->text);
      } else if (auto* token = std::get_if<TokenLogprobs>(&event)) {
        if (choice.logprobs.is_null()) choice.logprobs = TokenList(0).take(0);
        choice.tokens.add(std::move(*token));
      } else if (const auto* finished = std::get_if<Finished>(&event)) {
        choice.finish = finished->reason == FinishReason::kLength ? "length" : "stop";
        add_choice_usage(usage_, finished->usage, index % static_cast<size_t>(info_.n) == 0);
        --n_open_;
      } else if (const auto* failed = std::get_if<Failed>(&event)) {
        return fail(failed->error);
      }
    }
    if (info_.stream && (!choice.text.empty() || !choice.finish.empty())) responder_->write(take_chunk(index));
    if (n_open_ == 0) finish();
  }

 private:
  void finish() {
    log_info("completion done", {{"id", info_.id},
                                 {"prompt_tokens", usage_.prompt_tokens},
                                 {"cached_tokens", usage_.cached_tokens},
                                 {"completion_tokens", usage_.completion_tokens}});
    Json answer = envelope();
    for (size_t i = 0; i < choices_.size() && !info_.stream; ++i) answer["choices"].push_back(take_choice(i));
    answer["usage"] = {{"prompt_tokens", usage_.prompt_tokens},
                       {"completion_tokens", usage_.completion_tokens},
                       {"total_tokens", usage_.prompt_tokens + usage_.completion_tokens},
                       {"prompt_tokens_details", {{"cached_tokens", usage_.cached_tokens}}}};
    if (!info_.stream) return responder_->send({.content_type = "application/json", .body = dump(answer) + "\n"});
    responder_->write((info_.include_usage ? sse_data(dump(answer)) : std::string()) + sse_data("[DONE]"));
    responder_->end();
  }

  void fail(const Error& error) {
    log_warn("completion failed", {{"id", info_.id}, {"error", error.message}});
    const ApiError api_error = to_api_error(error, "");
    if (!info_.stream) return responder_->send(openai_error_response(api_error));
    responder_->write(sse_event("error", openai_error_json(api_error)));
    responder_->end();
  }

  Json take_choice(size_t index) {
    Choice& choice = choices_[index];
    Json logprobs = choice.logprobs.is_null() ? Json() : choice.tokens.take(choice.n_given);
    return {{"text", std::exchange(choice.text, {})},
            {"index", index},
            {"logprobs", std::move(logprobs)},
            {"finish_reason", choice.finish.empty() ? Json() : Json(choice.finish)}};
  }

  std::string take_chunk(size_t index) {
    Json chunk = envelope();
    chunk["choices"].push_back(take_choice(index));
    if (info_.include_usage) chunk["usage"] = nullptr;
    return sse_data(dump(chunk));
  }

  Json envelope() const {
    return {{"id", info_.id},
            {"object", "text_completion"},
            {"created", info_.created_s},
            {"model", info_.model},
            {"system_fingerprint", info_.system_fingerprint},
            {"choices", Json::array()}};
  }

  CompletionInfo info_;
  const std::shared_ptr<Responder> responder_;
  std::vector<Choice> choices_;
  size_t n_open_ = 0;
  Usage usage_;
};

}  // namespace

std::shared_ptr<AnswerSink> make_completion_answer(CompletionInfo info, std::shared_ptr<Responder> responder) {
  return std::make_shared<Answer>(std::move(info), std::move(responder));
}

}  // namespace ds4
