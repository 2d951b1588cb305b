#pragma once

// One client's connection: the part of the server that reads requests from a socket and writes answers to it. Includes
// Boost.Asio and Beast, so only http_connection.cc and http_server.cc include this. Everything of a connection happens
// on its strand; post() brings calls there. The state machine:
//   (kHandshake ->) kIdle -> kReading -> kResponding -> kIdle ..., and at the end kLingering -> kClosed.
// While no request is being read, one open read (watch) notices when the client leaves.

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <shared_mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// Asio's calls with an error argument then return nothing, as in newer versions.
#ifndef BOOST_ASIO_NO_DEPRECATED
#define BOOST_ASIO_NO_DEPRECATED
#endif
#include <boost/asio.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>

#include "server/http_server.h"
#include "server/http_transport.h"

namespace ds4::http {

namespace beast = boost::beast;

class Connection;

// What connections, listeners and the server share. A Responder may keep it alive longer than the server.
struct Shared {
  asio::io_context context;
  HttpServerOptions options;
  HttpServer::Handler handler;
  std::unique_ptr<asio::ssl::context> tls;  // null: none
  asio::thread_pool workers{2};             // for what would keep an I/O thread from its other connections
  std::atomic<bool> stopping = false;
  // Guards what follows: once it has stopped, nothing may be left to a context that nobody runs any more. It would keep
  // its connection alive, and the connection keeps the context.
  std::shared_mutex posting;
  bool stopped = false;

  std::mutex mutex;
  std::condition_variable all_closed;
  std::map<Connection*, std::weak_ptr<Connection>> connections;
};

// A timer that forgets its earlier settings, also when their expiry is already on its way.
class Deadline {
 public:
  explicit Deadline(const Executor& executor) : timer_(executor) {}

  template <class Function>
  void set(int timeout_ms, Function function) {
    const uint64_t setting = ++setting_;
    timer_.expires_after(std::chrono::milliseconds(timeout_ms));
    timer_.async_wait([this, setting, function = std::move(function)](error_code error) {
      if (!error && setting == setting_) function();
    });
  }

  void cancel() {
    ++setting_;
    timer_.cancel();
  }

 private:
  asio::steady_timer timer_;
  uint64_t setting_ = 0;
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<Shared> shared, Socket socket);

  void start();
  // Only a running answer goes on.
  void drain();
  // The server stops: what runs should end and say so.
  void cancel();
  bool server_stops() const { return server_stops_; }
  void close();

  // Calls a member function on the strand, unless the server has stopped.
  template <class Method, class... Args>
  void post(Method method, Args... args) {
    const std::shared_lock lock(shared_->posting);
    if (closed_ || shared_->stopped) return;
    asio::post(executor_, [self = shared_from_this(), method, ... args = std::move(args)]() mutable {
      ((*self).*method)(std::move(args)...);
    });
  }

  // Of the current answer; nothing happens once the connection has closed.
  void respond(HttpResponse response);
  void begin_stream(HttpResponse head, std::string keep_alive);
  void write_chunk(std::string_view bytes);
  void end_stream();
  void abandon();

 private:
  enum class State { kHandshake, kIdle, kReading, kResponding, kLingering, kClosed };
  using Parser = beast::http::request_parser<beast::http::string_body>;

  const HttpLimits& limits() const { return shared_->options.limits; }

  void begin(bool is_one_too_many);
  void next_request();
  void watch();
  void on_watch(error_code error, size_t n_bytes);
  void read_head();
  void on_head(error_code error);
  bool accept_head();
  bool admit();
  void read_body();
  void on_body(error_code error, size_t n_bytes);
  void set_read_deadline(int timeout_ms);
  void fail_reading(error_code error);
  void reject(int status, std::string_view reason);
  void reject_with(HttpResponse response);
  void dispatch();

  bool is_responding() const { return state_ == State::kResponding && !response_ended_; }
  void append(std::string_view bytes) { pending_ += bytes; }
  void append_head(HttpResponse& response, std::string_view framing);
  void append_chunk(std::string_view bytes);
  void wait_for_silence();
  void flush();
  void write_some();
  void on_written(error_code error, size_t n_bytes);
  void linger();

  const std::shared_ptr<Shared> shared_;
  const Executor executor_;
  Transport transport_;
  std::atomic<bool> closed_ = false;  // state_ for other threads
  std::atomic<bool> server_stops_ = false;
  State state_ = State::kIdle;

  beast::flat_buffer buffer_;  // what has been read, but not yet parsed
  std::optional<Parser> parser_;
  Deadline read_deadline_;
  bool watching_ = false;
  bool timed_out_ = false;
  bool peer_ended_ = false;  // seen once; Asio's reactor does not report it to a second read
  size_t body_progress_bytes_ = 0;

  std::shared_ptr<std::atomic<bool>> cancelled_ = std::make_shared<std::atomic<bool>>(false);
  bool keep_alive_ = true;
  bool head_only_ = false;
  bool chunked_ = true;
  bool streaming_ = false;
  bool response_ended_ = false;
  std::vector<HttpHeader> admission_headers_;  // of the current answer
  std::string keep_alive_text_;
  Deadline silence_;

  std::string pending_;  // to be written after writing_
  std::string writing_;
  size_t n_written_ = 0;
  Deadline write_deadline_;
};

}  // namespace ds4::http
