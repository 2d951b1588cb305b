#pragma once

// Which tokens of a sequence are steered, by the policy of its request (docs/steering.md). The prompt is steered as a
// whole or not at all; each generated token is decided before it is run, from where it stands in the output, and that
// decision stays: a sequence that is computed again is computed in the same way. Engine thread only.

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "engine/request.h"
#include "session/hash.h"

namespace ds4 {

// What the engine has to steer with.
struct SteeringContext {
  bool has_directions = false;
  Hash128 directions;         // of their values
  SteeringSettings defaults;  // of requests that name none
};

// Refuses scales that cannot be had: without directions, out of range.
Result<void> check_steering(const SteeringSettings& settings, bool has_directions);

enum class OutputPart : uint8_t {
  kReasoning,
  kBlock,  // tool calls, or the beginning of their markup
  kText,
};

class SteeringPlan {
 public:
  SteeringPlan(const SteeringContext& context, const GenerateRequest& request);

  // add_token() does not allocate for so many more tokens.
  void reserve(size_t n_tokens);
  // The next generated token: where the output stood before it and stands after it, and its text ("" for control
  // tokens).
  void add_token(OutputPart before, OutputPart after, std::string_view text);

  // Of a sequence with n_prompt prompt tokens and the added ones. Of the tokens from `first` on, how many are steered
  // like the first of them, at most n; and how.
  size_t run_length(size_t n_prompt, size_t first, size_t n) const;
  SteeringScales scales(size_t n_prompt, size_t token) const;

  // What the KV rows of the prompt depend on beside its tokens; {} without steering. All states under one identity are
  // steered throughout or not at all, so a remembered prefix is what computing it would give.
  const Hash128& identity() const { return identity_; }
  // Of n leading tokens, those that are all steered like the prompt: longer states have no identity.
  size_t n_identified(size_t n_prompt, size_t n) const { return run_length(n_prompt, 0, n); }

 private:
  bool is_steered(size_t n_prompt, size_t token) const;

  SteeringScales scales_;
  SteeringPolicy policy_ = SteeringPolicy::kOff;  // kOff where nothing is steered, for whatever reason
  bool may_answer_ = false;                       // this output can be the final answer
  bool has_begun_ = false;                        // the final answer has
  Hash128 identity_;
  std::vector<uint8_t> steered_;  // per generated token, under kDecoding and kFinalAnswer
};

}  // namespace ds4
