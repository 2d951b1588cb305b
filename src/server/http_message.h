#pragma once

// HTTP as the routes and dialects see it: a request, an answer in one piece, and the Responder that carries an answer,
// whole or as a stream, to the client. No sockets here. Requests and responses are plain values; a Responder may be
// used from any thread, but not from two at once.

#include <atomic>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace ds4 {

struct HttpHeader {
  std::string name;
  std::string value;
};

struct HttpRequest {
  std::string method;
  std::string target;  // as sent: path and query
  std::vector<HttpHeader> headers;
  std::string body;

  // The target without its query.
  std::string_view path() const { return std::string_view(target).substr(0, target.find('?')); }
  // The first header of that name (case does not matter), or empty.
  std::string_view header(std::string_view name) const;
};

struct HttpResponse {
  int status = 200;
  std::string content_type{};  // empty: no such header
  std::string body{};
  std::vector<HttpHeader> headers{};
};

// Either send() once, or begin_stream(), any number of write(), end(). One that is dropped before it ended is answered
// with 500 or cut off, so that no client waits for ever. After the client left, all calls do nothing.
class Responder {
 public:
  virtual ~Responder() = default;

  virtual void send(HttpResponse response) = 0;
  // Sends the head at once; its body is the first chunk. `keep_alive` is written whenever the stream has been silent
  // for HttpLimits::keep_alive_ms.
  virtual void begin_stream(HttpResponse head, std::string keep_alive) = 0;
  virtual void write(std::string chunk) = 0;
  virtual void end() = 0;

  // Becomes true when nobody waits for the answer any more: the client left or is too slow, or the server stops.
  virtual std::shared_ptr<std::atomic<bool>> cancelled() const = 0;
  // Why cancelled() is true: the server stops, and the client is still there to be told.
  virtual bool server_stops() const { return false; }
};

// "Not Found" for 404; "Unknown" for a status that this server does not send.
std::string_view reason_phrase(int status);

// Status line and headers up to the empty line. `framing` is the whole Content-Length or Transfer-Encoding line, or
// empty.
std::string format_response_head(const HttpResponse& response, std::string_view framing, bool keep_alive);

}  // namespace ds4
