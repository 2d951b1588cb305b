#include "constrain/schema_check.h"

#include <array>

#include "chat/python_json.h"
#include "constrain/dsml_grammar.h"
#include "constrain/json_schema.h"

namespace ds4 {
namespace {

Result<void> check_end(ByteGrammar& grammar, GrammarState start) {
  if (grammar.is_too_large()) return make_error(ErrorCode::kUnsupported, "the schema is too large");
  grammar.prune();
  if (grammar.can_end(start)) return {};
  return make_error(ErrorCode::kInvalidArgument, "no value fits the schema");
}

}  // namespace

Result<void> check_answer_schema(std::string_view json_schema) {
  const JsonValue schema = TRY(parse_json(json_schema, JsonDialect::kStandard));
  ByteGrammar grammar;
  JsonGrammar json(grammar);
  const GrammarState start = grammar.add_state();
  const GrammarState end = grammar.add_state();
  grammar.set_end(end);
  TRY(JsonSchemaBuilder(schema, json).add_root(start, end, ValueForm::kJson));
  return check_end(grammar, start);
}

Result<void> check_parameters_schema(std::string_view json_schema) {
  ByteGrammar grammar;
  JsonGrammar json(grammar);
  const GrammarState start = grammar.add_state();
  const GrammarState end = grammar.add_state();
  grammar.set_end(end);
  const std::array<CallableTool, 1> tools{{{"tool", std::string(json_schema)}}};
  if (Result<void> added = add_dsml_block({.tools = tools}, start, end, json); !added.ok()) {
    Error error = added.take_error();
    constexpr std::string_view kContext = "tool 'tool': ";
    if (error.message.starts_with(kContext)) error.message.erase(0, kContext.size());
    return error;
  }
  return check_end(grammar, start);
}

}  // namespace ds4
