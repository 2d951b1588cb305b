#include "server/trace_sink.h"

#include <utility>

#include <fmt/format.h>

#include "base/utf8.h"
#include "server/api.h"

namespace ds4 {
namespace {

std::string prompt_text(const std::vector<int32_t>& tokens, const Tokenizer* tokenizer) {
  std::string text;
  for (const int32_t token : tokens) {
    if (tokenizer != nullptr && token < tokenizer->n_vocab()) {
      text += tokenizer->is_control(token) ? tokenizer->token_text(token) : tokenizer->token_bytes(token);
    } else {
      text += fmt::format("[{}]", token);
    }
  }
  return replace_ill_formed_utf8(text);
}

std::string_view finish_text(FinishReason reason) {
  switch (reason) {
    case FinishReason::kStop: return "stop";
    case FinishReason::kLength: return "length";
    case FinishReason::kToolCalls: return "tool_calls";
    case FinishReason::kCancelled: return "cancelled";
  }
  return "stop";
}

}  // namespace

TraceSink::TraceSink(std::shared_ptr<EventSink> inner, const GenerateRequest& request, const Tokenizer* tokenizer,
                     TraceLog& log, const Clock& clock)
    : inner_(std::move(inner)), log_(log), clock_(clock), start_us_(clock.now_us()) {
  begin(request, tokenizer);
}

void TraceSink::begin(const GenerateRequest& request, const Tokenizer* tokenizer) {
  const SamplingParams& sampling = request.sampling;
  record_ = fmt::format("===== generation {} at {} =====\n", log_.next_number(), unix_time_s());
  record_ +=
      fmt::format("prompt_tokens: {}\nmax_tokens: {}\ntemperature: {}\ntop_p: {}\nmin_p: {}\ntop_k: {}\nseed: {}\n",
                  request.prompt_tokens.size(), request.max_tokens, sampling.temperature, sampling.top_p,
                  sampling.min_p, sampling.top_k, sampling.seed ? std::to_string(*sampling.seed) : "none");
  record_ +=
      fmt::format("raw: {}\nthinking: {}\ntools: {}\nstop_strings: {}\n", request.output.raw_text,
                  request.output.starts_in_thinking, request.output.tools_enabled, request.output.stop_strings.size());
  record_ += fmt::format("----- rendered prompt -----\n{}\n----- events -----\n",
                         prompt_text(request.prompt_tokens, tokenizer));
}

void TraceSink::on_events(OutputEvents events) {
  for (const OutputEvent& event : events) add(event);
  inner_->on_events(std::move(events));
}

void TraceSink::add(const OutputEvent& event) {
  if (const auto* text = std::get_if<TextDelta>(&event)) return add_text("text", text->text);
  if (const auto* reasoning = std::get_if<ReasoningDelta>(&event)) return add_text("reasoning", reasoning->text);
  if (const auto* call = std::get_if<ToolCallBegin>(&event)) {
    return add_text(fmt::format("call {} {} {} arguments", call->index, call->id, call->name), "");
  }
  if (const auto* arguments = std::get_if<ToolCallArgumentsDelta>(&event)) {
    record_ += arguments->json_fragment;
    return;
  }
  if (const auto* progress = std::get_if<PrefillProgress>(&event)) {
    if (std::exchange(n_prefilled_, progress->done_tokens) == progress->done_tokens) return;
    return add_text(fmt::format("prefill {}/{}", progress->done_tokens, progress->total_tokens), "");
  }
  if (const auto* finished = std::get_if<Finished>(&event)) return end(finish_text(finished->reason), &finished->usage);
  if (const auto* failed = std::get_if<Failed>(&event)) return end("error: " + failed->error.message, nullptr);
}

// A new line with the time whenever another kind of output begins.
void TraceSink::add_text(std::string_view kind, std::string_view text) {
  const std::string_view known = kind == "text" ? "text" : kind == "reasoning" ? "reasoning" : "";
  if (known.empty() || known != last_kind_) record_ += fmt::format("\n[{:.1f} ms] {}: ", elapsed_ms(), kind);
  last_kind_ = known;
  record_ += text;
}

void TraceSink::end(std::string_view finish, const Usage* usage) {
  record_ += fmt::format("\n----- end -----\nfinish: {}\nelapsed_ms: {:.1f}\n", finish, elapsed_ms());
  if (usage != nullptr) {
    const std::string_view source = usage->cached_tokens == 0 ? "none" : usage->cached_on_disk ? "disk" : "memory";
    record_ += fmt::format("cached_tokens: {}\ncache_source: {}\ncompletion_tokens: {}\nreasoning_tokens: {}\n",
                           usage->cached_tokens, source, usage->completion_tokens, usage->reasoning_tokens);
  }
  log_.append(std::exchange(record_, {}) + "\n");
}

}  // namespace ds4
