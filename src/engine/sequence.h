#pragma once

// One request's life from its first prompt token to Finished or Failed: KV state, tokens, sampler, output parser and
// the rules that end it (a token that ends the turn, a stop string or finished tool calls, max_tokens, the context).
// It decides which tokens to compute next and what the resulting logits mean; the scheduler runs them and lends it the
// KV state, which it may take back and give again at any time: what the sequence is stays in its tokens. Events go to
// the request's sink as soon as they exist. Engine thread only.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "chat/output_parser.h"
#include "chat/stop_strings.h"
#include "engine/answer_guide.h"
#include "engine/checkpoint_stops.h"
#include "engine/logit_adjuster.h"
#include "engine/request.h"
#include "engine/sampler.h"
#include "engine/steering_plan.h"
#include "model/kv_cache.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

namespace ds4 {

// Everything a sequence needs to know about the engine it lives in.
struct SequenceContext {
  const Tokenizer* tokenizer = nullptr;  // null: the model file has no vocabulary, tokens make no text
  int32_t ctx_tokens = 0;
  CheckpointSpacing spacing;
  SteeringContext steering;
};

class Sequence {
 public:
  // Precondition: 0 < prompt tokens < ctx_tokens. `seed` is used when the request has none.
  Sequence(GenerateRequest request, const SequenceContext& context, uint64_t seed);

  // Between start and stop the sequence can run. The KV state may hold a prefix of tokens(), short of the last.
  // The first time, that prefix counts as cached, and the prompt may be given in other tokens.
  void start(KvState kv);
  KvState stop();
  bool is_started() const { return kv_.has_value(); }
  void replace_prompt(std::vector<int32_t> tokens, int32_t n_cached, bool from_disk = false);

  bool is_done() const { return done_; }
  bool is_cancelled() const;
  const std::string& client() const { return request_.client; }
  int32_t n_prompt_tokens() const { return n_prompt_; }
  // More than the token sampled last is to be run.
  bool is_prefilling() const { return n_pending() > 1 || kv_->n_tokens() < n_prompt_; }
  // Nothing of the prompt was run yet.
  bool is_new() const { return usage_.completion_tokens == 0 && !was_started_; }
  int32_t n_pending() const { return static_cast<int32_t>(tokens_.size()) - kv_->n_tokens(); }
  KvState& kv() { return *kv_; }

  // The prompt, then what was sampled; the last may not be in the KV state yet.
  std::span<const int32_t> tokens() const { return tokens_; }
  // The next tokens to run, at most max_tokens, not beyond the next checkpoint to take, and all steered alike.
  std::span<const int32_t> pending_tokens(int32_t max_tokens) const;
  SteeringScales pending_steering() const;
  // What states of the sequence may be remembered and restored under, and how many leading tokens those hold at most.
  const Hash128& identity() const { return steering_.identity(); }
  size_t n_identified() const { return steering_.n_identified(static_cast<size_t>(n_prompt_), tokens_.size()); }
  // Whether the last of pending_tokens(n_tokens) needs logits.
  bool wants_logits(int32_t n_tokens) const;
  // Pending tokens were run and are in the KV state now. `logits` are those of the last one, if wanted, else empty.
  void on_step(std::span<const float> logits);
  // Why a checkpoint should be taken of the KV state as it is, if so. Each is asked for once.
  std::optional<CheckpointReason> take_checkpoint_reason();
  // The same of one at the end of the turn.
  CheckpointReason end_reason() const;
  // Tokens of the prompt that a checkpoint holds already.
  int32_t n_remembered() const { return n_remembered_; }
  // Whether there will be a checkpoint there; asks for one. Others start from it.
  bool has_stop(int32_t n_tokens) const;
  void add_stop(int32_t n_tokens);
  // The token after those in the KV state is a control token, or will be: a turn that is over and run to its end.
  bool is_before_control() const;
  // The turn is over, and its last token is text that was not run.
  bool is_unclosed() const;

  void cancel();
  void fail(Error error);

 private:
  std::optional<int32_t> next_token(std::span<const float> logits);
  bool must_end_reasoning() const;
  void guide_answer(int32_t token, bool was_reasoning);
  void accept(int32_t token, std::span<const float> logits);
  OutputEvents text_of(int32_t token);
  OutputPart output_part() const;
  void plan_steering(int32_t token, OutputPart before);
  bool ends_turn(int32_t token) const;
  TokenLogprobs logprobs_of(int32_t token, std::span<const float> logits) const;
  TokenLogprob logprob_of(int32_t token, float logprob) const;
  void finish(OutputEvents events, FinishReason reason);

  GenerateRequest request_;  // without its tokens
  SequenceContext context_;
  std::vector<int32_t> tokens_;
  int32_t n_prompt_ = 0;
  std::optional<KvState> kv_;
  bool was_started_ = false;
  std::vector<CheckpointStop> stops_;  // of the prompt, ascending
  size_t next_stop_ = 0;
  int32_t n_remembered_ = 0;
  LogitAdjuster adjuster_;
  Sampler sampler_;
  OutputParser parser_;
  AnswerGuide guide_;
  StopStrings raw_stops_;  // with raw_text_
  SteeringPlan steering_;
  std::optional<Detokenizer> raw_text_;
  Usage usage_;
  bool done_ = false;
  bool failed_ = false;
};

// The failure of a prompt that leaves no room to answer, or ok.
Result<void> check_prompt_fits(size_t n_prompt_tokens, int32_t ctx_tokens);

}  // namespace ds4
