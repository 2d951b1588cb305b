#pragma once

// A connection's bytes: a socket of any kind, or TLS over one. A stream as Asio and Beast take them; with TLS the bytes
// are those inside. Reads and writes may run side by side, one of each, from one strand. The socket's own calls (close,
// shutdown of a direction) are of the connection under TLS, and end what is running.

#include <optional>
#include <utility>

#ifndef BOOST_ASIO_NO_DEPRECATED
#define BOOST_ASIO_NO_DEPRECATED
#endif
#include <boost/asio.hpp>
#include <boost/asio/ssl.hpp>

namespace ds4::http {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using Executor = asio::any_io_executor;
using Socket = asio::generic::stream_protocol::socket;

class Transport {
 public:
  using executor_type = Executor;

  // tls: null, or outlives the transport.
  Transport(Socket socket, asio::ssl::context* tls) : socket_(std::move(socket)) {
    if (tls != nullptr) tls_.emplace(socket_, *tls);
  }
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  executor_type get_executor() { return socket_.get_executor(); }
  Socket& socket() { return socket_; }
  bool has_tls() const { return tls_.has_value(); }

  template <class Buffers, class Function>
  void async_read_some(const Buffers& buffers, Function&& function) {
    if (tls_) {
      tls_->async_read_some(buffers, std::forward<Function>(function));
    } else {
      socket_.async_read_some(buffers, std::forward<Function>(function));
    }
  }

  template <class Buffers, class Function>
  void async_write_some(const Buffers& buffers, Function&& function) {
    if (tls_) {
      tls_->async_write_some(buffers, std::forward<Function>(function));
    } else {
      socket_.async_write_some(buffers, std::forward<Function>(function));
    }
  }

  // Precondition of both: has_tls().
  template <class Function>
  void async_handshake(Function&& function) {
    tls_->async_handshake(asio::ssl::stream_base::server, std::forward<Function>(function));
  }
  // Says to the other side that no more comes; calls back when that is out and the other side said the same, or failed.
  template <class Function>
  void async_say_end(Function&& function) {
    tls_->async_shutdown(std::forward<Function>(function));
  }

 private:
  Socket socket_;
  std::optional<asio::ssl::stream<Socket&>> tls_;
};

}  // namespace ds4::http
