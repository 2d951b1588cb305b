#pragma once

// Regular expressions as JSON schemas have them (ECMAScript's), as far as they describe a set of texts: characters and
// escapes, '.', classes, \d \w \s and their negations, groups, alternatives, and repetition ('*' '+' '?' '{n,m}', lazy
// or not). '^' and '$' stand at the ends of the whole expression or of one of its alternatives; without them
// anything may stand before and behind. Not supported, and refused by name: look-around, back references, word
// boundaries, \p{..}, anchors elsewhere. Pure function, any thread.

#include <string_view>

#include "base/error.h"
#include "constrain/byte_grammar.h"

namespace ds4 {

inline constexpr int kMaxPatternRepeats = 1000;

// Adds the texts that match, between two states. Errors: kInvalidArgument for what is no expression, kUnsupported.
Result<void> add_pattern(std::string_view pattern, CharacterForm form, GrammarState from, GrammarState to,
                         ByteGrammar& grammar);

}  // namespace ds4
