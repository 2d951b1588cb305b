#pragma once

// The parts of JSON as grammar, for any schema: white space, strings, numbers, free values. White space is bounded:
// none, one space, or a line break and up to 32 spaces or tabs of indentation. Numbers have at most 18 digits on
// either side of the point and an exponent of two. Builders; used while one grammar is made.

#include <cstdint>
#include <optional>
#include <string_view>

#include "constrain/byte_grammar.h"

namespace ds4 {

// Beyond it, integers are not bounded exactly.
inline constexpr int64_t kMostInteger = 999'999'999'999'999'999;

struct NumberBounds {
  std::optional<int64_t> min, max;
  bool excludes_min = false, excludes_max = false;
  bool any() const { return min || max; }
};

struct LengthBounds {
  uint32_t min = 0;
  std::optional<uint32_t> max;
};

class JsonGrammar {
 public:
  // Adds the shared rules.
  explicit JsonGrammar(ByteGrammar& grammar);

  ByteGrammar& grammar() { return grammar_; }

  void add_space(GrammarState from, GrammarState to) { grammar_.add_call(from, space_, to); }
  // A value of any kind; of any kind but string.
  void add_any(GrammarState from, GrammarState to) { grammar_.add_call(from, any_, to); }
  void add_any_but_string(GrammarState from, GrammarState to) { grammar_.add_call(from, any_but_string_, to); }
  void add_any_object(GrammarState from, GrammarState to) { grammar_.add_call(from, object_, to); }
  void add_any_array(GrammarState from, GrammarState to) { grammar_.add_call(from, array_, to); }
  void add_any_string(GrammarState from, GrammarState to) { grammar_.add_call(from, string_, to); }
  // Characters, counted; in kJsonString without the quotes.
  void add_text(GrammarState from, GrammarState to, const LengthBounds& length, CharacterForm form);
  void add_integer(GrammarState from, GrammarState to, const NumberBounds& bounds);
  void add_number(GrammarState from, GrammarState to, const NumberBounds& bounds);

 private:
  GrammarState begin_rule(GrammarState& end);
  void build_space();
  void build_escape();
  void build_string();
  void build_numbers();
  void build_values();
  void add_digits(GrammarState from, GrammarState to, size_t min, size_t max);
  void add_digits_between(GrammarState from, GrammarState to, int64_t first, int64_t last);
  void add_fraction(GrammarState from, GrammarState to, bool positive);
  void add_number_part(GrammarState from, GrammarState to, const NumberBounds& bounds);

  ByteGrammar& grammar_;
  GrammarState space_ = 0, escape_ = 0, string_ = 0, integer_ = 0, number_ = 0;
  GrammarState any_ = 0, any_but_string_ = 0, object_ = 0, array_ = 0;
};

}  // namespace ds4
