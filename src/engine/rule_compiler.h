#pragma once

// Compiles OutputRules for one vocabulary, and keeps what was compiled last: an agent sends the same tools with every
// request, and its later requests find the masks that the earlier ones needed. Any thread.

#include <list>
#include <memory>
#include <mutex>
#include <string>

#include "engine/answer_grammar.h"

namespace ds4 {

class RuleCompiler {
 public:
  // The tokenizer must outlive this object.
  explicit RuleCompiler(const Tokenizer& tokenizer);

  // Null when nothing is bound: no rules and no tools. Errors: those of AnswerGrammar::compile().
  Result<std::shared_ptr<AnswerGrammar>> compile(const OutputRules& rules, bool tools_enabled);

 private:
  struct Entry {
    std::string key;
    std::shared_ptr<AnswerGrammar> grammar;
  };

  const Tokenizer& tokenizer_;
  const std::shared_ptr<const TokenTrie> trie_;
  std::mutex mutex_;
  std::list<Entry> entries_;  // used last first
};

}  // namespace ds4
