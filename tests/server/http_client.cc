#include "server/http_client.h"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <string>

#include <fmt/format.h>

#include "base/check.h"

namespace ds4 {
namespace {

bool same_name(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return std::tolower(x) == std::tolower(y); });
}

}  // namespace

std::string ClientResponse::header(std::string_view name) const {
  for (const auto& [key, value] : headers) {
    if (same_name(key, name)) return value;
  }
  return {};
}

HttpClient::HttpClient(uint16_t port, const char* host) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV;
  addrinfo* address = nullptr;
  CHECK(getaddrinfo(host, std::to_string(port).c_str(), &hints, &address) == 0, "{}", host);
  socket_ = socket(address->ai_family, SOCK_STREAM, 0);
  const timeval patience{.tv_sec = 5, .tv_usec = 0};
  setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  const int failed = connect(socket_, address->ai_addr, address->ai_addrlen);
  freeaddrinfo(address);
  CHECK(failed == 0, "cannot connect to {}:{}", host, port);
}

HttpClient::~HttpClient() { close(); }

void HttpClient::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(socket_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return;  // the server closed; what it said first is still to be read
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

void HttpClient::finish_sending() { shutdown(socket_, SHUT_WR); }

void HttpClient::close() {
  if (socket_ >= 0) ::close(socket_);
  socket_ = -1;
}

bool HttpClient::receive() {
  char bytes[4096];
  const ssize_t n = recv(socket_, bytes, sizeof bytes, 0);
  if (n > 0) received_.append(bytes, static_cast<size_t>(n));
  return n > 0;
}

std::optional<std::string> HttpClient::take_until(std::string_view end) {
  while (received_.find(end) == std::string::npos) {
    if (!receive()) return std::nullopt;
  }
  const size_t at = received_.find(end);
  std::string text = received_.substr(0, at);
  received_.erase(0, at + end.size());
  return text;
}

ClientResponse HttpClient::read_head() {
  ClientResponse response;
  const std::optional<std::string> head = take_until("\r\n\r\n");
  if (!head) return response;
  response.status = std::atoi(head->c_str() + head->find(' '));
  for (size_t at = head->find("\r\n"); at != std::string::npos;) {
    const size_t next = head->find("\r\n", at + 2);
    const std::string line = head->substr(at + 2, next == std::string::npos ? next : next - at - 2);
    const size_t colon = line.find(": ");
    response.headers.emplace_back(line.substr(0, colon), line.substr(colon + 2));
    at = next;
  }
  return response;
}

ClientResponse HttpClient::read_response(bool has_body) {
  ClientResponse response = read_head();
  if (!has_body || response.status == 204 || response.status < 200) return response;
  if (response.header("Transfer-Encoding") == "chunked") {
    while (true) {
      const std::optional<std::string> chunk = read_chunk();
      if (!chunk || chunk->empty()) return response;
      response.body += *chunk;
    }
  }
  const std::string length = response.header("Content-Length");
  const size_t n_bytes = length.empty() ? std::string::npos : std::stoul(length);
  while (received_.size() < n_bytes && receive()) {
  }
  response.body = received_.substr(0, n_bytes);
  received_.erase(0, response.body.size());
  return response;
}

std::optional<std::string> HttpClient::read_chunk() {
  const std::optional<std::string> size_line = take_until("\r\n");
  if (!size_line) return std::nullopt;
  const size_t n_bytes = std::stoul(*size_line, nullptr, 16);
  while (received_.size() < n_bytes + 2) {
    if (!receive()) return std::nullopt;
  }
  std::string chunk = received_.substr(0, n_bytes);
  received_.erase(0, n_bytes + 2);
  return chunk;
}

std::string HttpClient::read_event() {
  while (events_.find("\n\n") == std::string::npos) {
    const std::optional<std::string> chunk = read_chunk();
    if (!chunk || chunk->empty()) return {};
    events_ += *chunk;
  }
  const size_t at = events_.find("\n\n");
  std::string event = events_.substr(0, at);
  events_.erase(0, at + 2);
  return event;
}

bool HttpClient::at_end() {
  char byte = 0;
  return received_.empty() && recv(socket_, &byte, 1, 0) == 0;
}

bool HttpClient::is_closed() {
  char byte = 0;
  const auto n = recv(socket_, &byte, 1, 0);
  return n == 0 || (n < 0 && errno == ECONNRESET);
}

ClientResponse HttpClient::get(std::string_view path) {
  send(fmt::format("GET {} HTTP/1.1\r\nHost: test\r\n\r\n", path));
  return read_response();
}

ClientResponse HttpClient::post(std::string_view path, std::string_view body) {
  send(post_request(path, body));
  return read_response();
}

std::string post_request(std::string_view path, std::string_view body) {
  return fmt::format("POST {} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{}",
                     path, body.size(), body);
}

}  // namespace ds4
