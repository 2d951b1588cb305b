#include "constrain/json_grammar.h"

#include <algorithm>
#include <array>
#include <string>

#include <fmt/format.h>

namespace ds4 {
namespace {

constexpr size_t kMaxIndent = 32;
constexpr size_t kMaxDigits = 18;
constexpr std::string_view kHex = "0123456789abcdefABCDEF";
// What a string may hold as it is.
constexpr std::array<CodePointRange, 3> kPlain{{{0x20, U'"' - 1}, {U'"' + 1, U'\\' - 1}, {U'\\' + 1, 0x10FFFF}}};
constexpr std::array<CodePointRange, 1> kAll{{{0, 0x10FFFF}}};

}  // namespace

JsonGrammar::JsonGrammar(ByteGrammar& grammar) : grammar_(grammar) {
  build_space();
  build_escape();
  build_string();
  build_numbers();
  build_values();
}

GrammarState JsonGrammar::begin_rule(GrammarState& end) {
  end = grammar_.add_state();
  grammar_.set_end(end);
  return grammar_.add_state();
}

void JsonGrammar::build_space() {
  GrammarState end = 0;
  space_ = begin_rule(end);
  grammar_.add_jump(space_, end);
  grammar_.add_any_of(space_, " ", end);
  GrammarState at = grammar_.add_state();
  grammar_.add_any_of(space_, "\n", at);
  grammar_.add_jump(at, end);
  for (size_t i = 0; i < kMaxIndent; ++i) {
    const GrammarState next = grammar_.add_state();
    grammar_.add_any_of(at, " \t", next);
    grammar_.add_jump(next, end);
    at = next;
  }
}

// One character of a string that is spelled with a backslash.
void JsonGrammar::build_escape() {
  const GrammarState end = grammar_.add_state();
  grammar_.set_end(end);
  escape_ = grammar_.add_state(true);
  const GrammarState escape = grammar_.add_state(true);
  grammar_.add_any_of(escape_, "\\", escape);
  grammar_.add_any_of(escape, "\"\\/bfnrt", end);
  const auto first_of = [this](GrammarState from, std::string_view digits) {
    const GrammarState next = grammar_.add_state(true);
    grammar_.add_any_of(from, digits, next);
    return next;
  };
  const auto more = [this](GrammarState from, size_t n, GrammarState to) {
    for (size_t i = 0; i < n; ++i) {
      const GrammarState next = i + 1 == n ? to : grammar_.add_state(true);
      grammar_.add_any_of(from, kHex, next);
      from = next;
    }
  };
  const GrammarState code = grammar_.add_state(true);
  grammar_.add_any_of(escape, "u", code);
  more(first_of(code, "0123456789abcefABCEF"), 3, end);
  // D800 to DFFF come in pairs.
  const GrammarState d = first_of(code, "dD");
  more(first_of(d, "01234567"), 2, end);
  const GrammarState pair = grammar_.add_state(true);
  more(first_of(d, "89abAB"), 2, pair);
  const GrammarState low = grammar_.add_state(true);
  grammar_.add_literal(pair, "\\u", low);
  more(first_of(first_of(low, "dD"), "cdefCDEF"), 2, end);
}

void JsonGrammar::build_string() {
  GrammarState end = 0;
  string_ = begin_rule(end);
  const GrammarState text = grammar_.add_state(true);
  grammar_.add_any_of(string_, "\"", text);
  add_text(text, end, {}, CharacterForm::kJsonString);
}

// For strings in quotes, `to` lies behind the closing one.
void JsonGrammar::add_text(GrammarState from, GrammarState to, const LengthBounds& length, CharacterForm form) {
  const auto add_one = [&](GrammarState at, GrammarState next) {
    if (form == CharacterForm::kRaw) return grammar_.add_character(at, kAll, next, form);
    grammar_.add_character(at, kPlain, next, CharacterForm::kRaw);
    grammar_.add_call(at, escape_, next);
  };
  const auto add_end = [&](GrammarState at) {
    if (form == CharacterForm::kRaw) return grammar_.add_jump(at, to);
    grammar_.add_any_of(at, "\"", to);
  };
  const auto begin = static_cast<GrammarState>(grammar_.n_states());
  uint32_t n_each = 0;
  for (uint32_t n = 0; !grammar_.is_too_large(); ++n) {
    if (n >= length.min) add_end(from);
    if (n == 1) n_each = static_cast<uint32_t>(grammar_.n_states()) - begin;
    if (length.max && n >= *length.max) break;
    const bool loops = n >= length.min && !length.max;
    const GrammarState next = loops ? from : grammar_.add_state(true);
    add_one(from, next);
    if (loops) break;
    from = next;
  }
  const auto n_added = static_cast<uint32_t>(grammar_.n_states()) - begin;
  if (n_each > 0) grammar_.add_copies(begin, n_each, n_added / n_each);
}

void JsonGrammar::add_digits(GrammarState from, GrammarState to, size_t min, size_t max) {
  for (size_t n = 0;; ++n) {
    if (n >= min) grammar_.add_jump(from, to);
    if (n == max) return;
    const GrammarState next = grammar_.add_state();
    grammar_.add_bytes(from, '0', '9', next);
    from = next;
  }
}

// 0 <= first; nothing when first > last.
void JsonGrammar::add_digits_between(GrammarState from, GrammarState to, int64_t first, int64_t last) {
  while (first <= last) {
    const std::string low = fmt::format("{}", first);
    // The largest of as many digits.
    const int64_t most = std::min<int64_t>(last, std::stoll(std::string(low.size(), '9')));
    grammar_.add_between(from, low, fmt::format("{}", most), {'0', '9', to});
    first = most + 1;
  }
}

// A point and digits; positive: not all of them zero.
void JsonGrammar::add_fraction(GrammarState from, GrammarState to, bool positive) {
  GrammarState digit = grammar_.add_state();
  grammar_.add_any_of(from, ".", digit);
  if (!positive) return add_digits(digit, to, 1, kMaxDigits);
  const GrammarState after = grammar_.add_state();
  for (size_t i = 0; i < kMaxDigits; ++i) {
    grammar_.add_bytes(digit, '1', '9', after);
    const GrammarState next = grammar_.add_state();
    grammar_.add_bytes(digit, '0', '0', next);
    digit = next;
  }
  add_digits(after, to, 0, kMaxDigits);
}

void JsonGrammar::build_numbers() {
  GrammarState end = 0;
  integer_ = begin_rule(end);
  const GrammarState natural = grammar_.add_state();
  grammar_.add_jump(integer_, natural);
  grammar_.add_any_of(integer_, "-", natural);
  grammar_.add_any_of(natural, "0", end);
  const GrammarState digits = grammar_.add_state();
  grammar_.add_bytes(natural, '1', '9', digits);
  add_digits(digits, end, 0, kMaxDigits - 1);

  number_ = begin_rule(end);
  const GrammarState whole = grammar_.add_state();
  const GrammarState exponent = grammar_.add_state();
  grammar_.add_call(number_, integer_, whole);
  grammar_.add_jump(whole, exponent);
  add_fraction(whole, exponent, false);
  grammar_.add_jump(exponent, end);
  const GrammarState sign = grammar_.add_state();
  grammar_.add_any_of(exponent, "eE", sign);
  const GrammarState power = grammar_.add_state();
  grammar_.add_jump(sign, power);
  grammar_.add_any_of(sign, "+-", power);
  add_digits(power, end, 1, 2);
}

void JsonGrammar::build_values() {
  GrammarState any_end = 0, other_end = 0, object_end = 0, array_end = 0;
  any_ = begin_rule(any_end);
  any_but_string_ = begin_rule(other_end);
  object_ = begin_rule(object_end);
  array_ = begin_rule(array_end);
  grammar_.add_call(any_, string_, any_end);
  grammar_.add_call(any_, any_but_string_, any_end);
  for (const std::string_view word : {"true", "false", "null"}) grammar_.add_literal(any_but_string_, word, other_end);
  for (const GrammarState rule : {number_, object_, array_}) grammar_.add_call(any_but_string_, rule, other_end);

  const auto build_list = [this](GrammarState from, char open, char close, GrammarState to, auto add_item) {
    const GrammarState first = grammar_.add_state(), item = grammar_.add_state(), after = grammar_.add_state();
    const GrammarState more = grammar_.add_state(), closer = grammar_.add_state();
    grammar_.add_any_of(from, std::string_view(&open, 1), first);
    add_space(first, item);
    add_item(item, after);
    grammar_.add_any_of(after, ",", more);
    add_space(more, item);
    add_space(after, closer);
    grammar_.add_any_of(first, std::string_view(&close, 1), to);
    grammar_.add_any_of(closer, std::string_view(&close, 1), to);
  };
  build_list(array_, '[', ']', array_end, [this](GrammarState from, GrammarState to) { add_any(from, to); });
  build_list(object_, '{', '}', object_end, [this](GrammarState from, GrammarState to) {
    const GrammarState colon = grammar_.add_state(), value = grammar_.add_state();
    const GrammarState spaced = grammar_.add_state();
    add_any_string(from, colon);
    grammar_.add_any_of(colon, ":", spaced);
    add_space(spaced, value);
    add_any(value, to);
  });
}

void JsonGrammar::add_integer(GrammarState from, GrammarState to, const NumberBounds& bounds) {
  if (!bounds.any()) return grammar_.add_call(from, integer_, to);
  const int64_t min = bounds.min ? *bounds.min + (bounds.excludes_min ? 1 : 0) : -kMostInteger;
  const int64_t max = bounds.max ? *bounds.max - (bounds.excludes_max ? 1 : 0) : kMostInteger;
  add_digits_between(from, to, std::max<int64_t>(min, 0), max);
  if (min >= 0) return;
  const GrammarState negative = grammar_.add_state();
  grammar_.add_any_of(from, "-", negative);
  add_digits_between(negative, to, std::max<int64_t>(-max, 1), -min);
}

void JsonGrammar::add_number(GrammarState from, GrammarState to, const NumberBounds& bounds) {
  if (!bounds.any()) return grammar_.add_call(from, number_, to);
  const int64_t min = bounds.min.value_or(-kMostInteger);
  const int64_t max = bounds.max.value_or(kMostInteger);
  add_number_part(from, to, {std::max<int64_t>(min, 0), max, bounds.excludes_min && min >= 0, bounds.excludes_max});
  // The mirror image; minus zero is left out.
  const GrammarState negative = grammar_.add_state();
  grammar_.add_any_of(from, "-", negative);
  add_number_part(negative, to,
                  {std::max<int64_t>(-max, 0), -min, max >= 0 || bounds.excludes_max, bounds.excludes_min});
}

// Both bounds from 0 on.
void JsonGrammar::add_number_part(GrammarState from, GrammarState to, const NumberBounds& bounds) {
  const int64_t min = *bounds.min;
  const int64_t max = *bounds.max;
  const int64_t more_than_min = min + (bounds.excludes_min ? 1 : 0);
  add_digits_between(from, to, more_than_min, max - (bounds.excludes_max ? 1 : 0));
  const GrammarState whole = grammar_.add_state();
  add_digits_between(from, whole, more_than_min, max - 1);
  add_fraction(whole, to, false);
  if (!bounds.excludes_min || min >= max) return;
  const GrammarState least = grammar_.add_state();
  add_digits_between(from, least, min, min);
  add_fraction(least, to, true);
}

}  // namespace ds4
