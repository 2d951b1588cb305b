#include "engine/answer_guide.h"

#include <utility>

#include "chat/markup.h"

namespace ds4 {
namespace {

// So long syntax is none that a model means, and greedy sampling may go in circles: it ends here.
constexpr int kMaxGreedyTokens = 256;
// Of an opener "<D": what follows is a block.
constexpr size_t kOpenerBytes = 2;

}  // namespace

AnswerGuide::AnswerGuide(std::shared_ptr<AnswerGrammar> grammar, const OutputParser& parser)
    : grammar_(std::move(grammar)) {
  if (grammar_ != nullptr && grammar_->answer_start() && !parser.in_reasoning()) follow(*grammar_->answer_start());
}

void AnswerGuide::follow(GrammarState start) {
  position_ = grammar_->matcher().start(start);
  state_ = ByteMatcher::is_nowhere(position_) ? State::kLost : State::kFollowing;
}

TokenChoice AnswerGuide::next(const OutputParser& parser) {
  if (grammar_ == nullptr) return {};
  if (state_ == State::kFree && grammar_->answer_start() && parser.in_reasoning()) {
    return {.mask = &grammar_->reasoning_mask()};
  }
  if (state_ != State::kFollowing) return {};
  const bool is_block = parser.in_block() || parser.pending_block_bytes() >= kOpenerBytes;
  const bool is_syntax = is_block && grammar_->matcher().is_syntax(position_);
  n_greedy_ = is_syntax ? n_greedy_ + 1 : 0;
  return {.mask = &grammar_->matcher().mask(position_), .greedy = is_syntax && n_greedy_ <= kMaxGreedyTokens};
}

void AnswerGuide::accept(std::string_view bytes, bool was_reasoning, const OutputParser& parser) {
  if (grammar_ == nullptr || state_ == State::kLost) return;
  if (state_ == State::kFollowing) {
    if (!grammar_->matcher().advance(position_, bytes)) state_ = State::kLost;
    return;
  }
  const bool opens_block = bytes == token_markup().dsml && parser.pending_block_bytes() == kOpenerBytes;
  if (opens_block && grammar_->block_start()) return follow(*grammar_->block_start());
  const bool begins_answer = was_reasoning && !parser.in_reasoning() && !parser.in_block();
  if (begins_answer && grammar_->answer_start()) follow(*grammar_->answer_start());
}

}  // namespace ds4
