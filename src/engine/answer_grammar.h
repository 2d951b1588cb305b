#pragma once

// OutputRules, compiled: what the answer after the reasoning may look like, and what a tool-call block may that the
// model opens by itself. compile() runs on any thread; after that the object belongs to the engine's thread, which
// follows answers through it (engine/answer_guide.h) and lets it remember masks. One object serves all requests with
// the same rules. docs/structured_output.md.

#include <memory>
#include <optional>

#include "base/error.h"
#include "constrain/byte_matcher.h"
#include "engine/request.h"
#include "text/tokenizer.h"

namespace ds4 {

class AnswerGrammar {
 public:
  // Errors: kInvalidArgument, kUnsupported; the message names the tool, the keyword and its place in the schema.
  static Result<std::shared_ptr<AnswerGrammar>> compile(const OutputRules& rules, bool tools_enabled,
                                                        const Tokenizer& tokenizer,
                                                        std::shared_ptr<const TokenTrie> trie);

  ByteMatcher& matcher() { return matcher_; }
  // Of the answer; nothing when it is free text.
  const std::optional<GrammarState>& answer_start() const { return answer_start_; }
  // Of a block, behind its "<D"; nothing without tools.
  const std::optional<GrammarState>& block_start() const { return block_start_; }
  // All tokens but those that end a turn: for the reasoning before an answer that must come.
  const TokenMask& reasoning_mask() const { return reasoning_mask_; }

 private:
  AnswerGrammar(std::shared_ptr<const ByteGrammar> grammar, std::shared_ptr<const TokenTrie> trie,
                const Tokenizer& tokenizer);

  ByteMatcher matcher_;
  std::optional<GrammarState> answer_start_;
  std::optional<GrammarState> block_start_;
  TokenMask reasoning_mask_;
};

// Whether there is anything to compile.
bool has_rules(const OutputRules& rules);

}  // namespace ds4
