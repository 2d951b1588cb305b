#pragma once

// HTTP/1.1 over TCP, with TLS or without, and over Unix sockets: reads and bounds requests, keeps connections alive,
// notices clients that leave, protects itself from slow ones, and carries answers that are one piece or a stream. It
// knows nothing of models or JSON. The handler runs on an I/O thread, for large bodies on one beside those, for one
// request at a time per connection, and answers through its Responder, at once or later from any thread. The end of a
// client's sending side counts as its leaving.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "server/http_message.h"

namespace ds4 {

struct HttpLimits {
  size_t max_header_bytes = 64U << 10;  // else 431
  size_t max_body_bytes = 64U << 20;    // else 413
  size_t max_queued_bytes = 4U << 20;   // of one stream, not yet taken by its client; else it is cut off
  size_t max_connections = 2048;        // else 503
  int header_timeout_ms = 10'000;       // from the first byte of a request to the end of its head; else 408
  int body_timeout_ms = 30'000;         // for every 16 KiB of the body; else 408
  int idle_timeout_ms = 120'000;        // between two requests; then the connection is closed
  int write_timeout_ms = 30'000;        // without progress; then the connection is closed
  int keep_alive_ms = 1'000;
};

// What is decided by a request's head, before its body is read.
struct HttpAdmission {
  std::vector<HttpHeader> headers{};      // added to the answer
  std::optional<HttpResponse> refusal{};  // sent at once; the connection is closed after it
};

struct HttpServerOptions {
  // An address or a name; "localhost" is 127.0.0.1 and ::1. "unix:PATH" is a socket file for this user alone; one that
  // nobody answers at any more is replaced.
  std::string host = "localhost";
  uint16_t port = 8000;  // 0: any free one
  int n_threads = 4;
  HttpLimits limits{};
  std::vector<HttpHeader> headers{};  // added to every answer
  // PEM files of a certificate chain and its key; empty: no TLS.
  std::string tls_cert_file{};
  std::string tls_key_file{};
  // Called with every head, on an I/O thread; empty: everything is admitted.
  std::function<HttpAdmission(const HttpRequest& head)> admit{};
  // Makes the answer to a request that never reaches the handler (status, reason), in the API's own error form.
  std::function<HttpResponse(int, std::string_view)> error_response{};
};

class HttpServer {
 public:
  using Handler = std::function<void(HttpRequest, std::shared_ptr<Responder>)>;

  // Listens on return. The handler must stay callable until stop() has returned.
  static Result<std::unique_ptr<HttpServer>> start(HttpServerOptions options, Handler handler);
  ~HttpServer();  // stop(0)
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  uint16_t port() const;  // 0 with a Unix socket
  // "127.0.0.1:8000", "[::1]:8000", "unix:PATH": all that it listens on.
  std::vector<std::string> addresses() const;
  bool loopback_only() const;

  // Takes no more requests; lets running answers finish for `grace_ms`, then sets their cancelled() and gives them
  // a second to say so to their clients; then closes what is left. Blocks; idempotent.
  void stop(int grace_ms);

 private:
  class Impl;
  explicit HttpServer(std::shared_ptr<Impl> impl);

  std::shared_ptr<Impl> impl_;
};

}  // namespace ds4
