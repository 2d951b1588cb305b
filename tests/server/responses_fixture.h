#pragma once

// What the tests of the Responses dialect share: a responder that keeps what it gets, a client that builds the response
// from its events as SDKs do, and short ways to ask and to answer.

#include <string>
#include <utility>
#include <vector>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "server/openai_responses.h"

namespace ds4::test {

using Json = nlohmann::ordered_json;

class KeepingResponder final : public Responder {
 public:
  void send(HttpResponse response) override {
    EXPECT_FALSE(has_ended);
    has_ended = true;
    bytes = response.body;
    head = std::move(response);
  }
  void begin_stream(HttpResponse response, std::string keep_alive) override {
    bytes = response.body;
    comment = std::move(keep_alive);
    head = std::move(response);
  }
  void write(std::string chunk) override {
    EXPECT_FALSE(has_ended);
    bytes += chunk;
  }
  void end() override { has_ended = true; }
  std::shared_ptr<std::atomic<bool>> cancelled() const override { return flag; }

  std::shared_ptr<std::atomic<bool>> flag = std::make_shared<std::atomic<bool>>(false);
  HttpResponse head;
  std::string comment;
  std::string bytes;
  bool has_ended = false;
};

// The events of a stream; checks that names, types and numbers agree.
inline std::vector<Json> parse_events(const std::string& stream) {
  std::vector<Json> events;
  for (size_t at = 0; at < stream.size();) {
    const size_t end = stream.find("\n\n", at);
    EXPECT_NE(end, std::string::npos) << "an event without its end";
    if (end == std::string::npos) break;
    const std::string block = stream.substr(at, end - at);
    at = end + 2;
    const size_t line_end = block.find("\ndata: ");
    EXPECT_TRUE(block.starts_with("event: ") && line_end != std::string::npos) << block;
    if (line_end == std::string::npos) break;
    Json event = Json::parse(block.substr(line_end + 7), nullptr, false);
    EXPECT_TRUE(event.is_object()) << block;
    EXPECT_EQ(event["type"], block.substr(7, line_end - 7));
    EXPECT_EQ(event["sequence_number"], events.size());
    events.push_back(std::move(event));
  }
  return events;
}

// Builds the output from the events alone and checks their order: items one after the other, parts inside them.
class EventAccumulator {
 public:
  void add(const Json& event) {
    const std::string type = event["type"];
    if (event.contains("response")) return add_lifecycle(type, event);
    EXPECT_TRUE(has_created) << type;
    const size_t index = event["output_index"];
    if (type == "response.output_item.added") {
      EXPECT_EQ(index, output.size());
      output.push_back(event["item"]);
      return;
    }
    ASSERT_EQ(index + 1, output.size()) << type;
    Json& item = output.back();
    if (type != "response.output_item.done") {
      EXPECT_EQ(event["item_id"], item["id"]) << type;
    }
    EXPECT_EQ(n_done, index) << type;
    add_to_item(type, event, item);
  }

  Json output = Json::array();
  Json last;  // the terminal event
  size_t n_done = 0;
  bool has_created = false;

 private:
  void add_lifecycle(const std::string& type, const Json& event) {
    if (type == "response.created") {
      EXPECT_FALSE(std::exchange(has_created, true));
    } else if (type != "response.in_progress") {
      EXPECT_TRUE(last.is_null());
      last = event;
    }
  }

  void add_to_item(const std::string& type, const Json& event, Json& item) {
    if (type == "response.content_part.added") {
      EXPECT_EQ(event["content_index"], item["content"].size());
      item["content"].push_back(event["part"]);
    } else if (type == "response.output_text.delta" || type == "response.reasoning_text.delta") {
      Json& part = item["content"].at(event["content_index"].get<size_t>());
      part["text"] = part["text"].get<std::string>() + event["delta"].get<std::string>();
      if (event.contains("logprobs"))
        part["logprobs"].insert(part["logprobs"].end(), event["logprobs"].begin(), event["logprobs"].end());
    } else if (type == "response.output_text.done" || type == "response.reasoning_text.done") {
      EXPECT_EQ(item["content"].at(0)["text"], event["text"]);
    } else if (type == "response.content_part.done") {
      EXPECT_EQ(item["content"].at(0), event["part"]);
    } else if (type == "response.reasoning_summary_part.added") {
      item["summary"].push_back(event["part"]);
    } else if (type == "response.reasoning_summary_text.delta") {
      Json& part = item["summary"].at(0);
      part["text"] = part["text"].get<std::string>() + event["delta"].get<std::string>();
    } else if (type == "response.function_call_arguments.delta") {
      item["arguments"] = item["arguments"].get<std::string>() + event["delta"].get<std::string>();
    } else if (type == "response.function_call_arguments.done") {
      EXPECT_EQ(Json::parse(item["arguments"].get<std::string>()), Json::parse(event["arguments"].get<std::string>()));
      item["arguments"] = event["arguments"];
    } else if (type == "response.custom_tool_call_input.delta") {
      item["input"] = item["input"].get<std::string>() + event["delta"].get<std::string>();
    } else if (type == "response.custom_tool_call_input.done") {
      EXPECT_EQ(item["input"], event["input"]);
    } else if (type == "response.output_item.done") {
      end_item(event, item);
    } else if (!type.ends_with("_text.done") && !type.ends_with("_part.done")) {
      ADD_FAILURE() << "unknown event " << type;
    }
  }

  void end_item(const Json& event, Json& item) {
    ++n_done;
    EXPECT_NE(event["item"]["status"], "in_progress");
    item["status"] = event["item"]["status"];
    if (item["type"] == "tool_search_call") item["arguments"] = event["item"]["arguments"];
    Json done = event["item"];
    if (done.contains("encrypted_content")) item["encrypted_content"] = done["encrypted_content"];
    EXPECT_EQ(Json(nlohmann::json(item)), Json(nlohmann::json(done)));  // in any order
  }
};

}  // namespace ds4::test
