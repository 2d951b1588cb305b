#include "engine/sequence.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "chat/markup.h"

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
  return make_error(
      ErrorCode::kContextLength,
      "the prompt has {} tokens, but the maximum context length is {} tokens, of which at least one is for the answer",
      n_prompt_tokens, ctx_tokens);
}

Sequence::Sequence(GenerateRequest request, const SequenceContext& context, uint64_t seed)
    : request_(std::move(request)),
      context_(context),
      tokens_(std::move(request_.prompt_tokens)),
      n_prompt_(static_cast<int32_t>(tokens_.size())),
      adjuster_(request_.sampling),
      sampler_(request_.sampling, request_.sampling.seed.value_or(seed)),
      parser_(parser_options(request_.output)),
      guide_(context_.tokenizer != nullptr && !request_.output.raw_text ? request_.grammar : nullptr, parser_),
      raw_stops_(request_.output.raw_text ? request_.output.stop_strings : std::vector<std::string>{}),
      steering_(context_.steering, request_) {
  if (request_.output.raw_text && context_.tokenizer != nullptr) raw_text_.emplace(*context_.tokenizer);
  usage_.prompt_tokens = tokens_.size();
}

bool Sequence::is_cancelled() const { return request_.cancel != nullptr && request_.cancel->load(); }

void Sequence::replace_prompt(std::vector<int32_t> tokens, int32_t n_cached, bool from_disk) {
  CHECK(is_new(), "the prompt was run already");
  tokens_ = std::move(tokens);
  n_prompt_ = static_cast<int32_t>(tokens_.size());
  usage_.prompt_tokens = tokens_.size();
  usage_.cached_tokens = static_cast<size_t>(n_cached);
  usage_.cached_on_disk = from_disk && n_cached > 0;
}

void Sequence::start(KvState kv) {
  kv_.emplace(std::move(kv));
  if (!was_started_) {
    const int32_t n_more = std::clamp(request_.max_tokens, 0, context_.ctx_tokens - n_prompt_);
    tokens_.reserve(tokens_.size() + static_cast<size_t>(n_more));
    steering_.reserve(static_cast<size_t>(n_more));
    stops_ = checkpoint_stops(context_.tokenizer, tokens_, context_.spacing);
  }
  was_started_ = true;
  n_remembered_ = kv_->n_tokens();
  for (next_stop_ = 0; next_stop_ < stops_.size() && stops_[next_stop_].n_tokens <= kv_->n_tokens();) ++next_stop_;
}

KvState Sequence::stop() {
  KvState kv = std::move(*kv_);
  kv_.reset();
  return kv;
}

std::span<const int32_t> Sequence::pending_tokens(int32_t max_tokens) const {
  int32_t n = std::min(max_tokens, n_pending());
  if (next_stop_ < stops_.size()) n = std::min(n, stops_[next_stop_].n_tokens - kv_->n_tokens());
  const auto first = static_cast<size_t>(kv_->n_tokens());
  return std::span(tokens_).subspan(
      first, steering_.run_length(static_cast<size_t>(n_prompt_), first, static_cast<size_t>(n)));
}

SteeringScales Sequence::pending_steering() const {
  return steering_.scales(static_cast<size_t>(n_prompt_), static_cast<size_t>(kv_->n_tokens()));
}

bool Sequence::wants_logits(int32_t n_tokens) const { return n_tokens == n_pending() && request_.max_tokens > 0; }

std::optional<CheckpointReason> Sequence::take_checkpoint_reason() {
  const int32_t n_tokens = kv_->n_tokens();
  if (next_stop_ < stops_.size() && stops_[next_stop_].n_tokens == n_tokens) {
    n_remembered_ = n_tokens;
    return stops_[next_stop_++].reason;
  }
  if (context_.spacing.prompt_tokens <= 0) return std::nullopt;
  if (failed_) return std::nullopt;
  if (done_) return is_unclosed() ? std::nullopt : std::optional(end_reason());
  if (n_tokens > n_prompt_ && n_tokens % context_.spacing.answer_tokens == 0) return CheckpointReason::kInterval;
  return std::nullopt;
}

// Without tools the next prompt leaves the reasoning out, and begins with this prompt instead (chat/turns.h).
CheckpointReason Sequence::end_reason() const {
  const bool is_left_out = request_.output.starts_in_thinking && !request_.output.tools_enabled;
  return is_left_out ? CheckpointReason::kMessage : CheckpointReason::kTurnEnd;
}

bool Sequence::has_stop(int32_t n_tokens) const {
  const auto at = std::ranges::lower_bound(stops_, n_tokens, {}, &CheckpointStop::n_tokens);
  return at != stops_.end() && at->n_tokens == n_tokens;
}

void Sequence::add_stop(int32_t n_tokens) {
  CHECK(n_tokens > kv_->n_tokens() && n_tokens < n_prompt_, "a stop at {} of {} tokens", n_tokens, n_prompt_);
  const auto at = std::ranges::lower_bound(stops_, n_tokens, {}, &CheckpointStop::n_tokens);
  stops_.insert(at, {n_tokens, CheckpointReason::kPrefix});
}

bool Sequence::is_before_control() const {
  const auto next = static_cast<size_t>(kv_->n_tokens());
  if (next == tokens_.size()) return done_;
  const Tokenizer* tokenizer = context_.tokenizer;
  return tokenizer != nullptr && tokens_[next] < tokenizer->n_vocab() && tokenizer->is_control(tokens_[next]);
}

bool Sequence::is_unclosed() const { return done_ && !failed_ && n_pending() == 1 && !is_before_control(); }

void Sequence::on_step(std::span<const float> logits) {
  if (kv_->n_tokens() <= n_prompt_) {
    const PrefillProgress progress{static_cast<size_t>(kv_->n_tokens()), usage_.prompt_tokens};
    request_.sink->on_events({progress});
    if (n_pending() == 0 && request_.max_tokens <= 0) return finish({}, FinishReason::kLength);
  }
  if (n_pending() > 0) return;
  // The file may have more rows than its vocabulary has tokens; those are never sampled.
  if (context_.tokenizer != nullptr) {
    logits = logits.first(std::min(logits.size(), static_cast<size_t>(context_.tokenizer->n_vocab())));
  }
  const std::optional<int32_t> sampled = next_token(logits);
  if (!sampled) {
    return fail(make_error(ErrorCode::kInternal, "the model computed no finite logit after {} tokens", tokens_.size()));
  }
  tokens_.push_back(*sampled);
  accept(*sampled, logits);
}

std::optional<int32_t> Sequence::next_token(std::span<const float> logits) {
  const size_t n_answered = tokens_.size() - static_cast<size_t>(n_prompt_);
  if (n_answered < request_.forced_tokens.size()) return request_.forced_tokens[n_answered];
  if (must_end_reasoning()) return context_.tokenizer->control_id(ControlToken::kThinkEnd);
  const TokenChoice choice = guide_.next(parser_);
  return sampler_.sample(adjuster_.adjust(logits, choice.mask), choice.greedy);
}

bool Sequence::must_end_reasoning() const {
  const auto budget = static_cast<size_t>(std::max(request_.output.rules.max_reasoning_tokens, 0));
  const bool is_reasoning = context_.tokenizer != nullptr && !raw_text_ && parser_.in_reasoning();
  return is_reasoning && !guide_.is_following() && usage_.reasoning_tokens >= budget;
}

void Sequence::accept(int32_t token, std::span<const float> logits) {
  adjuster_.count(token);
  const bool is_reasoning = parser_.in_reasoning();
  const OutputPart part = output_part();
  OutputEvents text = text_of(token);
  guide_answer(token, is_reasoning);
  plan_steering(token, part);
  if (ends_turn(token)) return finish(std::move(text), FinishReason::kStop);

  ++usage_.completion_tokens;
  if (is_reasoning) ++usage_.reasoning_tokens;
  OutputEvents events;
  if (request_.n_top_logprobs >= 0) events.emplace_back(logprobs_of(token, logits));
  std::move(text.begin(), text.end(), std::back_inserter(events));

  if (parser_.done() || raw_stops_.found()) return finish(std::move(events), FinishReason::kStop);
  const bool at_limit = usage_.completion_tokens >= static_cast<size_t>(request_.max_tokens);
  if (at_limit || kv_->n_tokens() >= context_.ctx_tokens) return finish(std::move(events), FinishReason::kLength);
  if (!events.empty()) request_.sink->on_events(std::move(events));
}

void Sequence::guide_answer(int32_t token, bool was_reasoning) {
  if (request_.grammar == nullptr || context_.tokenizer == nullptr || parser_.done()) return;
  const Tokenizer& tokenizer = *context_.tokenizer;
  if (!tokenizer.is_control(token)) return guide_.accept(tokenizer.token_bytes(token), was_reasoning, parser_);
  const bool is_dsml = token == tokenizer.control_id(ControlToken::kDsml);
  guide_.accept(is_dsml ? token_markup().dsml : token_markup().think_end, was_reasoning, parser_);
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
    std::string text = raw_stops_.push(raw_text_->push(token));
    return text.empty() ? OutputEvents{} : OutputEvents{TextDelta{std::move(text)}};
  }
  if (!context_.tokenizer->is_control(token)) return parser_.push_text(context_.tokenizer->token_bytes(token));
  // Control tokens that chats do not know (padding, fill-in-the-middle) are no text.
  const std::optional<ControlToken> control = named_control(*context_.tokenizer, token);
  return control ? parser_.push_control(*control) : OutputEvents{};
}

OutputPart Sequence::output_part() const {
  if (raw_text_) return OutputPart::kText;
  if (parser_.in_reasoning()) return OutputPart::kReasoning;
  // One byte of an opener is a "<" like any other.
  return parser_.in_block() || parser_.pending_block_bytes() >= 2 ? OutputPart::kBlock : OutputPart::kText;
}

// After text_of(token), before the token is run.
void Sequence::plan_steering(int32_t token, OutputPart before) {
  const Tokenizer* tokenizer = context_.tokenizer;
  const bool is_text = tokenizer != nullptr && !tokenizer->is_control(token);
  steering_.add_token(before, output_part(), is_text ? tokenizer->token_bytes(token) : std::string_view());
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
  std::optional<SampledCalls> sampled_calls;
  if (raw_text_) {
    std::string rest = raw_stops_.push(raw_text_->finish());
    rest += raw_stops_.finish();
    if (!rest.empty()) events.emplace_back(TextDelta{std::move(rest)});
  } else {
    OutputEvents rest = parser_.finish(reason != FinishReason::kStop);
    std::move(rest.begin(), rest.end(), std::back_inserter(events));
    if (reason != FinishReason::kCancelled) reason = parser_.finish_reason();
    sampled_calls = parser_.take_sampled_calls();
  }
  const std::string& stop_string = raw_text_ ? raw_stops_.matched() : parser_.matched_stop_string();
  events.emplace_back(Finished{reason, usage_, std::move(sampled_calls), stop_string});
  done_ = true;
  request_.sink->on_events(std::move(events));
}

void Sequence::cancel() { finish({}, FinishReason::kCancelled); }

void Sequence::fail(Error error) {
  done_ = true;
  failed_ = true;
  request_.sink->on_events({Failed{std::move(error)}});
}

}  // namespace ds4
