#pragma once

// The seven classes of code points that the pre-tokeniser distinguishes: the general categories L, M, N, P, S,
// white space, and everything else (control, format, private use, unassigned). Unicode 16.0, because the reference
// tokenizer uses it: an older table would split texts with new characters differently. Pure function, any thread.

#include <cstdint>

namespace ds4 {

enum class CharacterClass : uint8_t { kOther, kLetter, kMark, kNumber, kPunctuation, kSymbol, kWhiteSpace };

CharacterClass character_class(char32_t code_point);

}  // namespace ds4
