#pragma once

// Folds the events of a streamed Anthropic message to the message, as strictly as that API's SDK: names and types are
// equal, blocks come one after the other by index, nothing follows the end. For tests and fuzzing.

#include <string>
#include <string_view>

#include <nlohmann/json.hpp>

namespace ds4::test {

class MessageAccumulator {
 public:
  using Json = nlohmann::ordered_json;

  explicit MessageAccumulator(std::string_view stream) {
    while (!stream.empty() && problem_.empty()) {
      const size_t end = stream.find("\n\n");
      if (end == std::string_view::npos) {
        fail("no empty line behind the last event");
      } else {
        add(stream.substr(0, end));
        stream.remove_prefix(end + 2);
      }
    }
    if (problem_.empty() && !stopped_) fail("no message_stop");
  }

  // Empty: none.
  const std::string& problem() const { return problem_; }
  const Json& message() const { return message_; }

 private:
  void fail(std::string problem) { problem_ = std::move(problem); }

  void add(std::string_view event) {
    const size_t line_end = event.find('\n');
    if (!event.starts_with("event: ") || line_end == std::string_view::npos) return fail("no event line");
    const std::string_view name = event.substr(7, line_end - 7);
    const std::string_view data = event.substr(line_end + 1);
    if (!data.starts_with("data: ") || data.find('\n') != std::string_view::npos) return fail("no data line");
    const Json json = Json::parse(data.substr(6), nullptr, false);
    if (!json.is_object() || json.value("type", "") != name) return fail("the type is not the event's name");
    if (stopped_) return fail("an event after the end");
    if (name == "ping") return;
    if (name == "message_start") {
      if (!message_.is_null()) return fail("a second start");
      message_ = json["message"];
    } else if (message_.is_null()) {
      fail("an event before the start");
    } else if (name == "content_block_start") {
      start_block(json);
    } else if (name == "content_block_delta") {
      add_delta(json);
    } else if (name == "content_block_stop") {
      stop_block(json);
    } else if (name == "message_delta") {
      if (is_open_) return fail("the message ends with an open block");
      for (const auto& [key, value] : json["delta"].items()) message_[key] = value;
      for (const auto& [key, value] : json["usage"].items()) message_["usage"][key] = value;
    } else if (name == "message_stop") {
      if (message_["stop_reason"].is_null()) return fail("no stop reason");
      stopped_ = true;
    } else {
      fail("unknown event " + std::string(name));
    }
  }

  void start_block(const Json& json) {
    if (is_open_ || json["index"] != message_["content"].size()) return fail("a block begins out of order");
    is_open_ = true;
    input_.clear();
    message_["content"].push_back(json["content_block"]);
  }

  void add_delta(const Json& json) {
    if (!is_open_ || json["index"] != message_["content"].size() - 1) return fail("a delta without its block");
    Json& block = message_["content"].back();
    const std::string type = json["delta"].value("type", "");
    const auto append = [&](const char* key, std::string_view block_type) {
      if (block["type"] != block_type) return fail("a delta of another type");
      block[key] = block[key].get<std::string>() + json["delta"][key].get<std::string>();
    };
    if (type == "text_delta") {
      append("text", "text");
    } else if (type == "thinking_delta") {
      append("thinking", "thinking");
    } else if (type == "signature_delta") {
      append("signature", "thinking");
    } else if (type == "input_json_delta" && block["type"] == "tool_use") {
      input_ += json["delta"]["partial_json"].get<std::string>();
    } else {
      fail("unknown delta " + type);
    }
  }

  // Input that was cut off stays a string.
  void stop_block(const Json& json) {
    if (!is_open_ || json["index"] != message_["content"].size() - 1) return fail("a stop without its block");
    is_open_ = false;
    Json& block = message_["content"].back();
    if (block["type"] == "thinking" && block["signature"] == "") return fail("thinking without a signature");
    if (block["type"] != "tool_use" || input_.empty()) return;
    block["input"] = Json::parse(input_, nullptr, false);
    if (block["input"].is_discarded()) block["input"] = input_;
  }

  std::string problem_;
  Json message_;
  bool is_open_ = false;
  bool stopped_ = false;
  std::string input_;
};

}  // namespace ds4::test
