#pragma once

// The printable spelling of bytes in byte-level BPE vocabularies: bytes 0x21-0x7E, 0xA1-0xAC and 0xAE-0xFF stand for
// the code point of the same value, the other 68 bytes, in ascending order, for U+0100 and up (space is U+0120).
// Stored tokens and merges are UTF-8 of these code points; added tokens are not spelled this way. Pure functions.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ds4 {

char32_t byte_to_alphabet(uint8_t byte);
std::string spell_in_alphabet(std::string_view bytes);

// The bytes that `spelled` stands for; nothing when it has a character outside the alphabet.
std::optional<std::string> bytes_of_spelling(std::string_view spelled);

}  // namespace ds4
