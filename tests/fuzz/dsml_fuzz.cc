// Model output of any bytes, cut anywhere: the joined events must not depend on the cuts, text must be well-formed
// UTF-8, a call's fragments must be its arguments, and the sampled block must say what the calls say.
// Input: byte 0 chooses the options, byte 1 the cuts, the rest is output; its bytes FB to FF stand for control tokens.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/utf8.h"
#include "chat/output_parser.h"
#include "chat/python_json.h"

namespace {

void require(bool condition) {
  if (!condition) __builtin_trap();
}

struct Call {
  std::string name;
  std::string streamed;
  std::optional<std::string> arguments;
  bool operator==(const Call&) const = default;
};

struct Output {
  std::string reasoning;
  std::string content;
  std::vector<Call> calls;
  ds4::FinishReason finish = ds4::FinishReason::kStop;
  std::optional<ds4::SampledCalls> sampled;  // has all of the last piece, so it depends on the cuts
  bool operator==(const Output& other) const {
    return reasoning == other.reasoning && content == other.content && calls == other.calls && finish == other.finish &&
           sampled.has_value() == other.sampled.has_value();
  }

  // Only the end of the output can show that a call was none.
  void add(const ds4::OutputEvents& events, bool is_end = false) {
    for (const ds4::OutputEvent& event : events) {
      if (const auto* delta = std::get_if<ds4::ReasoningDelta>(&event)) {
        require(ds4::is_well_formed_utf8(delta->text) && content.empty() && calls.empty());
        reasoning += delta->text;
      } else if (const auto* text = std::get_if<ds4::TextDelta>(&event)) {
        require(ds4::is_well_formed_utf8(text->text) && (calls.empty() || is_end));
        content += text->text;
      } else if (const auto* begin = std::get_if<ds4::ToolCallBegin>(&event)) {
        require(begin->index == calls.size() && (calls.empty() || calls.back().arguments));
        require(ds4::is_well_formed_utf8(begin->name));
        calls.push_back({begin->name, {}, {}});
      } else if (const auto* fragment = std::get_if<ds4::ToolCallArgumentsDelta>(&event)) {
        require(fragment->index + 1 == calls.size() && ds4::is_well_formed_utf8(fragment->json_fragment));
        calls.back().streamed += fragment->json_fragment;
      } else {
        const auto& end = std::get<ds4::ToolCallEnd>(event);
        require(end.index + 1 == calls.size() && !calls.back().arguments);
        calls.back().arguments = end.arguments;
      }
    }
  }
};

std::optional<ds4::ControlToken> control_of(char byte) {
  switch (byte) {
    case '\xFB': return ds4::ControlToken::kTitle;
    case '\xFC': return ds4::ControlToken::kEos;
    case '\xFD': return ds4::ControlToken::kThinkBegin;
    case '\xFE': return ds4::ControlToken::kThinkEnd;
    case '\xFF': return ds4::ControlToken::kDsml;
    default: return std::nullopt;
  }
}

// Texts are cut into pieces of at most 1 + `cuts` bytes.
Output parse(const ds4::OutputParserOptions& options, std::string_view bytes, size_t cuts, bool hit_limit) {
  ds4::OutputParser parser(options);
  Output output;
  while (!bytes.empty()) {
    if (const auto control = control_of(bytes.front())) {
      output.add(parser.push_control(*control));
      bytes.remove_prefix(1);
      continue;
    }
    size_t n_bytes = 1;
    while (n_bytes <= cuts && n_bytes < bytes.size() && !control_of(bytes[n_bytes])) ++n_bytes;
    output.add(parser.push_text(bytes.substr(0, n_bytes)));
    bytes.remove_prefix(n_bytes);
  }
  output.add(parser.finish(hit_limit), true);
  output.finish = parser.finish_reason();
  output.sampled = parser.take_sampled_calls();
  return output;
}

void check_sampled(const Output& output) {
  if (!output.sampled) return;
  std::vector<ds4::ToolCall> calls;
  for (const Call& call : output.calls) {
    require(call.arguments.has_value());
    calls.push_back({.id = {}, .name = call.name, .arguments = *call.arguments});
  }
  require(!calls.empty() && ds4::says_the_same(*output.sampled, calls));
  const auto decoded = ds4::decode_sampled_calls(ds4::encode(*output.sampled));
  require(decoded.ok() && decoded.value() == *output.sampled);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size < 2) return 0;
  const unsigned flags = data[0];
  ds4::OutputParserOptions options{.starts_in_thinking = (flags & 1) != 0,
                                   .tools_enabled = (flags & 2) != 0,
                                   .dsml_ends_reasoning = (flags & 4) != 0,
                                   .require_control_tokens = (flags & 8) != 0};
  if ((flags & 16) != 0) options.stop_strings = {"stop", "\n\nQ", "s", "é"};
  const bool hit_limit = (flags & 32) != 0;
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  const Output whole = parse(options, bytes, bytes.size(), hit_limit);
  const Output pieces = parse(options, bytes, 0, hit_limit);
  require(whole == pieces);
  check_sampled(whole);
  check_sampled(pieces);
  require(whole == parse(options, bytes, data[1], hit_limit));
  for (const Call& call : whole.calls) {
    if (!call.arguments || call.streamed == *call.arguments) continue;
    // A repeated parameter: both are the same object all the same.
    const auto streamed = ds4::parse_json(call.streamed);
    const auto final = ds4::parse_json(*call.arguments);
    if (!streamed.ok() || !final.ok()) continue;  // a valid value may be too deep once it stands in an object
    require(ds4::dump_json(streamed.value()) == ds4::dump_json(final.value()));
  }
  return 0;
}
