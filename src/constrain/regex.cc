#include "constrain/regex.h"

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "base/utf8.h"

namespace ds4 {
namespace {

using Ranges = std::vector<CodePointRange>;

constexpr char32_t kLastCodePoint = 0x10FFFF;
constexpr int kMaxGroups = 64;  // one inside the other
constexpr int kUnbounded = -1;

const Ranges kDigits{{'0', '9'}};
const Ranges kWord{{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
const Ranges kSpaces{{0x09, 0x0D},     {' ', ' '},       {0xA0, 0xA0},     {0x1680, 0x1680}, {0x2000, 0x200A},
                     {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F}, {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
const Ranges kLineEnds{{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};
const Ranges kAll{{0, kLastCodePoint}};

Ranges without(Ranges ranges) {
  std::ranges::sort(ranges, {}, &CodePointRange::first);
  Ranges rest;
  char32_t first = 0;
  for (const CodePointRange& range : ranges) {
    if (range.first > first) rest.push_back({first, range.first - 1});
    first = std::max<char32_t>(first, range.last + 1);
  }
  if (first <= kLastCodePoint) rest.push_back({first, kLastCodePoint});
  return rest;
}

struct Node {
  enum class Kind { kClass, kSequence, kAlternatives, kRepeat };
  Kind kind = Kind::kSequence;
  Ranges ranges;            // kClass
  std::vector<Node> parts;  // of the others; kRepeat has one
  int min = 1;
  int max = 1;
  bool starts = false, ends = false;  // a top-level alternative has '^', has '$'
};

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Result<Node> parse() && {
    Node node = TRY(alternatives(0));
    if (!at_end()) return unexpected();
    return node;
  }

 private:
  bool at_end() const { return at_ >= text_.size(); }
  bool next_is(char c) const { return !at_end() && text_[at_] == c; }
  bool take(std::string_view token) {
    if (!text_.substr(at_).starts_with(token)) return false;
    at_ += token.size();
    return true;
  }
  char32_t take_character() {
    const Utf8Character c = decode_utf8(text_, at_);
    at_ += c.n_bytes;
    return c.code_point;
  }
  Error unexpected() const {
    if (at_end()) return make_error(ErrorCode::kInvalidArgument, "the expression ends too early");
    return make_error(ErrorCode::kInvalidArgument, "unexpected '{}' at byte {}", text_[at_], at_);
  }
  Error unsupported(std::string_view what) const {
    return make_error(ErrorCode::kUnsupported, "{} at byte {}: not supported in an expression", what, at_);
  }

  Result<Node> alternatives(int depth) {
    if (depth > kMaxGroups) return unsupported("a deeper group");
    Node node{.kind = Node::Kind::kAlternatives};
    do {
      node.parts.push_back(TRY(sequence(depth)));
    } while (take("|"));
    return node;
  }

  Result<Node> sequence(int depth) {
    Node node{.kind = Node::Kind::kSequence};
    if (depth == 0) node.starts = take("^");
    while (!at_end() && !next_is('|') && !next_is(')')) {
      if (depth == 0 && next_is('$') && (at_ + 1 == text_.size() || text_[at_ + 1] == '|')) {
        ++at_;
        node.ends = true;
        break;
      }
      Node part = TRY(atom(depth));
      node.parts.push_back(TRY(repeated(std::move(part))));
    }
    return node;
  }

  Result<Node> atom(int depth) {
    if (next_is('^') || next_is('$')) return unsupported("an anchor");
    if (next_is('*') || next_is('+') || next_is('?') || next_is('{')) return unexpected();
    if (take("(")) return group(depth);
    if (take("[")) return Node{.kind = Node::Kind::kClass, .ranges = TRY(character_class())};
    if (take(".")) return Node{.kind = Node::Kind::kClass, .ranges = without(kLineEnds)};
    if (take("\\")) return Node{.kind = Node::Kind::kClass, .ranges = TRY(escape(false))};
    const char32_t c = take_character();
    return Node{.kind = Node::Kind::kClass, .ranges = {{c, c}}};
  }

  Result<Node> group(int depth) {
    if (text_.substr(at_).starts_with("?<=") || text_.substr(at_).starts_with("?<!")) return unsupported("look-behind");
    if (text_.substr(at_).starts_with("?=") || text_.substr(at_).starts_with("?!")) return unsupported("look-ahead");
    if (take("?<")) {
      at_ = std::min(text_.find('>', at_), text_.size());
      if (!take(">")) return unexpected();
    } else if (!take("?:") && next_is('?')) {
      return unsupported("this kind of group");
    }
    Node node = TRY(alternatives(depth + 1));
    if (!take(")")) return unexpected();
    return node;
  }

  // After the backslash.
  Result<Ranges> escape(bool in_class) {
    if (at_end()) return unexpected();
    const char c = text_[at_];
    if (c == 'b' && in_class) return single(U'\b');
    if (c == 'b' || c == 'B') return unsupported("a word boundary");
    if (c == 'p' || c == 'P') return unsupported("a Unicode property");
    if (c == 'k' || (c >= '1' && c <= '9')) return unsupported("a back reference");
    switch (c) {
      case 'd': return set(kDigits);
      case 'D': return set(without(kDigits));
      case 'w': return set(kWord);
      case 'W': return set(without(kWord));
      case 's': return set(kSpaces);
      case 'S': return set(without(kSpaces));
      case 'n': return single(U'\n');
      case 'r': return single(U'\r');
      case 't': return single(U'\t');
      case 'f': return single(U'\f');
      case 'v': return single(U'\v');
      case '0': return single(U'\0');
      case 'x': return hexadecimal(2);
      case 'u': return hexadecimal(4);
      default: break;
    }
    const bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (is_letter) return unexpected();
    const char32_t literal = take_character();
    return Ranges{{literal, literal}};
  }

  Ranges set(Ranges ranges) {
    ++at_;
    return ranges;
  }
  Ranges single(char32_t c) { return set({{c, c}}); }

  Result<Ranges> hexadecimal(size_t n_digits) {
    char32_t value = 0;
    for (size_t i = 1; i <= n_digits; ++i) {
      const char c = at_ + i < text_.size() ? text_[at_ + i] : '?';
      const bool is_digit = c >= '0' && c <= '9';
      const char lower = static_cast<char>(c | 0x20);
      if (!is_digit && (lower < 'a' || lower > 'f')) return unexpected();
      value = value * 16 + static_cast<char32_t>(is_digit ? c - '0' : lower - 'a' + 10);
    }
    if (value >= 0xD800 && value <= 0xDFFF) return unsupported("a surrogate");
    at_ += 1 + n_digits;
    return Ranges{{value, value}};
  }

  // After the bracket.
  Result<Ranges> character_class() {
    const bool negated = take("^");
    Ranges ranges;
    while (!take("]")) {
      if (at_end()) return unexpected();
      const Ranges first = TRY(class_atom());
      if (!next_is('-') || at_ + 1 >= text_.size() || text_[at_ + 1] == ']') {
        ranges.insert(ranges.end(), first.begin(), first.end());
        continue;
      }
      ++at_;
      const Ranges last = TRY(class_atom());
      const bool are_single = first.size() == 1 && first[0].first == first[0].last && last.size() == 1 &&
                              last[0].first == last[0].last && first[0].first <= last[0].first;
      if (!are_single)
        return make_error(ErrorCode::kInvalidArgument, "a range of characters that is none, before byte {}", at_);
      ranges.push_back({first[0].first, last[0].first});
    }
    return negated ? without(std::move(ranges)) : ranges;
  }

  Result<Ranges> class_atom() {
    if (at_end()) return unexpected();
    if (take("\\")) return escape(true);
    const char32_t c = take_character();
    return Ranges{{c, c}};
  }

  Result<Node> repeated(Node node) {
    int min = 1;
    int max = 1;
    if (take("*")) {
      min = 0, max = kUnbounded;
    } else if (take("+")) {
      max = kUnbounded;
    } else if (take("?")) {
      min = 0;
    } else if (take("{")) {
      const std::optional<int> low = number();
      if (!low) return unexpected();
      min = max = *low;
      if (take(",")) max = number().value_or(kUnbounded);
      if (!take("}")) return unexpected();
      if (std::max(min, max) > kMaxPatternRepeats) return unsupported("so many repetitions");
      if (max != kUnbounded && max < min) {
        return make_error(ErrorCode::kInvalidArgument, "a repetition of at least {} and at most {}, before byte {}",
                          min, max, at_);
      }
    } else {
      return node;
    }
    take("?");  // lazy or not, it is the same set of texts
    Node repeat{.kind = Node::Kind::kRepeat, .ranges = {}, .parts = {}, .min = min, .max = max};
    repeat.parts.push_back(std::move(node));
    return repeat;
  }

  std::optional<int> number() {
    std::optional<int> value;
    for (; !at_end() && text_[at_] >= '0' && text_[at_] <= '9'; ++at_) {
      value = std::min(value.value_or(0) * 10 + (text_[at_] - '0'), kMaxPatternRepeats + 1);
    }
    return value;
  }

  std::string_view text_;
  size_t at_ = 0;
};

class Emitter {
 public:
  Emitter(CharacterForm form, ByteGrammar& grammar) : form_(form), grammar_(grammar) {}

  void emit_top(const Node& alternatives, GrammarState from, GrammarState to) {
    for (const Node& part : alternatives.parts) {
      const GrammarState first = state();
      const GrammarState last = state();
      grammar_.add_jump(from, first);
      grammar_.add_jump(last, to);
      if (!part.starts) grammar_.add_character(first, kAll, first, form_);
      if (!part.ends) grammar_.add_character(last, kAll, last, form_);
      emit(part, first, last);
    }
  }

 private:
  GrammarState state() { return grammar_.add_state(true); }

  void emit(const Node& node, GrammarState from, GrammarState to) {
    if (grammar_.is_too_large()) return;
    switch (node.kind) {
      case Node::Kind::kClass: return grammar_.add_character(from, node.ranges, to, form_);
      case Node::Kind::kAlternatives:
        for (const Node& part : node.parts) emit(part, from, to);
        return;
      case Node::Kind::kSequence: {
        for (const Node& part : node.parts) {
          const GrammarState next = state();
          emit(part, from, next);
          from = next;
        }
        return grammar_.add_jump(from, to);
      }
      case Node::Kind::kRepeat: return emit_repeat(node, from, to);
    }
  }

  static bool may_be_empty(const Node& node) {
    const auto is_empty = [](const Node& part) { return may_be_empty(part); };
    switch (node.kind) {
      case Node::Kind::kClass: return false;
      case Node::Kind::kSequence: return std::ranges::all_of(node.parts, is_empty);
      case Node::Kind::kAlternatives: return std::ranges::any_of(node.parts, is_empty);
      case Node::Kind::kRepeat: return node.min == 0 || may_be_empty(node.parts[0]);
    }
    return true;
  }

  void emit_repeat(const Node& node, GrammarState from, GrammarState to) {
    const Node& part = node.parts[0];
    const auto begin = static_cast<GrammarState>(grammar_.n_states());
    uint32_t n_copies = 0;
    const bool is_bounded = node.max != kUnbounded;
    for (int i = 0; i < (is_bounded ? node.max : node.min) && !grammar_.is_too_large(); ++i) {
      if (i >= node.min) grammar_.add_jump(from, to);
      from = emit_one(part, from);
      ++n_copies;
    }
    if (n_copies > 0 && !may_be_empty(part)) {
      grammar_.add_copies(begin, static_cast<uint32_t>(grammar_.n_states() - begin) / n_copies, n_copies);
    }
    if (is_bounded) return grammar_.add_jump(from, to);
    const GrammarState loop = state();
    grammar_.add_jump(from, loop);
    grammar_.add_jump(emit_one(part, loop), loop);
    grammar_.add_jump(loop, to);
  }

  GrammarState emit_one(const Node& node, GrammarState from) {
    const GrammarState next = state();
    emit(node, from, next);
    return next;
  }

  CharacterForm form_;
  ByteGrammar& grammar_;
};

}  // namespace

Result<void> add_pattern(std::string_view pattern, CharacterForm form, GrammarState from, GrammarState to,
                         ByteGrammar& grammar) {
  const Node node = TRY(Parser(pattern).parse());
  Emitter(form, grammar).emit_top(node, from, to);
  return {};
}

}  // namespace ds4
