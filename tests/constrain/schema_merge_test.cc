// Which schemas can hold together as one, and what that one says.

#include <gtest/gtest.h>

#include "constrain/schema_keywords.h"
#include "constrain/schema_walker.h"

namespace ds4 {
namespace {

JsonValue json(const char* text) { return parse_json(text).take_value(); }

struct Merged {
  const char* a;
  const char* b;
  const char* both;
};

TEST(SchemaMergeTest, BothHoldInOne) {
  const Merged cases[] = {
      {R"({"type": "integer"})", R"({"type": "integer"})", R"({"type": "integer"})"},
      {R"({"type": ["integer", "string"]})", R"({"type": ["string", "null"]})", R"({"type": ["string"]})"},
      {R"({"type": "number"})", R"({"type": "integer"})", R"({"type": ["integer"]})"},
      {R"({"type": "string"})", R"({"type": "null"})", R"({"type": []})"},
      {R"({"enum": [1, "a", null]})", R"({"enum": [null, 2, 1]})", R"({"enum": [1, null]})"},
      {R"({"minimum": 3, "maximum": 9})", R"({"minimum": 5, "maximum": 10})", R"({"minimum": 5, "maximum": 9})"},
      {R"({"exclusiveMinimum": -1})", R"({"exclusiveMinimum": -2})", R"({"exclusiveMinimum": -1})"},
      {R"({"exclusiveMaximum": 7})", R"({"exclusiveMaximum": 6})", R"({"exclusiveMaximum": 6})"},
      {R"({"minLength": 2, "maxItems": 4})", R"({"minLength": 1, "maxItems": 5})",
       R"({"minLength": 2, "maxItems": 4})"},
      {R"({"required": ["a", "b"]})", R"({"required": ["b", "c"]})", R"({"required": ["a", "b", "c"]})"},
      {R"({"properties": {"a": {"minimum": 1}, "b": {}}})", R"({"properties": {"c": {}, "a": {"maximum": 4}}})",
       R"({"properties": {"a": {"minimum": 1, "maximum": 4}, "b": {}, "c": {}}})"},
      {R"({"items": {"type": "integer"}})", R"({"items": {"minimum": 2}})",
       R"({"items": {"type": "integer", "minimum": 2}})"},
      {R"({"additionalProperties": false})", R"({"additionalProperties": {"type": "null"}})",
       R"({"additionalProperties": false})"},
      {R"({"pattern": "a"})", R"({"pattern": "a"})", R"({"pattern": "a"})"},
      {R"({"title": "one", "type": "null"})", R"({"title": "two"})", R"({"title": "one", "type": "null"})"},
      {"true", R"({"type": "null"})", R"({"type": "null"})"},
      {R"({"type": "null"})", "true", R"({"type": "null"})"},
      {"false", R"({"type": "null"})", "false"},
      {R"({"type": "null"})", "false", "false"},
  };
  for (const Merged& merged : cases) {
    const auto both = merge_schemas(json(merged.a), json(merged.b), "#", 0);
    ASSERT_TRUE(both.ok()) << merged.a << " and " << merged.b << ": " << both.error().message;
    EXPECT_EQ(dump_json(both.value()), merged.both) << merged.a << " and " << merged.b;
  }
}

struct Apart {
  const char* a;
  const char* b;
  const char* says;
};

// Silently taking one of two would let a text through that does not fit.
TEST(SchemaMergeTest, WhatCannotBeJoinedIsNamed) {
  const Apart cases[] = {
      {R"({"pattern": "a"})", R"({"pattern": "b"})", "#/x: 'pattern' with two different values"},
      {R"({"format": "date"})", R"({"format": "time"})", "'format'"},
      {R"({"const": 1})", R"({"const": 2})", "'const'"},
      {R"({"anyOf": [{}]})", R"({"anyOf": [true]})", "'anyOf'"},
      {R"({"minimum": "x"})", R"({"minimum": 1})", "'minimum'"},
      {R"({"additionalProperties": false})", R"({"properties": {"a": {}}})", "has the property 'a'"},
      {R"({"properties": {"b": {}}})", R"({"properties": {"c": {}}, "additionalProperties": {"type": "null"}})",
       "has the property 'b'"},
      {R"({"items": {"type": "null"}})", R"({"prefixItems": [{}]})",
       "'items' beside another schema with 'prefixItems'"},
      {R"({"properties": {"a": {"pattern": "a"}}})", R"({"properties": {"a": {"pattern": "b"}}})",
       "#/x/properties/a: 'pattern'"},
      {"3", "{}", "expected a schema"},
  };
  for (const Apart& apart : cases) {
    const auto both = merge_schemas(json(apart.a), json(apart.b), "#/x", 0);
    ASSERT_FALSE(both.ok()) << apart.a << " and " << apart.b << ": " << dump_json(both.value());
    EXPECT_NE(both.error().message.find(apart.says), std::string::npos) << both.error().message;
  }
}

TEST(SchemaMergeTest, AJoinedSchemaAcceptsWhatBothDo) {
  const auto walker =
      test::SchemaWalker::create(
          R"({"allOf":[{"type":"object","properties":{"n":{"type":"number","minimum":2}},"required":["n"]},)"
          R"({"properties":{"n":{"type":"integer","maximum":4},"t":{"enum":["a","b"]}}},)"
          R"({"properties":{"t":{"enum":["b","c"]}}}]})")
          .take_value();
  for (const char* text : {R"({"n":2})", R"({"n":4})", R"({"n":3,"t":"b"})"})
    EXPECT_TRUE(walker->accepts(text)) << text;
  for (const char* text : {R"({"n":1})", R"({"n":5})", R"({"n":2.5})", R"({"t":"b"})", R"({"n":3,"t":"a"})", "{}"}) {
    EXPECT_FALSE(walker->accepts(text)) << text;
  }
}

}  // namespace
}  // namespace ds4
