#include "engine/rule_compiler.h"

#include <algorithm>

namespace ds4 {
namespace {

constexpr size_t kMaxEntries = 16;

// All that a grammar depends on, unambiguously.
std::string key_of(const OutputRules& rules, bool tools_enabled) {
  std::string key =
      fmt::format("{} {} {} ", static_cast<int>(rules.tool_use), rules.parallel_calls, tools_enabled ? 1 : 0);
  const auto add = [&key](const std::string& text) { key += fmt::format("{}:{} ", text.size(), text); };
  add(rules.tool_name);
  add(rules.json_schema);
  for (const ToolSignature& tool : rules.tools) {
    add(tool.name);
    add(tool.strict ? tool.parameters + "!" : std::string());
  }
  return key;
}

}  // namespace

RuleCompiler::RuleCompiler(const Tokenizer& tokenizer)
    : tokenizer_(tokenizer), trie_(std::make_shared<TokenTrie>(tokenizer)) {}

Result<std::shared_ptr<AnswerGrammar>> RuleCompiler::compile(const OutputRules& rules, bool tools_enabled) {
  if (!tools_enabled && !has_rules(rules)) return std::shared_ptr<AnswerGrammar>();
  std::string key = key_of(rules, tools_enabled);
  {
    const std::lock_guard lock(mutex_);
    const auto known = std::ranges::find(entries_, key, &Entry::key);
    if (known != entries_.end()) {
      entries_.splice(entries_.begin(), entries_, known);
      return entries_.front().grammar;
    }
  }
  std::shared_ptr<AnswerGrammar> grammar = TRY(AnswerGrammar::compile(rules, tools_enabled, tokenizer_, trie_));
  const std::lock_guard lock(mutex_);
  entries_.push_front({std::move(key), grammar});
  if (entries_.size() > kMaxEntries) entries_.pop_back();
  return grammar;
}

}  // namespace ds4
