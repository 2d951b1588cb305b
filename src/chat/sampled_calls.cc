#include "chat/sampled_calls.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>
#include <vector>

#include "base/utf8.h"
#include "chat/dsml_parser.h"
#include "chat/markup.h"
#include "chat/python_json.h"

namespace ds4 {
namespace {

// First byte of the stored form, so that another form can be told apart.
constexpr char kNormal = '\x01';
constexpr char kEndsReasoning = '\x02';

struct NamedArguments {
  std::string name;
  std::string arguments;
};

std::vector<NamedArguments> calls_of(const SampledCalls& sampled) {
  const Markup markup = token_markup();
  const size_t opener = sampled.text.find(markup.block_opener);
  if (opener == std::string::npos) return {};
  DsmlParser parser(markup);
  OutputEvents events;
  parser.push(std::string_view(sampled.text).substr(opener + markup.block_opener.size()), events);
  std::vector<NamedArguments> calls;
  std::string name;
  for (OutputEvent& event : events) {
    if (auto* begin = std::get_if<ToolCallBegin>(&event)) name = std::move(begin->name);
    if (auto* end = std::get_if<ToolCallEnd>(&event))
      calls.push_back({std::exchange(name, {}), std::move(end->arguments)});
  }
  return calls;
}

std::optional<double> number_of(std::string_view text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// Clients that read numbers into doubles write them back in another spelling.
bool same_scalar(std::string_view a, std::string_view b) {
  if (a == b) return true;
  const std::optional<double> number = number_of(a);
  return number && number == number_of(b);
}

// Depth is limited by the parser.
bool same_json(const JsonValue& a, const JsonValue& b) {
  if (a.kind != b.kind || a.items.size() != b.items.size() || a.members.size() != b.members.size()) return false;
  switch (a.kind) {
    case JsonValue::Kind::kScalar: return same_scalar(a.text, b.text);
    case JsonValue::Kind::kString: return a.text == b.text;
    case JsonValue::Kind::kArray: return std::ranges::equal(a.items, b.items, same_json);
    case JsonValue::Kind::kObject: break;
  }
  // Keys are unique in both, and mostly in the same order.
  for (size_t i = 0; i < a.members.size(); ++i) {
    const JsonMember* other = &b.members[i];
    if (other->key != a.members[i].key) {
      const auto found = std::ranges::find(b.members, a.members[i].key, &JsonMember::key);
      if (found == b.members.end()) return false;
      other = &*found;
    }
    if (!same_json(a.members[i].value, other->value)) return false;
  }
  return true;
}

bool same_arguments(const std::string& sampled, const std::string& sent) {
  if (sampled == sent) return true;
  const Result<JsonValue> a = parse_json(sampled);
  const Result<JsonValue> b = parse_json(sent);
  return a.ok() && b.ok() && same_json(a.value(), b.value());
}

}  // namespace

void write_sampled_calls(const SampledCalls& sampled, SegmentBuilder& out) {
  std::string_view rest = sampled.text;
  while (!rest.empty()) {
    size_t n_text = 0;
    while (n_text < rest.size() && !control_of_markup_byte(rest[n_text])) ++n_text;
    out.add_text(rest.substr(0, n_text));
    if (n_text == rest.size()) return;
    out.add_control(*control_of_markup_byte(rest[n_text]));
    rest.remove_prefix(n_text + 1);
  }
}

bool says_the_same(const SampledCalls& sampled, std::span<const ToolCall> calls) {
  return std::ranges::equal(calls_of(sampled), calls, [](const NamedArguments& a, const ToolCall& b) {
    return a.name == b.name && same_arguments(a.arguments, b.arguments);
  });
}

std::string encode(const SampledCalls& sampled) {
  return (sampled.ends_reasoning ? kEndsReasoning : kNormal) + sampled.text;
}

Result<SampledCalls> decode_sampled_calls(std::string_view bytes) {
  if (bytes.empty() || (bytes[0] != kNormal && bytes[0] != kEndsReasoning)) {
    return make_error(ErrorCode::kCorrupt, "stored tool calls: unknown form");
  }
  SampledCalls sampled{.text = std::string(bytes.substr(1)), .ends_reasoning = bytes[0] == kEndsReasoning};
  if (!is_well_formed_utf8(spell_controls(sampled.text))) {
    return make_error(ErrorCode::kCorrupt, "stored tool calls: not UTF-8");
  }
  const std::string opener = token_markup().block_opener;
  if (!std::string_view(sampled.text)
           .substr(std::min(sampled.text.find_first_not_of('\n'), sampled.text.size()))
           .starts_with(opener)) {
    return make_error(ErrorCode::kCorrupt, "stored tool calls: no block");
  }
  return sampled;
}

}  // namespace ds4
