#include "chat/dsml_writer.h"

#include <fmt/format.h>

#include "chat/dsml.h"
#include "chat/python_json.h"

namespace ds4 {
namespace {

void open_tag(std::string_view rest, SegmentBuilder& out) {
  out.add_text("<");
  out.add_control(ControlToken::kDsml);
  out.add_text(rest);
}

void close_tag(std::string_view name, SegmentBuilder& out) {
  out.add_text("</");
  out.add_control(ControlToken::kDsml);
  out.add_text(name);
  out.add_text(">");
}

void write_parameter(std::string_view key, const JsonValue& value, SegmentBuilder& out) {
  const bool is_string = value.kind == JsonValue::Kind::kString;
  open_tag(fmt::format("{} {}=\"{}\" {}=\"{}\">", kDsmlParameter, kDsmlName, key, kDsmlString, is_string), out);
  out.add_text(is_string ? value.text : dump_json(value));
  close_tag(kDsmlParameter, out);
}

JsonValue parse_arguments(std::string_view text) {
  Result<JsonValue> parsed = parse_json(text);
  if (parsed.ok() && parsed.value().kind == JsonValue::Kind::kObject) return std::move(parsed).value();
  JsonMember whole{.key = std::string(kWholeArguments), .value = {}};
  whole.value.kind = JsonValue::Kind::kString;
  whole.value.text = text;
  JsonValue object;
  object.kind = JsonValue::Kind::kObject;
  object.members.push_back(std::move(whole));
  return object;
}

}  // namespace

void write_tool_calls(std::span<const ToolCall> calls, SegmentBuilder& out) {
  open_tag(fmt::format("{}>", kDsmlBlock), out);
  for (const ToolCall& call : calls) {
    out.add_text("\n");
    open_tag(fmt::format("{} {}=\"{}\">\n", kDsmlInvoke, kDsmlName, call.name), out);
    std::string_view separator;
    for (const JsonMember& member : parse_arguments(call.arguments).members) {
      out.add_text(separator);
      write_parameter(member.key, member.value, out);
      separator = "\n";
    }
    out.add_text("\n");
    close_tag(kDsmlInvoke, out);
  }
  out.add_text("\n");
  close_tag(kDsmlBlock, out);
}

}  // namespace ds4
