#include "chat/python_json.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>
#include <random>

#include "chat/vectors.h"

namespace ds4 {
namespace {

std::string normalise(std::string_view text, JsonDialect dialect = JsonDialect::kPython) {
  Result<JsonValue> value = parse_json(text, dialect);
  return value.ok() ? dump_json(value.value()) : "error: " + value.error().message;
}

TEST(PythonJson, GoldenCases) {
  const std::string path = std::string(DS4_SOURCE_DIR) + "/tests/vectors/chat/json_dumps.json";
  const auto golden = nlohmann::json::parse(test::read_file(path));
  ASSERT_EQ(golden["cases"].size(), 18u);
  for (const auto& golden_case : golden["cases"]) {
    EXPECT_EQ(normalise(golden_case["in"].get<std::string>()), golden_case["out"].get<std::string>());
  }
}

TEST(PythonJson, ReadsTheGoldenFilesLikeAnIndependentParser) {
  for (const char* name : {"encode", "parse", "injection", "official_golden", "json_dumps"}) {
    const std::string text = test::read_file(fmt::format("{}/tests/vectors/chat/{}.json", DS4_SOURCE_DIR, name));
    const Result<JsonValue> ours = parse_json(text, JsonDialect::kStandard);
    ASSERT_TRUE(ours.ok()) << name << ": " << ours.error().message;
    EXPECT_TRUE(nlohmann::ordered_json::parse(dump_json(ours.value())) == nlohmann::ordered_json::parse(text)) << name;
  }
}

TEST(PythonJson, NumbersAreShortestDoublesOrExactIntegers) {
  EXPECT_EQ(normalise("-0"), "0");
  EXPECT_EQ(normalise("-0.0"), "-0.0");
  EXPECT_EQ(normalise("0e5"), "0.0");
  EXPECT_EQ(normalise("123456789.125"), "123456789.125");
  EXPECT_EQ(normalise("-1.5e-7"), "-1.5e-07");
  EXPECT_EQ(normalise("9999999999999998.0"), "9999999999999998.0");
  EXPECT_EQ(normalise("1e16"), "1e+16");
  EXPECT_EQ(normalise("1e-400"), "0.0");
  EXPECT_EQ(normalise("-1e-400"), "-0.0");
  EXPECT_EQ(normalise("1e99999999999999999999"), "Infinity");
  EXPECT_EQ(normalise("-1e99999999999999999999"), "-Infinity");
  EXPECT_EQ(normalise("1e-99999999999999999999"), "0.0");
  EXPECT_EQ(normalise("0." + std::string(400, '0') + "1"), "0.0");
  EXPECT_EQ(normalise(std::string(400, '9') + ".0"), "Infinity");
  EXPECT_EQ(normalise(std::string(5000, '7')), std::string(5000, '7'));
}

TEST(PythonJson, RandomDoublesReadBackTheSame) {
  std::mt19937_64 random(7);
  for (int i = 0; i < 2000; ++i) {
    const auto value = std::bit_cast<double>(random());
    if (!std::isfinite(value)) continue;
    const std::string dumped = normalise(fmt::format("{:.17e}", value));
    ASSERT_EQ(nlohmann::json::parse(dumped).get<double>(), value) << dumped;
  }
}

TEST(PythonJson, RefusesWhatPythonRefusesAndSaysWhere) {
  for (const char* bad :
       {"",         " ",           "{",      "[1",  "[1,]", "{\"a\":1,}", "{a:1}",     "{'a':1}",  "True",
        "nul",      "01",          "1.",     ".5",  "1e",   "+1",         "-",         "--1",      "\"a\nb\"",
        "\"\\x\"",  "\"\\u12g4\"", "\"open", "1 2", "{} x", "[1 2]",      "{\"a\" 1}", "{\"a\":}", "\xEF\xBB\xBF{}",
        "infinity", "-NaN",        "0x10",   "\"\\"}) {
    EXPECT_FALSE(parse_json(bad).ok()) << bad;
  }
  EXPECT_EQ(normalise("[1, x]"), "error: invalid JSON at byte 4: expected a value, found \"x\"");
  EXPECT_EQ(normalise("{\"a\": 1"), "error: invalid JSON at byte 7: expected ',' or '}', found the end");
}

TEST(PythonJson, StandardDialectHasNoNonFiniteNumbers) {
  for (const char* word : {"NaN", "Infinity", "-Infinity"}) {
    EXPECT_TRUE(parse_json(word).ok()) << word;
    EXPECT_FALSE(parse_json(word, JsonDialect::kStandard).ok()) << word;
  }
}

TEST(PythonJson, SurrogateEscapesPairOrBecomeReplacements) {
  EXPECT_EQ(normalise(R"("\ud83d\ude00")"), "\"😀\"");
  EXPECT_EQ(normalise(R"("\ud83d")"), "\"\uFFFD\"");
  EXPECT_EQ(normalise(R"("\ude00\ud83d")"), "\"\uFFFD\uFFFD\"");
  EXPECT_EQ(normalise(R"("\ud83d\u0041")"), "\"\uFFFDA\"");
  EXPECT_EQ(normalise(R"("\u0000")"), "\"\\u0000\"");
}

TEST(PythonJson, NestingIsLimited) {
  const auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_EQ(normalise(nested(kMaxJsonDepth)), nested(kMaxJsonDepth));
  EXPECT_FALSE(parse_json(nested(kMaxJsonDepth + 1)).ok());
  EXPECT_FALSE(parse_json(std::string(1000000, '[')).ok());
  std::string objects;
  for (int i = 0; i < 1000000; ++i) objects += "{\"a\":";
  EXPECT_FALSE(parse_json(objects).ok());
}

TEST(PythonJson, DumpingIsIdempotentOnGoldenRequests) {
  for (const JsonValue& golden_case : test::load_cases("encode.json")) {
    const std::string once = dump_json(*test::find(golden_case, "messages"));
    EXPECT_EQ(normalise(once), once);
  }
}

}  // namespace
}  // namespace ds4
