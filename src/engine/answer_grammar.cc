#include "engine/answer_grammar.h"

#include <algorithm>
#include <utility>

#include "chat/markup.h"
#include "constrain/dsml_grammar.h"
#include "constrain/json_schema.h"

namespace ds4 {
namespace {

// As the chat format has it between text and a block.
constexpr std::string_view kBeforeBlock = "\n\n";

Result<std::vector<CallableTool>> callable_tools(const OutputRules& rules) {
  std::vector<CallableTool> tools;
  for (const ToolSignature& tool : rules.tools) {
    if (rules.tool_use == ToolUse::kNamed && tool.name != rules.tool_name) continue;
    // A strict tool without a schema takes no arguments.
    const std::string strict = tool.parameters.empty() ? "{}" : tool.parameters;
    tools.push_back({tool.name, tool.strict ? strict : std::string()});
  }
  if (rules.tool_use == ToolUse::kNamed && tools.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "a call of '{}' is required, which is no declared tool",
                      rules.tool_name);
  }
  return tools;
}

Result<void> add_schema(const std::string& json_schema, GrammarState from, GrammarState to, JsonGrammar& json) {
  const JsonValue schema = TRY(parse_json(json_schema, JsonDialect::kStandard));
  return JsonSchemaBuilder(schema, json).add_root(from, to, ValueForm::kJson);
}

TokenMask mask_of_reasoning(const Tokenizer& tokenizer) {
  TokenMask mask(static_cast<size_t>(tokenizer.n_vocab()), true);
  for (const ControlToken token : {ControlToken::kBos, ControlToken::kEos, ControlToken::kUser,
                                   ControlToken::kAssistant, ControlToken::kLatestReminder}) {
    if (const auto id = tokenizer.control_id(token)) mask.forbid(static_cast<size_t>(*id));
  }
  return mask;
}

}  // namespace

bool has_rules(const OutputRules& rules) {
  return !rules.tools.empty() || rules.tool_use != ToolUse::kFree || !rules.parallel_calls ||
         !rules.json_schema.empty();
}

AnswerGrammar::AnswerGrammar(std::shared_ptr<const ByteGrammar> grammar, std::shared_ptr<const TokenTrie> trie,
                             const Tokenizer& tokenizer)
    : matcher_(std::move(grammar), std::move(trie)), reasoning_mask_(mask_of_reasoning(tokenizer)) {}

Result<std::shared_ptr<AnswerGrammar>> AnswerGrammar::compile(const OutputRules& rules, bool tools_enabled,
                                                              const Tokenizer& tokenizer,
                                                              std::shared_ptr<const TokenTrie> trie) {
  const bool needs_call = rules.tool_use != ToolUse::kFree;
  if (needs_call && !tools_enabled) {
    return make_error(ErrorCode::kInvalidArgument, "a tool call is required, but no tools are declared");
  }
  auto grammar = std::make_shared<ByteGrammar>();
  JsonGrammar json(*grammar);
  const GrammarState end = grammar->add_state(), answer = grammar->add_state(), block = grammar->add_state();
  grammar->set_end(end);
  const std::vector<CallableTool> tools = TRY(callable_tools(rules));
  if (tools_enabled) {
    TRY(add_dsml_block({.tools = tools, .parallel_calls = rules.parallel_calls}, block, end, json));
    grammar->add_literal(answer, token_markup().tag_opener, block);
    grammar->add_literal(answer, std::string(kBeforeBlock) + token_markup().tag_opener, block);
  }
  const bool has_schema = !rules.json_schema.empty() && !needs_call;
  if (has_schema) TRY(add_schema(rules.json_schema, answer, end, json));
  if (grammar->is_too_large()) return make_error(ErrorCode::kUnsupported, "the schemas are too large");
  grammar->prune();

  const bool is_bound = has_schema || needs_call;
  if (is_bound && !grammar->can_end(answer)) {
    return make_error(ErrorCode::kInvalidArgument, "no answer fits the schema");
  }
  std::shared_ptr<AnswerGrammar> compiled(new AnswerGrammar(grammar, std::move(trie), tokenizer));
  if (is_bound) compiled->answer_start_ = answer;
  if (tools_enabled && grammar->can_end(block)) compiled->block_start_ = block;
  return compiled;
}

}  // namespace ds4
