#pragma once

// What a client has of a model's output, and short ways to write outputs with tool calls and to parse them in pieces.

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "base/utf8.h"
#include "chat/output_parser.h"

namespace ds4::test {

struct Call {
  std::string name;
  std::string streamed;
  std::optional<std::string> arguments;  // absent: cut off
  bool operator==(const Call&) const = default;
};

// What a client has after joining the events.
struct Output {
  std::string reasoning;
  std::string content;
  std::vector<Call> calls;
  FinishReason finish = FinishReason::kStop;
  bool operator==(const Output&) const = default;

  // Only the end of the output can show that a call was none.
  void add(const OutputEvents& events, bool is_end = false) {
    for (const OutputEvent& event : events) {
      if (const auto* delta = std::get_if<ReasoningDelta>(&event)) {
        EXPECT_TRUE(content.empty() && calls.empty());
        EXPECT_TRUE(is_well_formed_utf8(delta->text));
        reasoning += delta->text;
      } else if (const auto* text = std::get_if<TextDelta>(&event)) {
        EXPECT_TRUE(calls.empty() || is_end);
        EXPECT_TRUE(is_well_formed_utf8(text->text));
        content += text->text;
      } else if (const auto* begin = std::get_if<ToolCallBegin>(&event)) {
        ASSERT_EQ(begin->index, calls.size());
        ASSERT_TRUE(calls.empty() || calls.back().arguments);
        calls.push_back({begin->name, {}, {}});
      } else if (const auto* fragment = std::get_if<ToolCallArgumentsDelta>(&event)) {
        ASSERT_EQ(fragment->index + 1, calls.size());
        EXPECT_TRUE(is_well_formed_utf8(fragment->json_fragment));
        calls.back().streamed += fragment->json_fragment;
      } else {
        const auto& end = std::get<ToolCallEnd>(event);
        ASSERT_EQ(end.index + 1, calls.size());
        calls.back().arguments = end.arguments;
      }
    }
  }

  std::vector<Call> complete_calls() const {
    std::vector<Call> complete = calls;
    if (!complete.empty() && !complete.back().arguments) complete.pop_back();
    return complete;
  }
};

inline constexpr std::string_view kBlock = "<｜DSML｜tool_calls>";
inline constexpr std::string_view kBlockEnd = "</｜DSML｜tool_calls>";

inline std::string invoke(std::string_view name, std::string_view inside) {
  return fmt::format("<｜DSML｜invoke name=\"{}\">{}</｜DSML｜invoke>", name, inside);
}

inline std::string parameter(std::string_view key, std::string_view value, bool is_string = true) {
  return fmt::format("<｜DSML｜parameter name=\"{}\" string=\"{}\">{}</｜DSML｜parameter>", key, is_string, value);
}

struct Stream {
  std::string text;
  bool ended_by_eos = true;
};

inline Output parse(const OutputParserOptions& options, const Stream& stream,
                    const std::function<size_t()>& chunk_size) {
  OutputParser parser(options);
  Output output;
  for (size_t offset = 0; offset < stream.text.size();) {
    const size_t n = std::min(chunk_size(), stream.text.size() - offset);
    output.add(parser.push_text(std::string_view(stream.text).substr(offset, n)));
    offset += n;
  }
  output.add(parser.finish(!stream.ended_by_eos), true);
  output.finish = parser.finish_reason();
  return output;
}

inline Output parse_whole(const OutputParserOptions& options, const Stream& stream) {
  return parse(options, stream, [] { return std::string::npos; });
}

inline Output parse_content(std::string text, std::vector<std::string> stops = {}) {
  return parse_whole({.tools_enabled = true, .stop_strings = std::move(stops)}, {std::move(text)});
}

}  // namespace ds4::test
