#pragma once

// Tool-call blocks as grammar, in the bytes of token_markup() (chat/dsml.h has the form). A strict tool's arguments fit
// its schema: one parameter per property, in the schema's order, strings as they are and everything else as JSON.
// Another tool's parameters have any names and values. Names are structure, and so is JSON outside its strings; values
// of strings are payload. Builders, used while one grammar is made; one thread.

#include <span>
#include <string>

#include "base/error.h"
#include "constrain/json_grammar.h"

namespace ds4 {

struct CallableTool {
  std::string name;
  std::string strict_parameters{};  // a JSON schema; empty: any arguments
};

struct DsmlBlockRules {
  std::span<const CallableTool> tools;  // empty: any name
  bool parallel_calls = true;           // false: one call
};

// From behind "<D" to behind the block's closer, with at least one call. Errors: what a strict tool's schema has that
// is not supported, with its name. A tool whose name the markup cannot hold cannot be called.
Result<void> add_dsml_block(const DsmlBlockRules& rules, GrammarState from, GrammarState to, JsonGrammar& json);

}  // namespace ds4
