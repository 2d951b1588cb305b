#include "constrain/byte_grammar.h"

#include <algorithm>
#include <array>
#include <string>

#include <fmt/format.h>

#include "base/utf8.h"

namespace ds4 {
namespace {

constexpr uint8_t kFirstContinuation = 0x80;
constexpr uint8_t kLastContinuation = 0xBF;

bool consists_of(std::string_view text, uint8_t byte) {
  return text.find_first_not_of(static_cast<char>(byte)) == std::string_view::npos;
}

std::string utf8(char32_t code_point) {
  std::string text;
  append_utf8(text, code_point);
  return text;
}

bool needs_escape(char32_t c) { return c < 0x20 || c == U'"' || c == U'\\'; }

}  // namespace

GrammarState ByteGrammar::add_state(bool is_payload) {
  states_.emplace_back().is_payload = is_payload;
  return static_cast<GrammarState>(states_.size() - 1);
}

void ByteGrammar::add_any_of(GrammarState from, std::string_view bytes, GrammarState to) {
  for (const char c : bytes) add_bytes(from, static_cast<uint8_t>(c), static_cast<uint8_t>(c), to);
}

void ByteGrammar::add_literal(GrammarState from, std::string_view text, GrammarState to) {
  if (text.empty()) return add_jump(from, to);
  const bool is_payload = states_[from].is_payload;
  for (size_t i = 0; i < text.size(); ++i) {
    const GrammarState next = i + 1 == text.size() ? to : add_state(is_payload);
    add_any_of(from, text.substr(i, 1), next);
    from = next;
  }
}

void ByteGrammar::add_between(GrammarState from, std::string_view first, std::string_view last, ByteEdge limits) {
  const auto low = static_cast<uint8_t>(first.front());
  const auto high = static_cast<uint8_t>(last.front());
  if (first.size() == 1) return add_bytes(from, low, high, limits.to);
  const bool is_payload = states_[from].is_payload;
  const std::string lowest(first.size() - 1, static_cast<char>(limits.first));
  const std::string highest(first.size() - 1, static_cast<char>(limits.last));
  if (low == high) {
    const GrammarState next = add_state(is_payload);
    add_bytes(from, low, high, next);
    return add_between(next, first.substr(1), last.substr(1), limits);
  }
  int whole_low = low;
  int whole_high = high;
  if (!consists_of(first.substr(1), limits.first)) {
    add_between(from, first, std::string(1, first.front()) + highest, limits);
    ++whole_low;
  }
  if (!consists_of(last.substr(1), limits.last)) {
    add_between(from, std::string(1, last.front()) + lowest, last, limits);
    --whole_high;
  }
  if (whole_low > whole_high) return;
  GrammarState next = add_state(is_payload);
  add_bytes(from, static_cast<uint8_t>(whole_low), static_cast<uint8_t>(whole_high), next);
  for (size_t i = 1; i < first.size(); ++i) {
    const GrammarState after = i + 1 == first.size() ? limits.to : add_state(is_payload);
    add_bytes(next, limits.first, limits.last, after);
    next = after;
  }
}

void ByteGrammar::add_utf8(GrammarState from, CodePointRange range, GrammarState to) {
  // Code points of one length each, without the surrogates.
  constexpr std::array<CodePointRange, 5> kParts{
      {{0, 0x7F}, {0x80, 0x7FF}, {0x800, 0xD7FF}, {0xE000, 0xFFFF}, {0x10000, 0x10FFFF}}};
  for (const CodePointRange& part : kParts) {
    const char32_t first = std::max(range.first, part.first);
    const char32_t last = std::min(range.last, part.last);
    if (first <= last) add_between(from, utf8(first), utf8(last), {kFirstContinuation, kLastContinuation, to});
  }
}

void ByteGrammar::add_escaped(GrammarState from, char32_t code_point, GrammarState to) {
  switch (code_point) {
    case U'"': return add_literal(from, "\\\"", to);
    case U'\\': return add_literal(from, "\\\\", to);
    case U'\b': return add_literal(from, "\\b", to);
    case U'\f': return add_literal(from, "\\f", to);
    case U'\n': return add_literal(from, "\\n", to);
    case U'\r': return add_literal(from, "\\r", to);
    case U'\t': return add_literal(from, "\\t", to);
    default: return add_literal(from, fmt::format("\\u{:04x}", static_cast<uint32_t>(code_point)), to);
  }
}

void ByteGrammar::add_character(GrammarState from, std::span<const CodePointRange> ranges, GrammarState to,
                                CharacterForm form) {
  for (const CodePointRange& range : ranges) {
    if (form == CharacterForm::kRaw) {
      add_utf8(from, range, to);
      continue;
    }
    char32_t first = range.first;
    for (char32_t c = first; c <= range.last && c <= U'\\'; ++c) {
      if (!needs_escape(c)) continue;
      if (first < c) add_utf8(from, {first, c - 1}, to);
      add_escaped(from, c, to);
      first = c + 1;
    }
    if (first <= range.last) add_utf8(from, {first, range.last}, to);
  }
}

// One round towards the least number of nested calls from each state to its end.
bool ByteGrammar::lower_heights() {
  bool changed = false;
  for (size_t i = states_.size(); i-- > 0;) {
    State& state = states_[i];
    uint16_t height = state.is_end ? 0 : kUnreachableEnd;
    for (const ByteEdge& edge : state.bytes) height = std::min(height, states_[edge.to].height);
    for (const GrammarState to : state.jumps) height = std::min(height, states_[to].height);
    for (const CallEdge& call : state.calls) {
      const uint16_t rule = states_[call.rule].height;
      if (rule >= kMaxDepth) continue;
      height = std::min(height, std::max(static_cast<uint16_t>(rule + 1), states_[call.back].height));
    }
    if (height >= state.height) continue;
    state.height = height;
    changed = true;
  }
  return changed;
}

void ByteGrammar::prune() {
  while (lower_heights()) {
  }
  for (State& state : states_) {
    std::erase_if(state.bytes, [this](const ByteEdge& edge) { return !can_end(edge.to); });
    std::erase_if(state.jumps, [this](GrammarState to) { return !can_end(to); });
    std::erase_if(state.calls, [this](const CallEdge& call) { return !can_end(call.rule) || !can_end(call.back); });
  }
}

}  // namespace ds4
