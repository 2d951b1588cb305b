#include "server/http_access.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <algorithm>
#include <span>

#include <boost/asio/ip/address.hpp>

#include "base/file.h"
#include "server/error_shapes.h"
#include "server/routes.h"

namespace ds4 {
namespace {

constexpr size_t kMaxKeyFileBytes = 1U << 20;

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return result;
}

std::string_view trim(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t\r");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t\r") - begin + 1);
}

// "Bearer KEY" or the key that Anthropic's clients send; empty: none.
std::string_view sent_key(const HttpRequest& head) {
  constexpr std::string_view kScheme = "bearer ";
  const std::string_view authorization = head.header("Authorization");
  if (lower(authorization.substr(0, kScheme.size())) == kScheme) return trim(authorization.substr(kScheme.size()));
  return trim(head.header("x-api-key"));
}

std::string_view without_port(std::string_view host) {
  if (host.starts_with('[')) return host.substr(0, host.find(']') + 1);
  return host.substr(0, host.rfind(':'));
}

// Who watches over the server has no key, and the chat page has to come before it can ask for one.
bool is_open(const HttpRequest& head) {
  const std::string_view path = head.path();
  const bool is_page = path == "/" && (head.method == "GET" || head.method == "HEAD");
  return head.method == "OPTIONS" || is_page || path == "/health" || path == "/ready";
}

}  // namespace

HttpAccess::HttpAccess(const AccessOptions& options)
    : checks_host_(options.checks_host), any_origin_(options.any_origin), origins_(options.origins) {
  for (const std::string& key : options.keys) keys_.push_back(digest_of(key));
  for (const std::string& host : options.allowed_hosts) allowed_hosts_.push_back(lower(host));
}

HttpAccess::Digest HttpAccess::digest_of(std::string_view key) {
  Digest digest;
  SHA256(reinterpret_cast<const uint8_t*>(key.data()), key.size(), digest.data());
  return digest;
}

// The time that it takes tells neither the key nor which one it was.
bool HttpAccess::has_key(const HttpRequest& head) const {
  const Digest sent = digest_of(sent_key(head));
  bool found = false;
  for (const Digest& key : keys_) {
    if (CRYPTO_memcmp(key.data(), sent.data(), key.size()) == 0) found = true;
  }
  return found;
}

// No site can have an address as its name.
bool HttpAccess::is_known_host(std::string_view host) const {
  const std::string name = lower(without_port(trim(host)));
  if (name.empty() || name == "localhost" || std::ranges::find(allowed_hosts_, name) != allowed_hosts_.end())
    return true;
  const bool in_brackets = name.size() > 2 && name.front() == '[' && name.back() == ']';
  boost::system::error_code error;
  boost::asio::ip::make_address(in_brackets ? name.substr(1, name.size() - 2) : name, error);
  return !error;
}

HttpAdmission HttpAccess::admit(const HttpRequest& head) const {
  HttpAdmission admission;
  const std::string_view origin = head.header("Origin");
  if (any_origin_) {
    admission.headers = cors_headers();
  } else if (!origins_.empty()) {
    if (std::ranges::find(origins_, origin) != origins_.end()) admission.headers = cors_headers(std::string(origin));
    admission.headers.push_back({"Vary", "Origin"});
  }
  const ErrorResponse error_response = error_shape_of(head);
  if (checks_host_ && !is_known_host(head.header("Host"))) {
    admission.refusal =
        error_response({.status = 403,
                        .message = "the Host header is none of this server's names; --allowed-host NAME allows another",
                        .code = "host_not_allowed"});
  } else if (!keys_.empty() && !is_open(head) && !has_key(head)) {
    const bool none = sent_key(head).empty();
    admission.refusal =
        error_response({.status = 401,
                        .message = none ? "an API key is needed: Authorization: Bearer KEY, or x-api-key"
                                        : "the API key is not one of this server's",
                        .code = "invalid_api_key"});
    admission.refusal->headers.push_back({"WWW-Authenticate", "Bearer"});
  }
  return admission;
}

Result<std::vector<std::string>> read_api_keys(const std::string& path) {
  File file = TRY(File::open_for_reading(path));
  std::string text;
  std::array<char, 4096> chunk{};
  while (text.size() < kMaxKeyFileBytes) {
    const size_t n = TRY(file.read_some(std::as_writable_bytes(std::span(chunk))));
    if (n == 0) break;
    text.append(chunk.data(), n);
  }
  std::vector<std::string> keys;
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), line.size() + 1));
    const std::string_view key = trim(line);
    if (!key.empty() && !key.starts_with('#')) keys.emplace_back(key);
  }
  if (keys.empty()) return make_error(ErrorCode::kInvalidArgument, "{}: no API key in it", path);
  return keys;
}

}  // namespace ds4
