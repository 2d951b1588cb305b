#include "server/http_connection.h"

#include "base/log.h"

namespace ds4::http {
namespace {

constexpr size_t kReadBytes = 4096;
// More than this of later requests is left in the socket while one is answered.
constexpr size_t kMaxPipelinedBytes = 64U << 10;
constexpr size_t kBodyProgressBytes = 16U << 10;
// Larger ones take long to parse and to turn into tokens.
constexpr size_t kMaxInlineBodyBytes = 64U << 10;
constexpr int kLingerMs = 2'000;

// May outlive the server: then its calls do nothing.
class Exchange final : public Responder {
 public:
  Exchange(std::shared_ptr<Connection> connection, std::shared_ptr<std::atomic<bool>> cancelled)
      : connection_(std::move(connection)), cancelled_(std::move(cancelled)) {}
  ~Exchange() override {
    if (!ended_) connection_->post(&Connection::abandon);
  }

  void send(HttpResponse response) override {
    ended_ = true;
    connection_->post(&Connection::respond, std::move(response));
  }
  void begin_stream(HttpResponse head, std::string keep_alive) override {
    connection_->post(&Connection::begin_stream, std::move(head), std::move(keep_alive));
  }
  void write(std::string chunk) override { connection_->post(&Connection::write_chunk, std::move(chunk)); }
  void end() override {
    ended_ = true;
    connection_->post(&Connection::end_stream);
  }
  std::shared_ptr<std::atomic<bool>> cancelled() const override { return cancelled_; }
  bool server_stops() const override { return connection_->server_stops(); }

 private:
  const std::shared_ptr<Connection> connection_;
  const std::shared_ptr<std::atomic<bool>> cancelled_;
  bool ended_ = false;
};

template <class Message>
HttpRequest head_of(const Message& message) {
  HttpRequest request;
  request.method = std::string(message.method_string());
  request.target = std::string(message.target());
  for (const auto& field : message) {
    request.headers.push_back({std::string(field.name_string()), std::string(field.value())});
  }
  return request;
}

}  // namespace

Connection::Connection(std::shared_ptr<Shared> shared, Socket socket)
    : shared_(std::move(shared)),
      executor_(socket.get_executor()),
      transport_(std::move(socket), shared_->tls.get()),
      read_deadline_(executor_),
      silence_(executor_),
      write_deadline_(executor_) {}

void Connection::start() {
  const std::lock_guard lock(shared_->mutex);
  if (shared_->stopping) return;
  error_code ignored;
  transport_.socket().set_option(tcp::no_delay(true), ignored);  // a Unix socket has none
  post(&Connection::begin, shared_->connections.size() >= limits().max_connections);
  shared_->connections.emplace(this, weak_from_this());
}

void Connection::begin(bool is_one_too_many) {
  const auto go_on = [this, is_one_too_many] {
    if (is_one_too_many) return reject(503, "too many connections");
    next_request();
  };
  if (!transport_.has_tls()) return go_on();
  state_ = State::kHandshake;
  read_deadline_.set(limits().header_timeout_ms, [self = shared_from_this()] { self->close(); });
  transport_.async_handshake([self = shared_from_this(), go_on](error_code error) {
    if (self->state_ != State::kHandshake) return;
    self->read_deadline_.cancel();
    if (error) return self->close();  // it speaks another language
    go_on();
  });
}

void Connection::drain() {
  keep_alive_ = false;
  if (state_ == State::kHandshake || state_ == State::kIdle || state_ == State::kReading) close();
}

void Connection::cancel() {
  if (!*cancelled_) server_stops_ = true;
  cancelled_->store(true);
}

void Connection::close() {
  if (state_ == State::kClosed) return;
  state_ = State::kClosed;
  closed_ = true;
  cancelled_->store(true);
  read_deadline_.cancel();
  write_deadline_.cancel();
  silence_.cancel();
  error_code ignored;
  transport_.socket().close(ignored);
  const std::lock_guard lock(shared_->mutex);
  shared_->connections.erase(this);
  if (shared_->connections.empty()) shared_->all_closed.notify_all();
}

// Reading.

void Connection::next_request() {
  state_ = State::kIdle;
  if (peer_ended_ && buffer_.size() == 0) return close();
  if (buffer_.size() > 0) {
    // The open read must end before the parser may use the socket; it then goes on in on_watch().
    error_code ignored;
    if (watching_) {
      transport_.socket().cancel(ignored);
    } else {
      read_head();
    }
    return;
  }
  read_deadline_.set(limits().idle_timeout_ms, [self = shared_from_this()] { self->close(); });
  if (!watching_) watch();
}

void Connection::watch() {
  watching_ = true;
  transport_.async_read_some(
      buffer_.prepare(kReadBytes),
      [self = shared_from_this()](error_code error, size_t n_bytes) { self->on_watch(error, n_bytes); });
}

void Connection::on_watch(error_code error, size_t n_bytes) {
  watching_ = false;
  buffer_.commit(n_bytes);
  switch (state_) {
    case State::kHandshake:
    case State::kReading:
    case State::kClosed: return;
    case State::kIdle:
      if (buffer_.size() > 0) return read_head();
      return close();
    case State::kResponding:
      // The end of the client's side means that it left, but a short answer may still reach one that only stopped
      // sending.
      if (error == asio::error::eof) {
        peer_ended_ = true;
        return cancelled_->store(true);
      }
      if (error) return close();
      if (buffer_.size() < kMaxPipelinedBytes) watch();
      return;
    case State::kLingering:
      if (error) return close();
      buffer_.clear();
      return watch();
  }
}

void Connection::read_head() {
  state_ = State::kReading;
  timed_out_ = false;
  body_progress_bytes_ = 0;
  admission_headers_.clear();
  parser_.emplace();
  parser_->header_limit(static_cast<uint32_t>(limits().max_header_bytes));
  parser_->body_limit(limits().max_body_bytes);
  set_read_deadline(limits().header_timeout_ms);
  beast::http::async_read_header(transport_, buffer_, *parser_,
                                 [self = shared_from_this()](error_code error, size_t) { self->on_head(error); });
}

// Ends the read by closing this direction: cancelling it could miss the moment between two of its steps.
void Connection::set_read_deadline(int timeout_ms) {
  read_deadline_.set(timeout_ms, [self = shared_from_this()] {
    if (self->peer_ended_) return self->close();
    self->timed_out_ = true;
    error_code ignored;
    self->transport_.socket().shutdown(Socket::shutdown_receive, ignored);
  });
}

void Connection::on_head(error_code error) {
  if (state_ != State::kReading) return;
  if (error || timed_out_) return fail_reading(error);
  if (!accept_head()) return;
  if (parser_->is_done()) return dispatch();
  set_read_deadline(limits().body_timeout_ms);
  read_body();
}

// Refuses what can be refused before the body has come.
bool Connection::accept_head() {
  const auto& head = parser_->get();
  const auto only = [&](beast::http::field field, std::string_view accepted) {
    const auto value = head[field];
    return value.empty() || beast::iequals(value, {accepted.data(), accepted.size()});
  };
  if (head.version() >= 11 && head[beast::http::field::host].empty()) {
    reject(400, "the Host header is missing");
  } else if (!only(beast::http::field::transfer_encoding, "chunked")) {
    reject(501, "the only supported Transfer-Encoding is chunked");
  } else if (!only(beast::http::field::content_encoding, "identity")) {
    reject(415, "compressed request bodies are not supported");
  } else if (!only(beast::http::field::expect, "100-continue")) {
    reject(417, "the only supported Expect value is 100-continue");
  } else if (admit()) {
    if (!head[beast::http::field::expect].empty() && !parser_->is_done()) append("HTTP/1.1 100 Continue\r\n\r\n");
    flush();
    return true;
  }
  return false;
}

bool Connection::admit() {
  if (!shared_->options.admit) return true;
  HttpAdmission admission = shared_->options.admit(head_of(parser_->get()));
  admission_headers_ = std::move(admission.headers);
  if (!admission.refusal) return true;
  reject_with(std::move(*admission.refusal));
  return false;
}

void Connection::read_body() {
  beast::http::async_read_some(
      transport_, buffer_, *parser_,
      [self = shared_from_this()](error_code error, size_t n_bytes) { self->on_body(error, n_bytes); });
}

void Connection::on_body(error_code error, size_t n_bytes) {
  if (state_ != State::kReading) return;
  if (error || timed_out_) return fail_reading(error);
  if (parser_->is_done()) return dispatch();
  body_progress_bytes_ += n_bytes;
  if (body_progress_bytes_ >= kBodyProgressBytes) {
    body_progress_bytes_ = 0;
    set_read_deadline(limits().body_timeout_ms);
  }
  read_body();
}

void Connection::fail_reading(error_code error) {
  if (timed_out_) return reject(408, "the request did not arrive in time");
  if (error == beast::http::error::header_limit) {
    return reject(431, fmt::format("the request head is larger than {} bytes", limits().max_header_bytes));
  }
  if (error == beast::http::error::body_limit) {
    return reject(413, fmt::format("the request body is larger than {} bytes", limits().max_body_bytes));
  }
  if (error == beast::http::error::bad_version) return reject(505, "only HTTP/1.0 and HTTP/1.1 are supported");
  const bool malformed = error.category() == beast::http::make_error_code(beast::http::error::bad_method).category();
  if (!malformed || error == beast::http::error::end_of_stream || error == beast::http::error::partial_message)
    return close();
  reject(400, "malformed HTTP request: " + error.message());
}

void Connection::reject(int status, std::string_view reason) {
  reject_with(shared_->options.error_response(status, reason));
}

void Connection::reject_with(HttpResponse response) {
  state_ = State::kResponding;
  keep_alive_ = false;
  head_only_ = parser_ && parser_->is_header_done() && parser_->get().method() == beast::http::verb::head;
  response_ended_ = false;
  read_deadline_.cancel();
  respond(std::move(response));
}

void Connection::dispatch() {
  read_deadline_.cancel();
  state_ = State::kResponding;
  auto& message = parser_->get();
  HttpRequest request = head_of(message);
  request.body = std::move(message.body());
  keep_alive_ = message.keep_alive() && !shared_->stopping;
  head_only_ = message.method() == beast::http::verb::head;
  chunked_ = message.version() >= 11;
  streaming_ = false;
  response_ended_ = false;
  parser_.reset();
  cancelled_ = std::make_shared<std::atomic<bool>>(false);
  if (!watching_ && !peer_ended_ && buffer_.size() < kMaxPipelinedBytes) watch();
  auto exchange = std::make_shared<Exchange>(shared_from_this(), cancelled_);
  if (request.body.size() <= kMaxInlineBodyBytes) return shared_->handler(std::move(request), std::move(exchange));
  asio::post(shared_->workers,
             [shared = shared_, request = std::move(request), exchange = std::move(exchange)]() mutable {
               shared->handler(std::move(request), std::move(exchange));
             });
}

// Writing.

void Connection::respond(HttpResponse response) {
  if (!is_responding()) return;
  const bool has_body = response.status != 204 && response.status != 304;
  const std::string length = has_body ? fmt::format("Content-Length: {}\r\n", response.body.size()) : "";
  append_head(response, length);
  if (has_body && !head_only_) append(response.body);
  response_ended_ = true;
  flush();
}

void Connection::begin_stream(HttpResponse head, std::string keep_alive) {
  if (!is_responding()) return;
  keep_alive_ = keep_alive_ && chunked_;
  streaming_ = true;
  append_head(head, chunked_ ? "Transfer-Encoding: chunked\r\n" : "");
  keep_alive_text_ = std::move(keep_alive);
  write_chunk(head.body);
}

void Connection::write_chunk(std::string_view bytes) {
  if (!is_responding()) return;
  const size_t queued_bytes = pending_.size() + writing_.size() - n_written_;
  if (queued_bytes + bytes.size() > limits().max_queued_bytes) {
    log_warn("client too slow, stream cut off", {{"queued_bytes", queued_bytes}});
    return close();
  }
  append_chunk(bytes);
  flush();
  wait_for_silence();
}

void Connection::end_stream() {
  if (!is_responding()) return;
  if (chunked_) append("0\r\n\r\n");
  response_ended_ = true;
  flush();
}

void Connection::abandon() {
  if (!is_responding()) return;
  if (streaming_) return close();
  respond(shared_->options.error_response(500, "the request was dropped"));
}

void Connection::append_head(HttpResponse& response, std::string_view framing) {
  const std::vector<HttpHeader>& common = shared_->options.headers;
  response.headers.insert(response.headers.end(), common.begin(), common.end());
  response.headers.insert(response.headers.end(), admission_headers_.begin(), admission_headers_.end());
  append(format_response_head(response, framing, keep_alive_));
}

void Connection::append_chunk(std::string_view bytes) {
  if (bytes.empty()) return;  // an empty chunk would end the stream
  if (chunked_) append(fmt::format("{:x}\r\n", bytes.size()));
  append(bytes);
  if (chunked_) append("\r\n");
}

void Connection::wait_for_silence() {
  silence_.set(limits().keep_alive_ms, [self = shared_from_this()] {
    if (!self->is_responding()) return;
    // Output that waits for the client must not grow.
    if (self->pending_.empty() && self->writing_.empty()) self->append_chunk(self->keep_alive_text_);
    self->flush();
    self->wait_for_silence();
  });
}

void Connection::flush() {
  if (state_ == State::kClosed || !writing_.empty()) return;
  if (pending_.empty()) {
    if (state_ != State::kResponding || !response_ended_) return;
    silence_.cancel();
    if (keep_alive_) return next_request();
    return linger();
  }
  writing_.swap(pending_);
  n_written_ = 0;
  write_some();
}

void Connection::write_some() {
  write_deadline_.set(limits().write_timeout_ms, [self = shared_from_this()] { self->close(); });
  transport_.async_write_some(
      asio::buffer(writing_) + n_written_,
      [self = shared_from_this()](error_code error, size_t n_bytes) { self->on_written(error, n_bytes); });
}

void Connection::on_written(error_code error, size_t n_bytes) {
  // A write may have succeeded before the connection closed; one more would set its timer again.
  if (error || state_ == State::kClosed) return close();
  n_written_ += n_bytes;
  if (n_written_ < writing_.size()) return write_some();
  write_deadline_.cancel();
  writing_.clear();
  n_written_ = 0;
  flush();
}

// Closing with unread bytes would reset the connection and could destroy the answer on its way.
void Connection::linger() {
  if (peer_ended_) return close();
  state_ = State::kLingering;
  const auto end_sending = [self = shared_from_this()] {
    error_code ignored;
    self->transport_.socket().shutdown(Socket::shutdown_send, ignored);
  };
  if (transport_.has_tls()) {
    transport_.async_say_end([end_sending](error_code) { end_sending(); });
  } else {
    end_sending();
  }
  read_deadline_.set(kLingerMs, [self = shared_from_this()] { self->close(); });
  buffer_.clear();
  if (!watching_) watch();
}

}  // namespace ds4::http
