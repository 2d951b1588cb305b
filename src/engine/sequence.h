#pragma once

// One request's life from its first prompt token to Finished or Failed: KV state, tokens, sampler, output parser and
// the rules that end it (a token that ends the turn, a stop string or finished tool calls, max_tokens, the context).
// It decides which tokens to compute next and what the resulting logits mean; the scheduler runs them. Events go to
// the request's sink as soon as they exist. Engine thread only.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "chat/output_parser.h"
#include "engine/request.h"
#include "engine/sampler.h"
#include "model/kv_cache.h"
#include "text/detokenizer.h"
#include "text/tokenizer.h"

namespace ds4 {

// Everything a sequence needs to know about the engine it lives in.
struct SequenceContext {
  const Tokenizer* tokenizer = nullptr;  // null: the model file has no vocabulary, tokens make no text
  int32_t ctx_tokens = 0;
};

class Sequence {
 public:
  // Preconditions: an empty KV state; 0 < prompt tokens < ctx_tokens. `seed` is used when the request has none.
  Sequence(GenerateRequest request, KvState kv, const SequenceContext& context, uint64_t seed);

  bool is_prefilling() const { return kv_.n_tokens() < n_prompt(); }
  bool is_done() const { return done_; }
  bool is_cancelled() const;
  KvState& kv() { return kv_; }

  // The next tokens to run, at most max_tokens: a piece of the prompt, or the token sampled last.
  std::span<const int32_t> pending_tokens(int32_t max_tokens) const;
  // Whether the last of pending_tokens(n_tokens) needs logits.
  bool wants_logits(int32_t n_tokens) const;
  // Pending tokens were run and are in the KV state now. `logits` are those of the last one, if wanted, else empty.
  void on_step(std::span<const float> logits);

  void cancel();
  void fail(Error error);

 private:
  int32_t n_prompt() const { return static_cast<int32_t>(request_.prompt_tokens.size()); }
  void accept(std::span<const float> logits);
  OutputEvents text_of(int32_t token);
  bool ends_turn(int32_t token) const;
  TokenLogprobs logprobs_of(int32_t token, std::span<const float> logits) const;
  TokenLogprob logprob_of(int32_t token, float logprob) const;
  void finish(OutputEvents events, FinishReason reason);

  GenerateRequest request_;
  KvState kv_;
  SequenceContext context_;
  Sampler sampler_;
  OutputParser parser_;
  std::optional<Detokenizer> raw_text_;
  int32_t last_token_ = 0;  // sampled, not yet in the KV state
  Usage usage_;
  bool done_ = false;
};

// The failure of a prompt that leaves no room to answer, or ok.
Result<void> check_prompt_fits(size_t n_prompt_tokens, int32_t ctx_tokens);

}  // namespace ds4
