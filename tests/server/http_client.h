#pragma once

// A blocking HTTP/1.1 client over one loopback connection, for tests: sends any bytes and reads answers, whole, chunked
// or event by event. Every read gives up after 5 s, so that a broken server fails a test instead of hanging it.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ds4 {

struct ClientResponse {
  int status = 0;  // 0: the connection closed before a head came
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;

  // The first header of that name (case does not matter), or empty.
  std::string header(std::string_view name) const;
};

class HttpClient {
 public:
  explicit HttpClient(uint16_t port, const char* host = "127.0.0.1");
  ~HttpClient();
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  void send(std::string_view bytes);
  void finish_sending();
  void close();

  // The head only; the body is left to read_body() or read_chunk().
  ClientResponse read_head();
  // A whole answer. `has_body` is false for answers to HEAD.
  ClientResponse read_response(bool has_body = true);
  // The next chunk of a chunked body; empty at its end; nothing when the connection breaks first.
  std::optional<std::string> read_chunk();
  // The next event or comment of a stream, without its empty line; empty at the end of the stream.
  std::string read_event();
  // True when the server has closed its side.
  bool at_end();
  // The same, or the connection was reset, as one is that the server had not taken yet.
  bool is_closed();

  ClientResponse get(std::string_view path);
  ClientResponse post(std::string_view path, std::string_view body);

 private:
  bool receive();
  std::optional<std::string> take_until(std::string_view end);

  int socket_ = -1;
  std::string received_;
  std::string events_;
};

std::string post_request(std::string_view path, std::string_view body);

}  // namespace ds4
