#include "text/pretokenizer.h"

#include "base/check.h"
#include "base/utf8.h"
#include "text/unicode_classes.h"

namespace ds4 {
namespace {

// Which of the first two expressions claims a character.
enum class RunKind : uint8_t { kNumber, kCjk, kRest };

constexpr int kMaxNumbersPerPiece = 3;

struct Character {
  char32_t code_point = 0;
  CharacterClass character_class = CharacterClass::kOther;
  size_t n_bytes = 0;  // 0 at the end of the run

  bool at_end() const { return n_bytes == 0; }
  bool is(CharacterClass wanted) const { return !at_end() && character_class == wanted; }
  bool is_word() const { return is(CharacterClass::kLetter) || is(CharacterClass::kMark); }
  bool is_sign() const { return is(CharacterClass::kPunctuation) || is(CharacterClass::kSymbol); }
  bool is_newline() const { return !at_end() && (code_point == '\r' || code_point == '\n'); }
  bool is_ascii_sign() const { return is_sign() && code_point < 0x80; }
  bool is_ascii_letter() const { return is(CharacterClass::kLetter) && code_point < 0x80; }
};

RunKind run_kind(const Character& character) {
  const char32_t c = character.code_point;
  if (character.is(CharacterClass::kNumber)) return RunKind::kNumber;
  if ((c >= 0x4E00 && c <= 0x9FA5) || (c >= 0x3040 && c <= 0x30FF)) return RunKind::kCjk;
  return RunKind::kRest;
}

Character decode(std::string_view text, size_t offset) {
  const Utf8Character character = decode_utf8(text, offset);
  return {character.code_point, character_class(character.code_point), character.n_bytes};
}

// A cursor that stops where the run of one kind ends.
class RunCursor {
 public:
  RunCursor(std::string_view text, size_t offset)
      : text_(text), offset_(offset), current_(decode(text, offset)), kind_(run_kind(current_)) {}

  RunKind kind() const { return kind_; }
  size_t offset() const { return offset_; }
  const Character& current() const { return current_; }
  Character following() const { return at(offset_ + current_.n_bytes); }

  void advance() {
    offset_ += current_.n_bytes;
    current_ = at(offset_);
  }
  template <class Predicate>
  void skip_while(Predicate predicate) {
    while (!current_.at_end() && predicate(current_)) advance();
  }

 private:
  Character at(size_t offset) const {
    if (offset == text_.size()) return {};
    const Character character = decode(text_, offset);
    return run_kind(character) == kind_ ? character : Character{};
  }

  std::string_view text_;
  size_t offset_;
  Character current_;
  RunKind kind_;
};

bool starts_word(const Character& first, const Character& second) {
  return first.is_word() || (!first.is_sign() && !first.is_newline() && second.is_word());
}

bool starts_signs(const Character& first, const Character& second) {
  return first.is_sign() || (first.code_point == ' ' && second.is_sign());
}

void skip_word(RunCursor& cursor) {
  cursor.advance();
  cursor.skip_while([](const Character& c) { return c.is_word(); });
}

void skip_signs(RunCursor& cursor) {
  cursor.advance();
  cursor.skip_while([](const Character& c) { return c.is_sign(); });
  cursor.skip_while([](const Character& c) { return c.is_newline(); });
}

// End of the piece that starts with the white space at the cursor: through the last line break of the run, else the
// run without the character that a following piece takes as its prefix.
size_t white_space_end(RunCursor cursor) {
  const size_t begin = cursor.offset();
  size_t after_newline = begin;
  size_t last = begin;
  while (cursor.current().is(CharacterClass::kWhiteSpace)) {
    last = cursor.offset();
    const bool newline = cursor.current().is_newline();
    cursor.advance();
    if (newline) after_newline = cursor.offset();
  }
  if (after_newline > begin) return after_newline;
  return cursor.current().at_end() || last == begin ? cursor.offset() : last;
}

// Characters that no alternative matches, up to the first place where one does.
void skip_gap(RunCursor& cursor) {
  do {
    cursor.advance();
  } while (cursor.current().is(CharacterClass::kOther) && !cursor.following().is_word());
}

// End of the piece at the cursor inside a run of kind kCjk or kRest, by the third expression.
size_t piece_end(RunCursor cursor) {
  const Character first = cursor.current();
  const Character second = cursor.following();
  if (first.is_ascii_sign() && second.is_ascii_letter()) {
    cursor.advance();
    cursor.skip_while([](const Character& c) { return c.is_ascii_letter(); });
  } else if (starts_word(first, second)) {
    skip_word(cursor);
  } else if (starts_signs(first, second)) {
    skip_signs(cursor);
  } else if (first.is(CharacterClass::kWhiteSpace)) {
    return white_space_end(cursor);
  } else {
    skip_gap(cursor);
  }
  return cursor.offset();
}

}  // namespace

std::string_view Pretokenizer::next() {
  CHECK(!done(), "no piece left of {} bytes", text_.size());
  RunCursor cursor(text_, offset_);
  size_t end = 0;
  if (cursor.kind() == RunKind::kNumber) {
    for (int n = 0; n < kMaxNumbersPerPiece && !cursor.current().at_end(); ++n) cursor.advance();
    end = cursor.offset();
  } else {
    end = piece_end(cursor);
  }
  const std::string_view piece = text_.substr(offset_, end - offset_);
  offset_ = end;
  return piece;
}

}  // namespace ds4
