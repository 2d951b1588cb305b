#include "text/byte_alphabet.h"

#include <array>

#include "base/utf8.h"

namespace ds4 {
namespace {

constexpr bool is_printable(uint32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

constexpr uint32_t kFirstRemapped = 0x100;

constexpr auto kByteToCodePoint = [] {
  std::array<char32_t, 256> code_points{};
  char32_t next = kFirstRemapped;
  for (uint32_t byte = 0; byte < 256; ++byte) code_points[byte] = is_printable(byte) ? byte : next++;
  return code_points;
}();

// Indexed by code point; -1 where the code point stands for no byte.
constexpr auto kCodePointToByte = [] {
  std::array<int16_t, kFirstRemapped + 68> bytes{};
  for (int16_t& byte : bytes) byte = -1;
  for (int16_t byte = 0; byte < 256; ++byte) bytes[kByteToCodePoint[static_cast<size_t>(byte)]] = byte;
  return bytes;
}();

}  // namespace

char32_t byte_to_alphabet(uint8_t byte) { return kByteToCodePoint[byte]; }

std::string spell_in_alphabet(std::string_view bytes) {
  std::string spelled;
  for (const char byte : bytes) append_utf8(spelled, byte_to_alphabet(static_cast<uint8_t>(byte)));
  return spelled;
}

std::optional<std::string> bytes_of_spelling(std::string_view spelled) {
  std::string bytes;
  for (size_t offset = 0; offset < spelled.size();) {
    const Utf8Character character = decode_utf8(spelled, offset);
    if (character.code_point >= kCodePointToByte.size()) return std::nullopt;
    const int16_t byte = kCodePointToByte[character.code_point];
    if (byte < 0) return std::nullopt;
    bytes.push_back(static_cast<char>(byte));
    offset += character.n_bytes;
  }
  return bytes;
}

}  // namespace ds4
