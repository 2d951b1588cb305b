#pragma once

// Who may use the server: API keys, the names that it answers to, and the origins whose pages may use it. Decides by a
// request's head alone, before its body is read. A server on a loopback address needs the check of names: a page of any
// site can have its own name lead there. Const after construction, any thread.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "server/http_message.h"
#include "server/http_server.h"

namespace ds4 {

struct AccessOptions {
  std::vector<std::string> keys;           // empty: none is needed
  bool checks_host = false;                // the Host header must be an address, localhost, or one of:
  std::vector<std::string> allowed_hosts;  // names without port
  bool any_origin = false;
  std::vector<std::string> origins;  // "https://example.org"
};

class HttpAccess {
 public:
  explicit HttpAccess(const AccessOptions& options);

  // For HttpServerOptions::admit.
  HttpAdmission admit(const HttpRequest& head) const;

 private:
  using Digest = std::array<uint8_t, 32>;
  static Digest digest_of(std::string_view key);
  bool has_key(const HttpRequest& head) const;
  bool is_known_host(std::string_view host) const;

  std::vector<Digest> keys_;
  bool checks_host_;
  std::vector<std::string> allowed_hosts_;
  bool any_origin_;
  std::vector<std::string> origins_;
};

// One key per line; empty lines and lines that begin with '#' are skipped.
Result<std::vector<std::string>> read_api_keys(const std::string& path);

}  // namespace ds4
