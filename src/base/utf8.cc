#include "base/utf8.h"

#include "base/check.h"

namespace ds4 {
namespace {

struct LeadByte {
  uint8_t n_bytes;  // 0: cannot start a character
  uint8_t second_min;
  uint8_t second_max;
};

// Table 3-7 of the Unicode standard: only the second byte's range depends on the first.
LeadByte classify_lead(uint8_t byte) {
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

}  // namespace

Utf8Character decode_utf8(std::string_view text, size_t offset) {
  DCHECK(offset < text.size(), "offset {} of {} bytes", offset, text.size());
  const auto first = static_cast<uint8_t>(text[offset]);
  if (first < 0x80) return {first, 1, Utf8Status::kWellFormed};
  const LeadByte lead = classify_lead(first);
  if (lead.n_bytes == 0) return {kReplacementCharacter, 1, Utf8Status::kIllFormed};
  char32_t code_point = first & (0x7Fu >> lead.n_bytes);
  for (uint8_t i = 1; i < lead.n_bytes; ++i) {
    if (offset + i == text.size()) return {kReplacementCharacter, i, Utf8Status::kTruncated};
    const auto byte = static_cast<uint8_t>(text[offset + i]);
    const uint8_t min = i == 1 ? lead.second_min : 0x80;
    const uint8_t max = i == 1 ? lead.second_max : 0xBF;
    if (byte < min || byte > max) return {kReplacementCharacter, i, Utf8Status::kIllFormed};
    code_point = (code_point << 6) | (byte & 0x3Fu);
  }
  return {code_point, lead.n_bytes, Utf8Status::kWellFormed};
}

void append_utf8(std::string& text, char32_t code_point) {
  DCHECK(code_point < 0xD800 || (code_point > 0xDFFF && code_point <= 0x10FFFF), "not a scalar value");
  const auto push = [&text](uint32_t byte) { text.push_back(static_cast<char>(static_cast<uint8_t>(byte))); };
  if (code_point < 0x80) return push(code_point);
  if (code_point < 0x800) {
    push(0xC0 | (code_point >> 6));
  } else {
    if (code_point < 0x10000) {
      push(0xE0 | (code_point >> 12));
    } else {
      push(0xF0 | (code_point >> 18));
      push(0x80 | ((code_point >> 12) & 0x3F));
    }
    push(0x80 | ((code_point >> 6) & 0x3F));
  }
  push(0x80 | (code_point & 0x3F));
}

bool is_well_formed_utf8(std::string_view text) {
  for (size_t offset = 0; offset < text.size();) {
    const Utf8Character character = decode_utf8(text, offset);
    if (character.status != Utf8Status::kWellFormed) return false;
    offset += character.n_bytes;
  }
  return true;
}

std::string replace_ill_formed_utf8(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (size_t offset = 0; offset < text.size();) {
    const Utf8Character character = decode_utf8(text, offset);
    append_utf8(result, character.code_point);
    offset += character.n_bytes;
  }
  return result;
}

}  // namespace ds4
