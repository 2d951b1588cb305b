#include "constrain/dsml_grammar.h"

#include <vector>

#include "chat/dsml.h"
#include "chat/markup.h"
#include "constrain/json_schema.h"

namespace ds4 {
namespace {

constexpr size_t kMaxNameBytes = 128;

// Nothing is escaped inside the quotes.
bool fits_attribute(std::string_view name) {
  return !name.empty() && name.find_first_of("\"<>\n\r") == std::string_view::npos;
}

class BlockBuilder {
 public:
  BlockBuilder(const DsmlBlockRules& rules, JsonGrammar& json)
      : rules_(rules), json_(json), grammar_(json.grammar()), markup_(token_markup()) {}

  Result<void> build(GrammarState from, GrammarState to) {
    const GrammarState opened = grammar_.add_state(), call = grammar_.add_state(), called = grammar_.add_state();
    const GrammarState spaced = grammar_.add_state();
    grammar_.add_literal(from, std::string(kDsmlBlock) + ">", opened);
    json_.add_space(opened, call);
    TRY(add_calls(call, called));
    if (rules_.parallel_calls) json_.add_space(called, call);
    json_.add_space(called, spaced);
    add_closer(kDsmlBlock, spaced, to);
    return {};
  }

 private:
  GrammarState state() { return grammar_.add_state(); }

  void add_closer(std::string_view tag, GrammarState from, GrammarState to) {
    grammar_.add_literal(from, markup_.tag_closer + std::string(tag) + ">", to);
  }

  Result<void> add_calls(GrammarState from, GrammarState to) {
    const GrammarState name = state(), closer = state();
    grammar_.add_literal(from, markup_.tag_opener + fmt::format("{} {}=\"", kDsmlInvoke, kDsmlName), name);
    const GrammarState free_parameters = state();
    if (rules_.tools.empty()) {
      const GrammarState named = state();
      add_name(name, named);
      grammar_.add_literal(named, "\">", free_parameters);
    }
    for (const CallableTool& tool : rules_.tools) {
      if (!fits_attribute(tool.name)) continue;
      if (tool.strict_parameters.empty()) {
        grammar_.add_literal(name, tool.name + "\">", free_parameters);
        continue;
      }
      const GrammarState parameters = state();
      grammar_.add_literal(name, tool.name + "\">", parameters);
      if (const Result<void> added = add_strict_parameters(tool, parameters, closer); !added.ok()) {
        return with_context(added.error(), fmt::format("tool '{}'", tool.name));
      }
    }
    add_free_parameters(free_parameters, closer);
    add_closer(kDsmlInvoke, closer, to);
    return {};
  }

  void add_name(GrammarState from, GrammarState to) {
    for (size_t n = 0; n < kMaxNameBytes; ++n) {
      const GrammarState next = state();
      // All that no character of markup or end of line is.
      for (const auto& [first, last] :
           {std::pair(' ', '!'), std::pair('#', ';'), std::pair('=', '='), std::pair('?', '~')})
        grammar_.add_bytes(from, static_cast<uint8_t>(first), static_cast<uint8_t>(last), next);
      grammar_.add_bytes(from, 0x80, 0xF4, next);
      grammar_.add_jump(next, to);
      from = next;
    }
  }

  void add_opener(std::string_view name, GrammarState from, GrammarState to) {
    grammar_.add_literal(from, markup_.tag_opener + fmt::format("{} {}=\"{}", kDsmlParameter, kDsmlName, name), to);
  }
  void add_kind(bool is_string, GrammarState from, GrammarState to) {
    grammar_.add_literal(from, fmt::format("\" {}=\"{}\">", kDsmlString, is_string), to);
  }

  // Behind a value of text, whose characters may look like the beginning of this.
  void add_text_closer(GrammarState from, GrammarState to) {
    const GrammarState slash = grammar_.add_state(true), marker = state();
    grammar_.add_any_of(from, "<", slash);
    grammar_.add_any_of(slash, "/", marker);
    grammar_.add_literal(marker, markup_.dsml + std::string(kDsmlParameter) + ">", to);
  }

  void add_free_parameters(GrammarState from, GrammarState to) {
    const GrammarState next = state(), name = state(), named = state();
    const GrammarState text = grammar_.add_state(true), value = state(), closer = state(), closed = state();
    json_.add_space(from, next);
    grammar_.add_jump(next, to);
    add_opener("", next, name);
    add_name(name, named);
    add_kind(true, named, text);
    grammar_.add_bytes(text, 0, 0xF4, text);
    add_text_closer(text, closed);
    add_kind(false, named, value);
    json_.add_any(value, closer);
    add_closer(kDsmlParameter, closer, closed);
    json_.add_space(closed, next);
  }

  Result<void> add_strict_parameters(const CallableTool& tool, GrammarState from, GrammarState to) {
    const JsonValue schema = TRY(parse_json(tool.strict_parameters, JsonDialect::kStandard));
    JsonSchemaBuilder builder(schema, json_);
    const std::vector<JsonSchemaBuilder::Property> properties = TRY(builder.root_properties());
    GrammarState at = state();
    json_.add_space(from, at);
    for (const JsonSchemaBuilder::Property& property : properties) {
      if (!fits_attribute(property.name)) {
        return make_error(ErrorCode::kUnsupported, "{}: a parameter's name cannot have quotes, '<', '>' or line breaks",
                          property.path);
      }
      const GrammarState named = state(), text = grammar_.add_state(true), text_end = grammar_.add_state(true);
      const GrammarState value = state(), closer = state(), closed = state(), next = state();
      add_opener(property.name, at, named);
      add_kind(true, named, text);
      TRY(builder.add_property(property, text, text_end, ValueForm::kRawString));
      add_text_closer(text_end, closed);
      add_kind(false, named, value);
      TRY(builder.add_property(property, value, closer, ValueForm::kJsonNoStrings));
      add_closer(kDsmlParameter, closer, closed);
      json_.add_space(closed, next);
      if (!property.required) grammar_.add_jump(at, next);
      at = next;
    }
    grammar_.add_jump(at, to);
    return {};
  }

  const DsmlBlockRules& rules_;
  JsonGrammar& json_;
  ByteGrammar& grammar_;
  const Markup markup_;
};

}  // namespace

Result<void> add_dsml_block(const DsmlBlockRules& rules, GrammarState from, GrammarState to, JsonGrammar& json) {
  return BlockBuilder(rules, json).build(from, to);
}

}  // namespace ds4
