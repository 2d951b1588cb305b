#include "engine/sequence.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace ds4 {
namespace {

OutputParserOptions parser_options(const OutputSettings& output) {
  return {.starts_in_thinking = output.starts_in_thinking,
          .tools_enabled = output.tools_enabled,
          .require_control_tokens = true,
          .stop_strings = output.stop_strings};
}

std::optional<ControlToken> named_control(const Tokenizer& tokenizer, int32_t token) {
  for (const ControlTokenInfo& info : kControlTokens) {
    if (tokenizer.control_id(info.token) == token) return info.token;
  }
  return std::nullopt;
}

}  // namespace

Result<void> check_prompt_fits(size_t n_prompt_tokens, int32_t ctx_tokens) {
  if (n_prompt_tokens < static_cast<size_t>(ctx_tokens)) return {};
  return make_error(ErrorCode::kContextLength,
                    "the prompt has {} tokens, but the context holds {}, of which at least one is for the answer",
                    n_prompt_tokens, ctx_tokens);
}

Sequence::Sequence(GenerateRequest request, KvState kv, const SequenceContext& context, uint64_t seed)
    : request_(std::move(request)),
      kv_(std::move(kv)),
      context_(context),
      sampler_(request_.sampling, request_.sampling.seed.value_or(seed)),
      parser_(parser_options(request_.output)) {
  if (request_.output.raw_text && context_.tokenizer != nullptr) raw_text_.emplace(*context_.tokenizer);
  usage_.prompt_tokens = request_.prompt_tokens.size();
}

bool Sequence::is_cancelled() const { return request_.cancel != nullptr && request_.cancel->load(); }

std::span<const int32_t> Sequence::pending_tokens(int32_t max_tokens) const {
  if (!is_prefilling()) return {&last_token_, 1};
  const int32_t n = std::min(max_tokens, n_prompt() - kv_.n_tokens());
  return std::span(request_.prompt_tokens).subspan(static_cast<size_t>(kv_.n_tokens()), static_cast<size_t>(n));
}

bool Sequence::wants_logits(int32_t n_tokens) const {
  return kv_.n_tokens() + n_tokens >= n_prompt() && request_.max_tokens > 0;
}

void Sequence::on_step(std::span<const float> logits) {
  if (kv_.n_tokens() <= n_prompt()) {
    const PrefillProgress progress{static_cast<size_t>(kv_.n_tokens()), request_.prompt_tokens.size()};
    request_.sink->on_events({progress});
    if (is_prefilling()) return;
    if (request_.max_tokens <= 0) return finish({}, FinishReason::kLength);
  }
  // The file may have more rows than its vocabulary has tokens; those are never sampled.
  if (context_.tokenizer != nullptr) {
    logits = logits.first(std::min(logits.size(), static_cast<size_t>(context_.tokenizer->n_vocab())));
  }
  const std::optional<int32_t> sampled = sampler_.sample(logits);
  if (!sampled) {
    return fail(make_error(ErrorCode::kInternal, "the model computed no finite logit after {} tokens", kv_.n_tokens()));
  }
  last_token_ = *sampled;
  accept(logits);
}

void Sequence::accept(std::span<const float> logits) {
  const bool is_reasoning = parser_.in_reasoning();
  OutputEvents text = text_of(last_token_);
  if (ends_turn(last_token_)) return finish(std::move(text), FinishReason::kStop);

  ++usage_.completion_tokens;
  if (is_reasoning) ++usage_.reasoning_tokens;
  OutputEvents events;
  if (request_.n_top_logprobs >= 0) events.emplace_back(logprobs_of(last_token_, logits));
  std::move(text.begin(), text.end(), std::back_inserter(events));

  if (parser_.done()) return finish(std::move(events), FinishReason::kStop);
  const bool at_limit = usage_.completion_tokens >= static_cast<size_t>(request_.max_tokens);
  if (at_limit || kv_.n_tokens() >= context_.ctx_tokens) return finish(std::move(events), FinishReason::kLength);
  if (!events.empty()) request_.sink->on_events(std::move(events));
}

// After text_of(token): the only control tokens that leave the parser done are those that end a turn.
bool Sequence::ends_turn(int32_t token) const {
  if (context_.tokenizer == nullptr) return false;
  if (raw_text_) return token == context_.tokenizer->eos_id();
  return context_.tokenizer->is_control(token) && parser_.done();
}

OutputEvents Sequence::text_of(int32_t token) {
  if (context_.tokenizer == nullptr) return {};
  if (raw_text_) {
    if (token == context_.tokenizer->eos_id()) return {};
    std::string text = raw_text_->push(token);
    return text.empty() ? OutputEvents{} : OutputEvents{TextDelta{std::move(text)}};
  }
  if (!context_.tokenizer->is_control(token)) return parser_.push_text(context_.tokenizer->token_bytes(token));
  // Control tokens that chats do not know (padding, fill-in-the-middle) are no text.
  const std::optional<ControlToken> control = named_control(*context_.tokenizer, token);
  return control ? parser_.push_control(*control) : OutputEvents{};
}

TokenLogprob Sequence::logprob_of(int32_t token, float logprob) const {
  const Tokenizer* tokenizer = context_.tokenizer;
  return {token, tokenizer != nullptr ? std::string(tokenizer->token_bytes(token)) : std::string{}, logprob};
}

TokenLogprobs Sequence::logprobs_of(int32_t token, std::span<const float> logits) const {
  const double log_sum = log_sum_exp(logits);
  TokenLogprobs result;
  result.chosen = logprob_of(token, log_probability(logits[static_cast<size_t>(token)], log_sum));
  for (const RankedToken& ranked : top_tokens(logits, request_.n_top_logprobs)) {
    result.top.push_back(logprob_of(ranked.id, log_probability(ranked.logit, log_sum)));
  }
  return result;
}

void Sequence::finish(OutputEvents events, FinishReason reason) {
  if (raw_text_) {
    if (std::string rest = raw_text_->finish(); !rest.empty()) events.emplace_back(TextDelta{std::move(rest)});
  } else {
    OutputEvents rest = parser_.finish(reason == FinishReason::kLength);
    std::move(rest.begin(), rest.end(), std::back_inserter(events));
    if (reason != FinishReason::kCancelled) reason = parser_.finish_reason();
  }
  events.emplace_back(Finished{reason, usage_});
  done_ = true;
  request_.sink->on_events(std::move(events));
}

void Sequence::cancel() { finish({}, FinishReason::kCancelled); }

void Sequence::fail(Error error) {
  done_ = true;
  request_.sink->on_events({Failed{std::move(error)}});
}

}  // namespace ds4
