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

// Fewer copies than this are not worth a look.
constexpr uint32_t kLeastCopies = 16;
// Between the state that a text begins in and the one that it ends in lie as many copies as it has bytes, and these: a
// copy may be entered before its first byte and after its last.
constexpr size_t kCopyMargin = 3;

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
  split_copies();
}

void ByteGrammar::add_copies(GrammarState first, uint32_t n_each, uint32_t n) {
  if (n < kLeastCopies || n_each == 0) return;
  // Repetitions inside this one came before it.
  while (!copies_.empty() && copies_.back().first >= first) copies_.pop_back();
  copies_.push_back({first, n_each, n});
}

// The state at this distance is equal; what both lead to is so, too, or the same.
bool ByteGrammar::is_copy(GrammarState state, uint32_t distance) const {
  const State& a = states_[state];
  const State& b = states_[state + distance];
  const auto leads_alike = [distance](GrammarState to, GrammarState other) {
    return other == to || other == to + distance;
  };
  if (a.is_end != b.is_end || a.is_payload != b.is_payload || a.height != b.height) return false;
  return std::ranges::equal(a.bytes, b.bytes,
                            [&](const ByteEdge& x, const ByteEdge& y) {
                              return x.first == y.first && x.last == y.last && leads_alike(x.to, y.to);
                            }) &&
         std::ranges::equal(a.jumps, b.jumps, leads_alike) &&
         std::ranges::equal(a.calls, b.calls, [&](const CallEdge& x, const CallEdge& y) {
           return leads_alike(x.rule, y.rule) && leads_alike(x.back, y.back);
         });
}

// What was said to be copies, as runs of such that are: at the least and the greatest number a repetition can end.
void ByteGrammar::split_copies() {
  std::vector<Copies> runs;
  for (const Copies& hint : copies_) {
    Copies run{hint.first, hint.n_each, 1};
    for (uint32_t i = 1; i <= hint.n; ++i) {
      const GrammarState copy = hint.first + i * hint.n_each;
      bool goes_on = i < hint.n;
      for (uint32_t k = 0; goes_on && k < hint.n_each; ++k) goes_on = is_copy(copy - hint.n_each + k, hint.n_each);
      if (goes_on) {
        ++run.n;
        continue;
      }
      if (run.n >= kLeastCopies) runs.push_back(run);
      run = {copy, hint.n_each, 1};
    }
  }
  copies_ = std::move(runs);
}

GrammarState ByteGrammar::representative(GrammarState state, size_t n_bytes) const {
  const auto behind = std::ranges::upper_bound(copies_, state, {}, &Copies::first);
  if (behind == copies_.begin()) return state;
  const Copies& run = *std::prev(behind);
  const uint32_t number = (state - run.first) / run.n_each;
  return number + n_bytes + kCopyMargin < run.n ? state - number * run.n_each : state;
}

}  // namespace ds4
