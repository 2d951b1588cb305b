#include "server/http_server.h"

#include <algorithm>
#include <thread>

#include "base/log.h"
#include "server/http_connection.h"

namespace ds4 {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using boost::system::error_code;
using http::Connection;
using http::Deadline;
using http::Executor;
using http::Shared;

constexpr int kAcceptRetryMs = 100;
constexpr int kFarewellMs = 1'000;

struct Listener {
  explicit Listener(asio::io_context& context)
      : executor(asio::make_strand(context)), acceptor(executor), retry(executor) {}

  Executor executor;
  tcp::acceptor acceptor;
  Deadline retry;
};

void accept_next(const std::shared_ptr<Shared>& shared, const std::shared_ptr<Listener>& listener) {
  const Executor executor = asio::make_strand(shared->context);
  listener->acceptor.async_accept(executor, [shared, listener](error_code error, tcp::socket socket) {
    if (shared->stopping || error == asio::error::operation_aborted) return;
    if (error) {  // out of descriptors, most likely
      log_warn("cannot accept a connection", {{"error", error.message()}});
      return listener->retry.set(kAcceptRetryMs, [shared, listener] { accept_next(shared, listener); });
    }
    std::make_shared<Connection>(shared, std::move(socket))->start();
    accept_next(shared, listener);
  });
}

Result<std::vector<asio::ip::address>> resolve(asio::io_context& context, std::string host) {
  using asio::ip::address;
  if (host == "localhost")
    return std::vector<address>{asio::ip::address_v4::loopback(), asio::ip::address_v6::loopback()};
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') host = host.substr(1, host.size() - 2);
  error_code error;
  std::vector<address> addresses{asio::ip::make_address(host, error)};
  if (!error) return addresses;
  addresses.clear();
  for (const auto& entry : tcp::resolver(context).resolve(host, "", error))
    addresses.push_back(entry.endpoint().address());
  if (!error) return addresses;
  return make_error(ErrorCode::kInvalidArgument, "--host {}: expected an address or a known name ({})", host,
                    error.message());
}

error_code listen_on(tcp::acceptor& acceptor, const tcp::endpoint& endpoint) {
  error_code error;
  acceptor.open(endpoint.protocol(), error);
  if (error) return error;
  acceptor.set_option(tcp::acceptor::reuse_address(true), error);
  // The unspecified IPv6 address stands for IPv4 too; any other one for itself.
  if (endpoint.address().is_v6()) {
    acceptor.set_option(asio::ip::v6_only(!endpoint.address().is_unspecified()), error);
  }
  acceptor.bind(endpoint, error);
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  return error;
}

std::string to_text(const tcp::endpoint& endpoint) {
  const std::string address = endpoint.address().to_string();
  return fmt::format("{}:{}", endpoint.address().is_v6() ? "[" + address + "]" : address, endpoint.port());
}

HttpResponse plain_error(int status, std::string_view reason) {
  return {.status = status, .content_type = "text/plain; charset=utf-8", .body = std::string(reason) + "\n"};
}

}  // namespace

class HttpServer::Impl {
 public:
  Impl(HttpServerOptions options, Handler handler) {
    shared_->options = std::move(options);
    shared_->handler = std::move(handler);
    if (!shared_->options.error_response) shared_->options.error_response = plain_error;
  }

  Result<void> listen() {
    uint16_t port = shared_->options.port;
    const auto addresses = TRY(resolve(shared_->context, shared_->options.host));
    for (const asio::ip::address& address : addresses) {
      auto listener = std::make_shared<Listener>(shared_->context);
      const error_code error = listen_on(listener->acceptor, {address, port});
      // A machine may lack IPv6; one of several addresses is enough then.
      const bool absent =
          error == asio::error::address_family_not_supported || error == boost::system::errc::address_not_available;
      if (absent && (address != addresses.back() || !listeners_.empty())) continue;
      if (error) {
        const char* advice = error == asio::error::address_in_use ? "; --port chooses another" : "";
        return make_error(ErrorCode::kIo, "cannot listen on {}: {}{}", to_text({address, port}), error.message(),
                          advice);
      }
      port = listener->acceptor.local_endpoint().port();
      endpoints_.push_back(listener->acceptor.local_endpoint());
      listeners_.push_back(std::move(listener));
    }
    return {};
  }

  void run() {
    for (const auto& listener : listeners_) accept_next(shared_, listener);
    for (int i = 0; i < shared_->options.n_threads; ++i)
      threads_.emplace_back([shared = shared_] { shared->context.run(); });
  }

  void stop(int grace_ms) {
    if (threads_.empty()) return;
    shared_->stopping = true;
    for (const auto& listener : listeners_) {
      asio::post(listener->executor, [listener] {
        error_code ignored;
        listener->acceptor.close(ignored);
        listener->retry.cancel();
      });
    }
    for_each_connection(&Connection::drain);
    if (!wait_until_closed(grace_ms)) {
      for_each_connection(&Connection::cancel);
      wait_until_closed(kFarewellMs);
    }
    for_each_connection(&Connection::close);
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
  }

  const std::vector<tcp::endpoint>& endpoints() const { return endpoints_; }

 private:
  void for_each_connection(void (Connection::*method)()) {
    const std::lock_guard lock(shared_->mutex);
    for (const auto& [key, weak] : shared_->connections) {
      if (const auto connection = weak.lock()) connection->post(method);
    }
  }

  bool wait_until_closed(int timeout_ms) {
    std::unique_lock lock(shared_->mutex);
    return shared_->all_closed.wait_for(lock, std::chrono::milliseconds(timeout_ms),
                                        [this] { return shared_->connections.empty(); });
  }

  const std::shared_ptr<Shared> shared_ = std::make_shared<Shared>();
  std::vector<std::shared_ptr<Listener>> listeners_;
  std::vector<tcp::endpoint> endpoints_;
  std::vector<std::thread> threads_;
};

Result<std::unique_ptr<HttpServer>> HttpServer::start(HttpServerOptions options, Handler handler) {
  auto impl = std::make_shared<Impl>(std::move(options), std::move(handler));
  TRY(impl->listen());
  impl->run();
  return std::unique_ptr<HttpServer>(new HttpServer(std::move(impl)));
}

HttpServer::HttpServer(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

HttpServer::~HttpServer() { stop(0); }

uint16_t HttpServer::port() const { return impl_->endpoints().front().port(); }

std::vector<std::string> HttpServer::addresses() const {
  std::vector<std::string> addresses;
  for (const tcp::endpoint& endpoint : impl_->endpoints()) addresses.push_back(to_text(endpoint));
  return addresses;
}

bool HttpServer::loopback_only() const {
  return std::all_of(impl_->endpoints().begin(), impl_->endpoints().end(),
                     [](const tcp::endpoint& endpoint) { return endpoint.address().is_loopback(); });
}

void HttpServer::stop(int grace_ms) { impl_->stop(grace_ms); }

}  // namespace ds4
