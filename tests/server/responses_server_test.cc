#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/engine_server.h"
#include "server/responses_fixture.h"

namespace ds4 {
namespace {

using test::EventAccumulator;
using test::Json;

constexpr const char* kQuestion = "What is the weather in Paris?";

Json user(const std::string& text) { return {{"role", "user"}, {"content", text}}; }

// Whole rounds over HTTP with the trained model, which calls the tool that it is asked to.
class ResponsesServerTest : public test::EngineServerTest {
 protected:
  ResponsesServerTest() { start(test::trained_engine()); }

  ClientResponse send(const std::string& method, const std::string& path, const std::string& body = "") {
    HttpClient client(server_->port());
    std::string request = post_request(path, body);
    client.send(method + request.substr(request.find(' ')));
    return client.read_response();
  }
  Json get(const std::string& path) { return Json::parse(send("GET", path).body, nullptr, false); }

  static Json request(const Json& input) {
    return {{"input", input}, {"temperature", 0}, {"max_output_tokens", 200}, {"tools", Json::array({tool()})}};
  }
  Json ask(const Json& body) {
    const Json response = Json::parse(send("POST", "/v1/responses", body.dump()).body, nullptr, false);
    EXPECT_EQ(response["status"], "completed") << response.dump();
    return response;
  }

  static Json tool() {
    return {{"type", "function"},
            {"name", "get_weather"},
            {"description", "Get the current weather for a city."},
            {"parameters",
             {{"type", "object"},
              {"properties", {{"city", {{"type", "string"}, {"description", "City name"}}}}},
              {"required", {"city"}}}}};
  }

  static Json result_for(const Json& response) {
    const Json& call = response["output"].back();
    EXPECT_EQ(call["type"], "function_call") << response.dump();
    return {{"type", "function_call_output"}, {"call_id", call["call_id"]}, {"output", "21 degrees, sunny"}};
  }

  // All but the token that was sampled last, which was not run.
  static void expect_exact_continuation(const Json& first, const Json& second) {
    EXPECT_GE(second["usage"]["input_tokens_details"]["cached_tokens"].get<int>(),
              first["usage"]["total_tokens"].get<int>() - 1);
  }
};

TEST_F(ResponsesServerTest, ContinuesFromItemsThatTheClientKept) {
  Json body = request(Json::array({user(kQuestion)}));
  body["store"] = false;
  const Json first = ask(body);
  EXPECT_EQ(first["output"][0]["type"], "reasoning");
  for (const Json& item : first["output"]) body["input"].push_back(item);
  body["input"].push_back(result_for(first));
  const Json second = ask(body);
  expect_exact_continuation(first, second);
  EXPECT_EQ(second["output"].back()["type"], "message");
  // And a third turn after the text of the second.
  for (const Json& item : second["output"]) body["input"].push_back(item);
  body["input"].push_back(user("Thanks!"));
  expect_exact_continuation(second, ask(body));
  EXPECT_EQ(send("GET", "/v1/responses/" + first["id"].get<std::string>()).status, 404);
}

TEST_F(ResponsesServerTest, ContinuesFromSealedReasoningAlone) {
  Json body = request(Json::array({user(kQuestion)}));
  body["store"] = false;
  body["include"] = {"reasoning.encrypted_content"};
  const Json first = ask(body);
  for (Json item : first["output"]) {
    item.erase("content");
    body["input"].push_back(item);
  }
  body["input"].push_back(result_for(first));
  expect_exact_continuation(first, ask(body));
}

TEST_F(ResponsesServerTest, ContinuesAStoredResponse) {
  const Json first = ask(request(kQuestion));
  Json body = request(Json::array({result_for(first)}));
  body["previous_response_id"] = first["id"];
  const Json second = ask(body);
  expect_exact_continuation(first, second);
  EXPECT_EQ(second["previous_response_id"], first["id"]);
  // By reference, as the AI SDK does it: the reasoning is stored, the rest is sent.
  Json call = first["output"].back();
  call.erase("id");
  const Json reference = {{"type", "item_reference"}, {"id", first["output"][0]["id"]}};
  const Json third = ask(request(Json::array({user(kQuestion), reference, call, result_for(first)})));
  EXPECT_EQ(third["usage"]["input_tokens"], second["usage"]["input_tokens"]);
  EXPECT_EQ(third["output"].back()["content"], second["output"].back()["content"]);
}

TEST_F(ResponsesServerTest, ReturnsWhatItStored) {
  const Json first = ask(request(kQuestion));
  const std::string path = "/v1/responses/" + first["id"].get<std::string>();
  EXPECT_EQ(get(path), first);
  Json body = request(Json::array({result_for(first)}));
  body["previous_response_id"] = first["id"];
  const Json second = ask(body);
  const std::string items = "/v1/responses/" + second["id"].get<std::string>() + "/input_items";
  const Json all = get(items + "?order=asc");
  ASSERT_EQ(all["data"].size(), 2 + first["output"].size()) << all.dump();
  EXPECT_EQ(all["data"][0]["content"][0]["text"], kQuestion);
  EXPECT_EQ(all["data"].back()["output"], "21 degrees, sunny");
  EXPECT_EQ(all["first_id"], all["data"][0]["id"]);
  EXPECT_EQ(all["has_more"], false);
  const Json newest = get(items + "?limit=1");
  ASSERT_EQ(newest["data"].size(), 1U);
  EXPECT_EQ(newest["data"][0], all["data"].back());
  EXPECT_EQ(newest["has_more"], true);
  const Json rest = get(items + "?after=" + newest["last_id"].get<std::string>());
  EXPECT_EQ(rest["data"].size() + 1, all["data"].size());
  for (const char* wrong : {"?limit=0", "?limit=x", "?order=up", "?after=nothing"}) {
    EXPECT_EQ(send("GET", items + wrong).status, 400) << wrong;
  }
  EXPECT_EQ(send("POST", path + "/cancel", "{}").status, 400);
  EXPECT_EQ(send("GET", path + "?stream=true").status, 400);
  EXPECT_EQ(Json::parse(send("DELETE", path).body)["deleted"], true);
  for (const char* method : {"GET", "DELETE"}) EXPECT_EQ(send(method, path).status, 404);
  EXPECT_EQ(send("GET", "/v1/responses/resp_1/other").status, 404);
  EXPECT_EQ(send("POST", "/v1/responses/compact", "{}").status, 404);
  EXPECT_EQ(send("PUT", path).status, 405);
  // What continues it does not need it.
  EXPECT_EQ(get(items)["data"].size(), all["data"].size());
}

TEST_F(ResponsesServerTest, StreamsWhatItAnswers) {
  Json body = request(kQuestion);
  const Json whole = ask(body);
  body["stream"] = true;
  HttpClient client(server_->port());
  client.send(post_request("/v1/responses", body.dump()));
  EXPECT_EQ(client.read_head().header("Content-Type"), "text/event-stream");
  std::string stream;
  for (std::string event = client.read_event(); !event.empty(); event = client.read_event()) {
    if (!event.starts_with(":")) stream += event + "\n\n";
  }
  EventAccumulator accumulator;
  for (const Json& event : test::parse_events(stream)) accumulator.add(event);
  EXPECT_EQ(nlohmann::json(accumulator.output), nlohmann::json(accumulator.last["response"]["output"]));
  ASSERT_EQ(accumulator.output.size(), whole["output"].size());
  EXPECT_EQ(accumulator.output.back()["arguments"], whole["output"].back()["arguments"]);
  EXPECT_EQ(get("/v1/responses/" + accumulator.last["response"]["id"].get<std::string>()),
            accumulator.last["response"]);
}

TEST_F(ResponsesServerTest, SaysInTheClientsFormThatAPromptDoesNotFit) {
  std::string text;
  for (int i = 0; i < 2000; ++i) text += "word ";
  Json body = request(text);
  const ClientResponse refused = send("POST", "/v1/responses", body.dump());
  EXPECT_EQ(refused.status, 400);
  EXPECT_EQ(Json::parse(refused.body)["error"]["code"], "context_length_exceeded");
  body["stream"] = true;
  const ClientResponse stream = send("POST", "/v1/responses", body.dump());
  EXPECT_EQ(stream.status, 200);
  EXPECT_EQ(stream.header("Content-Type"), "text/event-stream");
  const std::vector<Json> events = test::parse_events(stream.body);
  EXPECT_EQ(events.back()["type"], "response.failed");
  EXPECT_EQ(events.back()["response"]["error"]["code"], "context_length_exceeded");
}

}  // namespace
}  // namespace ds4
