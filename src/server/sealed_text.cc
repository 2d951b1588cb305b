#include "server/sealed_text.h"

#include <openssl/evp.h>
#include <openssl/rand.h>

#include <limits>
#include <memory>
#include <vector>

#include "base/check.h"

namespace ds4 {
namespace {

constexpr std::string_view kPrefix = "ds4-1.";
constexpr int kNonceBytes = 12;
constexpr int kTagBytes = 16;
// What EVP's int sizes hold, with room for base64.
constexpr size_t kMaxBytes = std::numeric_limits<int>::max() / 2;

struct FreeContext {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
using Context = std::unique_ptr<EVP_CIPHER_CTX, FreeContext>;

const uint8_t* bytes_of(std::string_view text) { return reinterpret_cast<const uint8_t*>(text.data()); }

std::string to_base64(const std::vector<uint8_t>& bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0');
  const int n = EVP_EncodeBlock(reinterpret_cast<uint8_t*>(text.data()), bytes.data(), static_cast<int>(bytes.size()));
  text.resize(static_cast<size_t>(n));
  return text;
}

std::optional<std::vector<uint8_t>> from_base64(std::string_view text) {
  if (text.empty() || text.size() % 4 != 0 || text.size() > kMaxBytes) return std::nullopt;
  std::vector<uint8_t> bytes(text.size() / 4 * 3);
  if (EVP_DecodeBlock(bytes.data(), bytes_of(text), static_cast<int>(text.size())) < 0) return std::nullopt;
  const size_t n_padding = text.size() - 1 - text.find_last_not_of('=');
  if (n_padding > 2) return std::nullopt;
  bytes.resize(bytes.size() - n_padding);
  return bytes;
}

}  // namespace

TextSealer::TextSealer() {
  CHECK(RAND_bytes(key_.data(), static_cast<int>(key_.size())) == 1, "the system has no random bytes");
}

// Prefix, then base64 of nonce, text and tag.
std::string TextSealer::seal(std::string_view text) const {
  if (text.size() > kMaxBytes) return {};
  const Context context(EVP_CIPHER_CTX_new());
  std::vector<uint8_t> bytes(kNonceBytes + text.size() + kTagBytes);
  uint8_t* body = bytes.data() + kNonceBytes;
  int n = 0;
  const bool done = context != nullptr && RAND_bytes(bytes.data(), kNonceBytes) == 1 &&
                    EVP_EncryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, key_.data(), bytes.data()) == 1 &&
                    EVP_EncryptUpdate(context.get(), body, &n, bytes_of(text), static_cast<int>(text.size())) == 1 &&
                    EVP_EncryptFinal_ex(context.get(), body + n, &n) == 1 &&
                    EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_GET_TAG, kTagBytes, body + text.size()) == 1;
  return done ? std::string(kPrefix) + to_base64(bytes) : std::string();
}

std::optional<std::string> TextSealer::open(std::string_view sealed) const {
  if (!sealed.starts_with(kPrefix)) return std::nullopt;
  std::optional<std::vector<uint8_t>> bytes = from_base64(sealed.substr(kPrefix.size()));
  if (!bytes || bytes->size() < kNonceBytes + kTagBytes) return std::nullopt;
  const Context context(EVP_CIPHER_CTX_new());
  const size_t n_text = bytes->size() - kNonceBytes - kTagBytes;
  const uint8_t* body = bytes->data() + kNonceBytes;
  std::string text(n_text, '\0');
  auto* out = reinterpret_cast<uint8_t*>(text.data());
  int n = 0;
  const bool done =
      context != nullptr &&
      EVP_DecryptInit_ex(context.get(), EVP_aes_256_gcm(), nullptr, key_.data(), bytes->data()) == 1 &&
      EVP_DecryptUpdate(context.get(), out, &n, body, static_cast<int>(n_text)) == 1 &&
      EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_SET_TAG, kTagBytes, bytes->data() + kNonceBytes + n_text) == 1 &&
      EVP_DecryptFinal_ex(context.get(), out + n, &n) == 1;
  if (!done) return std::nullopt;
  return text;
}

}  // namespace ds4
