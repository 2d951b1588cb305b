#include "constrain/json_schema.h"

#include <gtest/gtest.h>

#include <set>

#include "constrain/json_validator.h"
#include "constrain/matcher_store.h"
#include "constrain/schema_check.h"
#include "constrain/schema_walker.h"

namespace ds4 {
namespace {

using Json = nlohmann::ordered_json;

std::unique_ptr<test::SchemaWalker> walker_of(const std::string& schema) {
  auto walker = test::SchemaWalker::create(schema);
  EXPECT_TRUE(walker.ok()) << schema << ": " << (walker.ok() ? "" : walker.error().message);
  return walker.ok() ? walker.take_value() : nullptr;
}

// Every text that is written is JSON that fits.
void expect_texts_fit(const std::string& schema, int n_texts, uint64_t seed) {
  const auto walker = walker_of(schema);
  if (walker == nullptr) return;
  const Json parsed = Json::parse(schema);
  Xorshift64Star rng(seed);
  for (int i = 0; i < n_texts && !testing::Test::HasFailure(); ++i) {
    const std::string text = walker->write(rng);
    const Json value = Json::parse(text, nullptr, false);
    ASSERT_FALSE(value.is_discarded()) << schema << "\nis no JSON: " << text;
    EXPECT_EQ(test::schema_violation(parsed, value, parsed), "") << schema << "\n" << text;
  }
}

constexpr const char* kSchemas[] = {
    "{}",
    "true",
    R"({"type":"object"})",
    R"({"type":"object","properties":{"a":{"type":"string"},"b":{"type":"integer"}},"required":["a"]})",
    R"({"type":"object","properties":{"a":{"type":"string"},"b":{"type":"integer"},"c":{}},"required":["b"],"additionalProperties":false})",
    R"({"type":"object","properties":{"name":{"type":"string"},"näme":{"type":"number"}},"additionalProperties":{"type":"boolean"}})",
    R"({"type":"object","additionalProperties":{"type":"array","items":{"type":"null"}}})",
    R"({"type":"array","items":{"type":["string","null"]},"minItems":1,"maxItems":3})",
    R"({"type":"array","prefixItems":[{"type":"integer"},{"const":"x"}],"items":{"type":"boolean"},"minItems":2})",
    R"({"type":"array","prefixItems":[{"type":"integer"}],"items":false})",
    R"({"enum":["a","b\"c",1,2.5,null,true,["x",{"y":1}]]})",
    R"({"type":"string","enum":["red","green","redder"]})",
    R"({"const":{"k":[1,2]}})",
    R"({"anyOf":[{"type":"integer","minimum":5,"maximum":17},{"type":"string","maxLength":3},{"type":"null"}]})",
    R"({"oneOf":[{"type":"object","properties":{"kind":{"const":"a"}},"required":["kind"]},{"type":"object","properties":{"kind":{"const":"b"},"n":{"type":"integer"}},"required":["kind","n"]}]})",
    R"({"allOf":[{"$ref":"#/$defs/a"},{"required":["b"],"properties":{"b":{"type":"null"}}}],"$defs":{"a":{"type":"object","properties":{"a":{"type":"integer"}},"required":["a"]}}})",
    R"({"type":"object","properties":{"value":{"type":"integer"},"next":{"anyOf":[{"$ref":"#"},{"type":"null"}]}},"required":["value","next"]})",
    R"({"$ref":"#/$defs/tree","$defs":{"tree":{"type":"object","properties":{"l":{"$ref":"#/$defs/tree"},"r":{"type":"array","items":{"$ref":"#/$defs/tree"}}}}}})",
    R"({"type":"string","minLength":2,"maxLength":5})",
    R"({"type":"string","minLength":3})",
    R"({"type":"string","pattern":"^[a-c\"\\\\]{2,4}(x|yz)*$"})",
    R"({"type":"string","pattern":"[0-9]{3}"})",
    R"({"type":"integer","minimum":-12,"exclusiveMaximum":105})",
    R"({"type":"integer","exclusiveMinimum":0,"maximum":9007199254740991})",
    R"({"type":"integer","minimum":-9007199254740991,"maximum":9007199254740991})",
    R"({"type":"number","minimum":0,"maximum":1})",
    R"({"type":"number","exclusiveMinimum":-3,"exclusiveMaximum":2})",
    R"({"type":"number","exclusiveMinimum":0})",
    R"({"type":"string","nullable":true,"maxLength":2})",
    R"({"type":"object","properties":{"a":{"type":"string","description":"x"}},"anyOf":[{"required":["a"]},{"properties":{"b":{"type":"integer"}},"required":["b"]}]})",
    R"({"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object","propertyNames":{"type":"string"},"additionalProperties":{"type":"string"}})",
};

TEST(JsonSchemaTest, WhatIsWrittenFitsTheSchema) {
  uint64_t seed = 1;
  for (const char* schema : kSchemas) expect_texts_fit(schema, 60, ++seed);
}

// Random schemas of the subset.
class SchemaMaker {
 public:
  explicit SchemaMaker(uint64_t seed) : rng_(seed) {}

  Json make(int depth) {
    switch (below(depth > 0 ? 11 : 7)) {
      case 0: return {{"type", "boolean"}};
      case 1: return {{"type", "null"}};
      case 2: return make_string();
      case 3: return make_number("integer");
      case 4: return make_number("number");
      case 5: return {{"enum", {"on", "off", below(100), nullptr}}};
      case 6: return {{"type", Json::array({"string", "integer"})}};
      case 7: return make_array(depth);
      case 8: return {{"anyOf", Json::array({make(depth - 1), make(depth - 1)})}};
      default: return make_object(depth);
    }
  }

 private:
  uint64_t below(uint64_t n) { return rng_.next() % n; }

  Json make_string() {
    Json schema = {{"type", "string"}};
    if (below(2) == 0) schema["minLength"] = below(4);
    if (below(2) == 0) schema["maxLength"] = 4 + below(5);
    return schema;
  }
  Json make_number(const char* type) {
    Json schema = {{"type", type}};
    const auto low = static_cast<int64_t>(below(2000)) - 1000;
    if (below(2) == 0) schema[below(2) == 0 ? "minimum" : "exclusiveMinimum"] = low;
    if (below(2) == 0)
      schema[below(2) == 0 ? "maximum" : "exclusiveMaximum"] = low + 2 + static_cast<int64_t>(below(1500));
    return schema;
  }
  Json make_array(int depth) {
    Json schema = {{"type", "array"}, {"items", make(depth - 1)}};
    if (below(2) == 0) schema["minItems"] = below(3);
    if (below(2) == 0) schema["maxItems"] = 3 + below(3);
    return schema;
  }
  Json make_object(int depth) {
    Json schema = {{"type", "object"}, {"properties", Json::object()}, {"required", Json::array()}};
    for (const char* name : {"a", "ab", "name", "\xC3\xA4", "q\"t"}) {
      if (below(2) == 0) schema["properties"][name] = make(depth - 1);
      if (schema["properties"].contains(name) && below(2) == 0) schema["required"].push_back(name);
    }
    if (below(3) == 0) schema["additionalProperties"] = below(2) == 0 ? Json(false) : make(depth - 1);
    return schema;
  }

  Xorshift64Star rng_;
};

TEST(JsonSchemaTest, WhatIsWrittenFitsRandomSchemas) {
  for (uint64_t seed = 1; seed <= 200 && !HasFailure(); ++seed) {
    expect_texts_fit(SchemaMaker(seed).make(3).dump(), 6, seed);
  }
}

// Follows the automaton byte by byte: wherever a text can get, it can go on or end, and from there to the end.
void expect_no_dead_end(const std::string& schema) {
  const auto walker = walker_of(schema);
  if (walker == nullptr) return;
  MatcherStore store(walker->grammar());
  std::vector<int32_t> found{store.start(walker->start())};
  std::vector<std::vector<size_t>> before(1);
  std::set<int32_t> known{found[0]};
  std::vector<size_t> index_of{0};
  constexpr size_t kMost = 1500;
  for (size_t i = 0; i < found.size(); ++i) {
    bool goes_on = store.can_end(found[i]);
    for (int byte = 0; byte < 256; ++byte) {
      const int32_t next = store.next(found[i], static_cast<uint8_t>(byte));
      goes_on = goes_on || next != MatcherStore::kDead;
      if (next == MatcherStore::kDead || found.size() >= kMost || !known.insert(next).second) continue;
      found.push_back(next);
    }
    ASSERT_TRUE(goes_on) << schema << ": position " << i << " of " << found.size();
  }
}

TEST(JsonSchemaTest, NoPositionIsADeadEnd) {
  for (const char* schema : kSchemas) expect_no_dead_end(schema);
  for (uint64_t seed = 300; seed <= 330; ++seed) expect_no_dead_end(SchemaMaker(seed).make(3).dump());
}

TEST(JsonSchemaTest, IntegerBoundsAreExact) {
  for (const auto& [low, high] : {std::pair(-150, 120), {0, 9}, {10, 99}, {7, 1003}, {-5, -5}, {-120, -7}, {99, 101}}) {
    const auto walker = walker_of(fmt::format(R"({{"type":"integer","minimum":{},"maximum":{}}})", low, high));
    ASSERT_NE(walker, nullptr);
    for (int n = -1100; n <= 1100; ++n) {
      EXPECT_EQ(walker->accepts(fmt::format("{}", n)), n >= low && n <= high) << n << " in " << low << ".." << high;
    }
    EXPECT_FALSE(walker->accepts("01"));
    EXPECT_FALSE(walker->accepts("-0"));
  }
}

TEST(JsonSchemaTest, NumberBoundsHoldForFractions) {
  const auto walker = walker_of(R"({"type":"number","exclusiveMinimum":-2,"maximum":3})");
  for (const char* text : {"-1.5", "-1", "-0.25", "0", "0.0", "2.999", "3"}) EXPECT_TRUE(walker->accepts(text)) << text;
  for (const char* text : {"-2", "-2.0", "-2.5", "3.1", "4", "1e1", "-0"}) EXPECT_FALSE(walker->accepts(text)) << text;
  const auto positive = walker_of(R"({"type":"number","exclusiveMinimum":0})");
  for (const char* text : {"0.001", "0.10", "1", "5.5"}) EXPECT_TRUE(positive->accepts(text)) << text;
  for (const char* text : {"0", "0.0", "0.00", "-1", "-0.5"}) EXPECT_FALSE(positive->accepts(text)) << text;
}

TEST(JsonSchemaTest, PropertiesComeInOrderAndOptionalOnesMayBeMissing) {
  const auto walker =
      walker_of(R"({"type":"object","properties":{"a":{"type":"null"},"b":{"type":"null"}},"required":["b"]})");
  EXPECT_TRUE(walker->accepts(R"({"a": null, "b": null})"));
  EXPECT_TRUE(walker->accepts("{\n  \"a\": null,\n  \"b\": null\n}"));
  EXPECT_TRUE(walker->accepts(R"({"b":null})"));
  EXPECT_FALSE(walker->accepts(R"({"b":null,"a":null})"));
  EXPECT_FALSE(walker->accepts(R"({"a":null})"));
  EXPECT_FALSE(walker->accepts(R"({"a":null,"b":null,"c":null})"));
  EXPECT_FALSE(walker->accepts(R"({"b":null} )"));
}

TEST(JsonSchemaTest, AnAdditionalPropertyHasNoDeclaredName) {
  const auto walker = walker_of(R"({"properties":{"ab":{"type":"null"}},"additionalProperties":{"type":"integer"}})");
  for (const char* key : {"a", "abc", "b", "", "aB", "\xC3\xA4"}) {
    EXPECT_TRUE(walker->accepts(fmt::format("{{\"{}\":1}}", key))) << key;
  }
  EXPECT_FALSE(walker->accepts(R"({"ab":1})"));
  EXPECT_FALSE(walker->accepts(R"({"\u0061b":1})"));
  EXPECT_TRUE(walker->accepts(R"({"ab":null,"x":1,"y":2})"));
}

TEST(JsonSchemaTest, WhiteSpaceIsBounded) {
  const auto walker = walker_of("{}");
  EXPECT_TRUE(walker->accepts("[ 1]"));
  EXPECT_TRUE(walker->accepts("[\n" + std::string(32, ' ') + "1]"));
  EXPECT_FALSE(walker->accepts("[\n" + std::string(33, ' ') + "1]"));
  EXPECT_FALSE(walker->accepts("[  1]"));
  EXPECT_FALSE(walker->accepts("[\n\n1]"));
}

TEST(JsonSchemaTest, NestingIsBounded) {
  const auto walker = walker_of("{}");
  const auto nested = [](size_t n) { return std::string(n, '[') + std::string(n, ']'); };
  EXPECT_TRUE(walker->accepts(nested(60)));
  EXPECT_FALSE(walker->accepts(nested(220)));
}

TEST(JsonSchemaTest, StringsAreWellFormed) {
  const auto walker = walker_of(R"({"type":"string"})");
  for (const char* text : {R"("\u00e4")", R"("\uD83D\uDE00")", "\"\xF0\x9F\x98\x80\"", R"("\\\"")", "\"\x7F\""}) {
    EXPECT_TRUE(walker->accepts(text)) << text;
  }
  for (const char* text :
       {R"("\uD83D")", R"("\uDE00")", "\"\xC3\"", "\"\xED\xA0\x80\"", "\"\n\"", R"("\x")", "\"\xFF\""}) {
    EXPECT_FALSE(walker->accepts(text)) << text;
  }
}

struct Refused {
  const char* schema;
  const char* says;
  ErrorCode code = ErrorCode::kUnsupported;
};

TEST(JsonSchemaTest, WhatIsNotSupportedIsNamedWithItsPlace) {
  const Refused cases[] = {
      {R"({"type":"object","properties":{"a":{"not":{}}}})", "#/properties/a: the keyword 'not'"},
      {R"({"if":{},"then":{}})", "'if'"},
      {R"({"type":"array","items":{"type":"integer","multipleOf":2}})", "#/items: the keyword 'multipleOf'"},
      {R"({"type":"array","uniqueItems":true})", "'uniqueItems'"},
      {R"({"patternProperties":{"a":{}}})", "'patternProperties'"},
      {R"({"type":"string","format":"ipv6"})", "'format' 'ipv6'"},
      {R"({"type":"string","pattern":"(?=a)b"})", "look-ahead"},
      {R"({"type":"string","pattern":"a\\1"})", "back reference"},
      {R"({"type":"string","pattern":"(a"})", "too early", ErrorCode::kInvalidArgument},
      {R"({"type":"number","minimum":0.5})", "'minimum'"},
      {R"({"$ref":"other.json"})", "other.json"},
      {R"({"$ref":"#/$defs/none"})", "does not exist", ErrorCode::kInvalidArgument},
      {R"({"type":"text"})", "'type'", ErrorCode::kInvalidArgument},
      {R"({"anyOf":[{"type":"integer"},{"dependentRequired":{}}]})", "#/anyOf/1: the keyword 'dependentRequired'"},
      {R"({"type":"integer","minimum":3,"maximum":2})", "no value fits", ErrorCode::kInvalidArgument},
      {R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})", "no value fits",
       ErrorCode::kInvalidArgument},
      {R"({"allOf":[{"$ref":"#"}]})", "#"},
      {"3", "expected a schema", ErrorCode::kInvalidArgument},
      {"{", "", ErrorCode::kInvalidArgument},
  };
  for (const Refused& refused : cases) {
    const Result<void> checked = check_answer_schema(refused.schema);
    ASSERT_FALSE(checked.ok()) << refused.schema;
    EXPECT_NE(checked.error().message.find(refused.says), std::string::npos) << checked.error().message;
    EXPECT_EQ(checked.error().code, refused.code) << checked.error().message;
  }
}

TEST(JsonSchemaTest, AnnotationsBindNothing) {
  EXPECT_TRUE(
      check_answer_schema(R"({"$schema":"x","$id":"y","title":"t","description":"d","default":1,"examples":[1],)"
                          R"("deprecated":true,"readOnly":true,"$comment":"c","x-order":1,"type":"integer"})")
          .ok());
}

}  // namespace
}  // namespace ds4
