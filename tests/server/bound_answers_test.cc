// The trained model under schemas, over every dialect that takes one: whatever it would say, the answer fits.

#include <nlohmann/json.hpp>

#include "server/engine_server.h"

namespace ds4 {
namespace {

using Json = nlohmann::ordered_json;

class BoundAnswersTest : public test::EngineServerTest {
 protected:
  BoundAnswersTest() { start(test::trained_engine()); }

  static Json schema() {
    return {{"type", "object"},
            {"properties",
             {{"ok", {{"type", "boolean"}}},
              {"unit", {{"type", "string"}, {"enum", {"C", "F"}}}},
              {"days", {{"type", "integer"}, {"minimum", 1}, {"maximum", 14}}}}},
            {"required", {"ok", "unit", "days"}},
            {"additionalProperties", false}};
  }
  static Json unsupported() {
    return {{"type", "object"}, {"propertyNames", {{"pattern", "(?=a)"}}}, {"not", {{"type", "null"}}}};
  }

  // {path, request}: asks in the form of each dialect.
  struct Dialect {
    std::string path;
    std::string param;  // where the schema stands
    Json request;
  };
  static std::vector<Dialect> dialects(const Json& wanted) {
    const Json question = Json::array({{{"role", "user"}, {"content", "What is the weather in Paris?"}}});
    return {{"/v1/chat/completions",
             "response_format.json_schema.schema",
             {{"messages", question},
              {"thinking", false},
              {"max_completion_tokens", 100},
              {"response_format", {{"type", "json_schema"}, {"json_schema", {{"name", "n"}, {"schema", wanted}}}}}}},
            {"/v1/messages",
             "output_config.format.schema",
             {{"messages", question},
              {"thinking", {{"type", "disabled"}}},
              {"max_tokens", 100},
              {"output_config", {{"format", {{"type", "json_schema"}, {"schema", wanted}}}}}}},
            {"/v1/responses",
             "text.format.schema",
             {{"input", question},
              {"reasoning", {{"effort", "none"}}},
              {"max_output_tokens", 100},
              {"text", {{"format", {{"type", "json_schema"}, {"name", "n"}, {"schema", wanted}}}}}}}};
  }

  static std::string text_of(const Json& answer) {
    if (answer.contains("choices")) return answer["choices"][0]["message"]["content"];
    if (answer.contains("content")) return answer["content"].back()["text"];
    return answer["output"].back()["content"][0]["text"];
  }
};

TEST_F(BoundAnswersTest, FitTheirSchemaInEveryDialect) {
  for (Dialect& dialect : dialects(schema())) {
    for (const double temperature : {0.0, 1.0}) {
      dialect.request["temperature"] = temperature;
      const ClientResponse response = post(dialect.path, dialect.request.dump());
      ASSERT_EQ(response.status, 200) << dialect.path << response.body;
      const Json value = Json::parse(text_of(Json::parse(response.body)), nullptr, false);
      ASSERT_TRUE(value.is_object()) << dialect.path << response.body;
      EXPECT_EQ(value.size(), 3U);
      EXPECT_TRUE(value["ok"].is_boolean()) << response.body;
      EXPECT_TRUE(value["unit"] == "C" || value["unit"] == "F") << response.body;
      EXPECT_TRUE(value["days"].is_number_integer() && value["days"] >= 1 && value["days"] <= 14) << response.body;
    }
  }
}

TEST_F(BoundAnswersTest, ASchemaThatCannotBeEnforcedIsRefusedByItsPath) {
  for (const Dialect& dialect : dialects(unsupported())) {
    const ClientResponse response = post(dialect.path, dialect.request.dump());
    EXPECT_EQ(response.status, 400) << dialect.path;
    const std::string message = Json::parse(response.body)["error"]["message"];
    EXPECT_TRUE(message.starts_with(dialect.param + ": ")) << message;
    EXPECT_NE(message.find("not"), std::string::npos) << message;
  }
}

TEST_F(BoundAnswersTest, SoIsOneOfAStrictTool) {
  const auto refusal = [this](std::string_view path, Json request, const Json& tool) {
    request["tools"] = Json::array({tool});
    const ClientResponse response = post(path, request.dump());
    EXPECT_EQ(response.status, 400) << path;
    return Json::parse(response.body)["error"]["message"].get<std::string>();
  };
  const Json messages = {{"messages", Json::array({{{"role", "user"}, {"content", "hi"}}})}, {"max_tokens", 5}};
  EXPECT_TRUE(refusal("/v1/messages", messages, {{"name", "f"}, {"strict", true}, {"input_schema", unsupported()}})
                  .starts_with("tools[0].input_schema: "));
  EXPECT_TRUE(refusal("/v1/responses", {{"input", "hi"}},
                      {{"type", "function"}, {"name", "f"}, {"strict", true}, {"parameters", unsupported()}})
                  .starts_with("tools[0].parameters: "));
}

}  // namespace
}  // namespace ds4
