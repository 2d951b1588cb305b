#include "server/anthropic_signature.h"

#include <algorithm>
#include <span>

#include "base/utf8.h"
#include "session/hash.h"

namespace ds4 {
namespace {

constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
// Name and version of the form, then the kind.
constexpr std::string_view kMagic = "dsT1";
constexpr size_t kHashBytes = sizeof(Hash128);
constexpr size_t kHeadBytes = kMagic.size() + 1 + kHashBytes;
constexpr Hash128 kDomain{.low = 0x5448494E4B494E47, .high = 1};

std::string encode_base64(std::string_view bytes) {
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    const size_t n = std::min<size_t>(3, bytes.size() - i);
    uint32_t group = 0;
    for (size_t k = 0; k < 3; ++k) group = group << 8 | (k < n ? static_cast<uint8_t>(bytes[i + k]) : 0U);
    for (size_t k = 0; k < 4; ++k) text.push_back(k <= n ? kAlphabet[group >> (18 - 6 * k) & 63U] : '=');
  }
  return text;
}

std::optional<std::string> decode_base64(std::string_view text) {
  if (text.size() % 4 != 0) return std::nullopt;
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string bytes;
  uint32_t group = 0;
  uint32_t n_bits = 0;
  for (const char c : text) {
    const size_t value = kAlphabet.find(c);
    if (value == std::string_view::npos) return std::nullopt;
    group = (group << 6 | static_cast<uint32_t>(value)) & 0xFFFFFFU;
    n_bits += 6;
    if (n_bits < 8) continue;
    n_bits -= 8;
    bytes.push_back(static_cast<char>(group >> n_bits & 0xFFU));
  }
  return bytes;
}

std::string head_of(std::string_view text, SignatureKind kind) {
  const Hash128 hash = hash_bytes(std::as_bytes(std::span(text)), kDomain);
  std::string head(kMagic);
  head.push_back(static_cast<char>('0' + static_cast<int>(kind)));
  for (const uint64_t half : {hash.low, hash.high}) {
    for (int shift = 0; shift < 64; shift += 8) head.push_back(static_cast<char>(half >> shift & 0xFFU));
  }
  return head;
}

}  // namespace

std::string sign_thinking(std::string_view text, SignatureKind kind) {
  std::string bytes = head_of(text, kind);
  if (kind == SignatureKind::kText) bytes += text;
  return encode_base64(bytes);
}

bool signs_thinking(std::string_view signature, std::string_view text) {
  return signature == sign_thinking(text, SignatureKind::kHash) ||
         signature == sign_thinking(text, SignatureKind::kText);
}

std::optional<std::string> signed_thinking(std::string_view signature) {
  std::optional<std::string> bytes = decode_base64(signature);
  if (!bytes || bytes->size() < kHeadBytes) return std::nullopt;
  std::string text = bytes->substr(kHeadBytes);
  if (bytes->substr(0, kHeadBytes) != head_of(text, SignatureKind::kText) || !is_well_formed_utf8(text)) {
    return std::nullopt;
  }
  return text;
}

}  // namespace ds4
