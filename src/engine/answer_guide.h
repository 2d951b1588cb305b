#pragma once

// Where one answer stands in its grammar, and what that means for its next token. The reasoning is free, but must not
// end the turn when an answer has to come; a bound answer is followed from its first token; in a free answer a
// tool-call block is followed from its "<D" on, so no block is malformed. Syntax of a block is sampled greedily, values
// as asked. Tokens that were forced upon the sequence may leave the grammar: from there on nothing is bound.
// Depends on the tokens alone, so it survives preemption. Belongs to one sequence; engine thread.

#include <memory>
#include <string_view>

#include "chat/output_parser.h"
#include "constrain/byte_matcher.h"
#include "engine/answer_grammar.h"

namespace ds4 {

struct TokenChoice {
  const TokenMask* mask = nullptr;  // null: any token
  bool greedy = false;
};

class AnswerGuide {
 public:
  // grammar may be null: nothing is bound.
  AnswerGuide(std::shared_ptr<AnswerGrammar> grammar, const OutputParser& parser);

  TokenChoice next(const OutputParser& parser);
  // A token was parsed: its bytes, with control tokens as in token_markup(); where the output stood before it.
  void accept(std::string_view bytes, bool was_reasoning, const OutputParser& parser);
  // Inside a grammar.
  bool is_following() const { return state_ == State::kFollowing; }

 private:
  enum class State { kFree, kFollowing, kLost };
  void follow(GrammarState start);

  std::shared_ptr<AnswerGrammar> grammar_;
  State state_ = State::kFree;
  MatchPosition position_;
  int n_greedy_ = 0;  // in a row
};

}  // namespace ds4
