#pragma once

// A JSON schema as grammar: the texts that fit it, in the form in which they are written here
// (docs/structured_output.md lists the supported keywords and the form). What is written always fits the schema; not
// everything that fits it can be written: properties come in the schema's order, numbers have a bounded length. A
// keyword outside the subset is an error that names it and its place. Builders, used while one grammar is made; one
// thread.

#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "chat/python_json.h"
#include "constrain/json_grammar.h"

namespace ds4 {

// Which of a schema's values, and how they are written.
enum class ValueForm : uint8_t {
  kJson,           // all, as JSON
  kJsonNoStrings,  // all but strings, as JSON
  kRawString,      // strings, as they are
};

class JsonSchemaBuilder {
 public:
  // `root` is what "$ref" refers to. Both must outlive the builder.
  JsonSchemaBuilder(const JsonValue& root, JsonGrammar& json) : root_(root), json_(json), grammar_(json.grammar()) {}

  // Adds the values that fit the root between two states. Errors: kUnsupported, kInvalidArgument.
  Result<void> add_root(GrammarState from, GrammarState to, ValueForm form);

  struct Property {
    std::string name;
    const JsonValue* schema;
    std::string path;
    bool required;
  };
  // The properties of the root, which must be an object's schema, in their order.
  Result<std::vector<Property>> root_properties();
  // One of them.
  Result<void> add_property(const Property& property, GrammarState from, GrammarState to, ValueForm form);

 private:
  struct Rule {
    const JsonValue* schema;
    std::string path;
    ValueForm form;
    GrammarState start;
    GrammarState end;
  };
  struct Place {
    GrammarState from;
    GrammarState to;
    ValueForm form;
  };

  Result<void> add_pending_rules();
  GrammarState rule_of(const JsonValue& schema, const std::string& path, ValueForm form);
  Result<const JsonValue*> resolve(const std::string& reference, const std::string& path) const;
  Result<void> add(const JsonValue& schema, const std::string& path, const Place& place);
  Result<bool> add_combined(const JsonValue& schema, const std::string& path, const Place& place);
  Result<void> add_reference(const JsonValue& schema, const std::string& path, const Place& place);
  Result<void> add_branches(const JsonValue& schema, const char* keyword, const std::string& path, const Place& place);
  Result<void> add_values(const JsonValue& schema, const std::string& path, const Place& place);
  Result<std::vector<std::string>> types_of(const JsonValue& schema, const std::string& path) const;
  Result<void> add_type(const JsonValue& schema, const std::string& type, const std::string& path, const Place& place);
  Result<void> add_string(const JsonValue& schema, const std::string& path, const Place& place);
  Result<void> add_object(const JsonValue& schema, const std::string& path, const Place& place);
  Result<void> add_more_members(const JsonValue& more, const std::vector<Property>& known, const std::string& path,
                                const Place& place);
  Result<void> add_array(const JsonValue& schema, const std::string& path, const Place& place);
  Result<NumberBounds> number_bounds(const JsonValue& schema, const std::string& path, bool is_integer) const;
  Result<uint32_t> count(const JsonValue& schema, const char* keyword, const std::string& path,
                         uint32_t otherwise) const;
  Result<std::vector<Property>> properties_of(const JsonValue& schema, const std::string& path) const;
  void add_key(std::string_view name, GrammarState from, GrammarState to);
  void add_other_key(const std::vector<Property>& known, GrammarState from, GrammarState to);
  const JsonValue& keep(JsonValue schema) { return kept_.emplace_back(std::move(schema)); }

  const JsonValue& root_;
  JsonGrammar& json_;
  ByteGrammar& grammar_;
  std::deque<JsonValue> kept_;
  std::map<std::pair<const JsonValue*, ValueForm>, GrammarState> rules_;
  std::deque<Rule> pending_;
  int depth_ = 0;
};

}  // namespace ds4
