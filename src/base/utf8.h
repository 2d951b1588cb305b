#pragma once

// UTF-8 decoding that accepts any bytes. Ill-formed input is cut into maximal subparts (Unicode 16, section 3.9,
// "U+FFFD substitution of maximal subparts"), so every program part replaces the same bytes by the same number of
// U+FFFD. Surrogates, overlong forms and values above U+10FFFF are ill-formed. Pure functions, any thread.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace ds4 {

inline constexpr char32_t kReplacementCharacter = 0xFFFD;

enum class Utf8Status : uint8_t {
  kWellFormed,
  kIllFormed,
  kTruncated,  // the text ends inside a character that more bytes could complete
};

struct Utf8Character {
  char32_t code_point;  // kReplacementCharacter unless well-formed
  uint8_t n_bytes;      // at least 1
  Utf8Status status;
};

// The character, or the ill-formed maximal subpart, at `offset`. Precondition: offset < text.size().
Utf8Character decode_utf8(std::string_view text, size_t offset);

// Precondition: a Unicode scalar value.
void append_utf8(std::string& text, char32_t code_point);

bool is_well_formed_utf8(std::string_view text);

// Every ill-formed or truncated subpart becomes one U+FFFD.
std::string replace_ill_formed_utf8(std::string_view text);

}  // namespace ds4
