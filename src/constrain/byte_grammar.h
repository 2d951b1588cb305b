#pragma once

// A pushdown automaton over bytes: what texts a grammar allows, as states with byte edges, jumps that read nothing, and
// calls of a rule (another start state), which come back at the rule's end. Control tokens are the bytes of
// token_markup(), which no text contains. Several ways may be open at once (byte_matcher.h follows them all).
// Built by one thread; after prune() immutable and shared.
//
// Invariant after prune(): from every state some text leads to an end, so no text that was let in can get stuck.

#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

namespace ds4 {

using GrammarState = uint32_t;

struct CodePointRange {
  char32_t first = 0;
  char32_t last = 0;
};

// How characters are written.
enum class CharacterForm : uint8_t {
  kJsonString,  // inside a JSON string: quotes, backslashes and control characters escaped
  kRaw,         // as UTF-8
};

class ByteGrammar {
 public:
  struct ByteEdge {
    uint8_t first;
    uint8_t last;
    GrammarState to;
  };
  struct CallEdge {
    GrammarState rule;
    GrammarState back;
  };
  struct State {
    std::vector<ByteEdge> bytes;
    std::vector<CallEdge> calls;
    std::vector<GrammarState> jumps;
    bool is_end = false;
    bool is_payload = false;  // what follows is a value, not syntax
    uint16_t height = kUnreachableEnd;
  };
  static constexpr uint16_t kUnreachableEnd = std::numeric_limits<uint16_t>::max();
  // Calls inside calls: no text nests deeper. Below what the parser of tool calls accepts.
  static constexpr uint16_t kMaxDepth = 200;
  static constexpr size_t kMaxStates = 400'000;

  GrammarState add_state(bool is_payload = false);
  void set_end(GrammarState state) { states_[state].is_end = true; }
  void add_jump(GrammarState from, GrammarState to) { states_[from].jumps.push_back(to); }
  void add_call(GrammarState from, GrammarState rule, GrammarState back) {
    states_[from].calls.push_back({rule, back});
  }
  void add_bytes(GrammarState from, uint8_t first, uint8_t last, GrammarState to) {
    states_[from].bytes.push_back({first, last, to});
  }
  void add_any_of(GrammarState from, std::string_view bytes, GrammarState to);
  void add_literal(GrammarState from, std::string_view text, GrammarState to);
  // Texts from `first` to `last` in the order of their bytes, both of the same length, where every byte behind the
  // first one that differs is one of low..high.
  void add_between(GrammarState from, std::string_view first, std::string_view last, ByteEdge limits);
  // One character of the ranges.
  void add_character(GrammarState from, std::span<const CodePointRange> ranges, GrammarState to, CharacterForm form);

  // A hint for representative(): the `n` times `n_each` states from `first` on are copies of one another, one behind
  // the other, and a way from one copy to the next reads a byte at least.
  void add_copies(GrammarState first, uint32_t n_each, uint32_t n);

  bool is_too_large() const { return states_.size() > kMaxStates; }
  // Removes what leads to no end within kMaxDepth calls.
  void prune();
  // After prune(): some text leads from here to the end.
  bool can_end(GrammarState state) const { return states_[state].height <= kMaxDepth; }
  // After prune(): a state where the next n_bytes may be what they may be here, the same one for all such states of a
  // counted repetition that are not near its end.
  GrammarState representative(GrammarState state, size_t n_bytes) const;

  const State& state(GrammarState state) const { return states_[state]; }
  size_t n_states() const { return states_.size(); }

 private:
  void add_escaped(GrammarState from, char32_t code_point, GrammarState to);
  void add_utf8(GrammarState from, CodePointRange range, GrammarState to);
  bool lower_heights();
  bool is_copy(GrammarState state, uint32_t distance) const;
  void split_copies();

  // Equal but for the distance between them, as prune() made sure. Ascending, none inside another.
  struct Copies {
    GrammarState first;
    uint32_t n_each;
    uint32_t n;
  };

  std::vector<State> states_;
  std::vector<Copies> copies_;
};

}  // namespace ds4
