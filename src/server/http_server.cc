#include "server/http_server.h"

#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <mutex>
#include <thread>

#include "base/log.h"
#include "server/http_connection.h"

namespace ds4 {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using asio::local::stream_protocol;
using boost::system::error_code;
using http::Connection;
using http::Deadline;
using http::Executor;
using http::Shared;

constexpr int kAcceptRetryMs = 100;
constexpr int kFarewellMs = 1'000;

constexpr std::string_view kUnixPrefix = "unix:";

template <class Protocol>
struct Listener {
  explicit Listener(asio::io_context& context)
      : executor(asio::make_strand(context)), acceptor(executor), retry(executor) {}

  Executor executor;
  typename Protocol::acceptor acceptor;
  Deadline retry;
};

template <class Protocol>
void accept_next(const std::shared_ptr<Shared>& shared, const std::shared_ptr<Listener<Protocol>>& listener) {
  const Executor executor = asio::make_strand(shared->context);
  listener->acceptor.async_accept(executor, [shared, listener](error_code error, typename Protocol::socket socket) {
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

template <class Protocol>
void stop_listening(const std::shared_ptr<Listener<Protocol>>& listener) {
  asio::post(listener->executor, [listener] {
    error_code ignored;
    listener->acceptor.close(ignored);
    listener->retry.cancel();
  });
}

// The socket file of a server that ended without removing it. Nothing else is ever deleted.
bool is_stale_socket(asio::io_context& context, const std::string& path) {
  struct stat status{};
  if (lstat(path.c_str(), &status) != 0 || !S_ISSOCK(status.st_mode)) return false;
  stream_protocol::socket probe(context);
  error_code error;
  probe.connect(stream_protocol::endpoint(path), error);
  return error == asio::error::connection_refused;
}

error_code listen_on(asio::io_context& context, stream_protocol::acceptor& acceptor, const std::string& path) {
  error_code error;
  const stream_protocol::endpoint endpoint(path);
  if (is_stale_socket(context, path)) unlink(path.c_str());
  acceptor.open(endpoint.protocol(), error);
  if (error) return error;
  acceptor.bind(endpoint, error);
  // Nobody can connect before listen().
  if (!error && chmod(path.c_str(), 0600) != 0) error = {errno, boost::system::system_category()};
  if (!error) acceptor.listen(asio::socket_base::max_listen_connections, error);
  return error;
}

Result<std::unique_ptr<asio::ssl::context>> make_tls(const HttpServerOptions& options) {
  using asio::ssl::context;
  if (options.tls_cert_file.empty() && options.tls_key_file.empty()) return std::unique_ptr<context>();
  if (options.tls_cert_file.empty() || options.tls_key_file.empty()) {
    return make_error(ErrorCode::kInvalidArgument, "TLS needs both a certificate and its key");
  }
  auto tls = std::make_unique<context>(context::tls_server);
  error_code error;
  tls->set_options(context::default_workarounds | context::no_tlsv1 | context::no_tlsv1_1 | context::no_compression,
                   error);
  SSL_CTX_set_options(tls->native_handle(), SSL_OP_NO_RENEGOTIATION);
  tls->use_certificate_chain_file(options.tls_cert_file, error);
  if (error) return make_error(ErrorCode::kIo, "certificate {}: {}", options.tls_cert_file, error.message());
  tls->use_private_key_file(options.tls_key_file, context::pem, error);
  if (!error && SSL_CTX_check_private_key(tls->native_handle()) != 1) {
    return make_error(ErrorCode::kInvalidArgument, "the key {} does not belong to the certificate {}",
                      options.tls_key_file, options.tls_cert_file);
  }
  if (error) return make_error(ErrorCode::kIo, "key {}: {}", options.tls_key_file, error.message());
  return tls;
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

  ~Impl() {
    if (unix_listener_ != nullptr) unlink(unix_path_.c_str());
  }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  Result<void> listen() {
    shared_->tls = TRY(make_tls(shared_->options));
    const std::string& host = shared_->options.host;
    return host.starts_with(kUnixPrefix) ? listen_at(host.substr(kUnixPrefix.size())) : listen_on_addresses();
  }

  Result<void> listen_at(const std::string& path) {
    auto listener = std::make_shared<Listener<stream_protocol>>(shared_->context);
    if (path.empty() || path.size() >= sizeof(sockaddr_un::sun_path)) {
      return make_error(ErrorCode::kInvalidArgument, "--host unix:{}: expected a path of 1 to {} bytes", path,
                        sizeof(sockaddr_un::sun_path) - 1);
    }
    const error_code error = listen_on(shared_->context, listener->acceptor, path);
    if (error) return make_error(ErrorCode::kIo, "cannot listen on unix:{}: {}", path, error.message());
    unix_path_ = path;
    unix_listener_ = std::move(listener);
    return {};
  }

  Result<void> listen_on_addresses() {
    uint16_t port = shared_->options.port;
    const auto addresses = TRY(resolve(shared_->context, shared_->options.host));
    for (const asio::ip::address& address : addresses) {
      auto listener = std::make_shared<Listener<tcp>>(shared_->context);
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
    if (unix_listener_ != nullptr) accept_next(shared_, unix_listener_);
    for (int i = 0; i < shared_->options.n_threads; ++i)
      threads_.emplace_back([shared = shared_] { shared->context.run(); });
  }

  void stop(int grace_ms) {
    if (threads_.empty()) return;
    shared_->stopping = true;
    for (const auto& listener : listeners_) stop_listening(listener);
    if (unix_listener_ != nullptr) stop_listening(unix_listener_);
    for_each_connection(&Connection::drain);
    if (!wait_until_closed(grace_ms)) {
      for_each_connection(&Connection::cancel);
      wait_until_closed(kFarewellMs);
    }
    for_each_connection(&Connection::close);
    for (std::thread& thread : threads_) thread.join();
    threads_.clear();
    shared_->workers.join();
    run_the_last();
  }

  const std::vector<tcp::endpoint>& endpoints() const { return endpoints_; }
  const std::string& unix_path() const { return unix_path_; }

 private:
  // What responders posted after the threads had found nothing to do. Nothing can come after it.
  void run_the_last() {
    {
      const std::lock_guard lock(shared_->posting);
      shared_->stopped = true;
    }
    shared_->context.restart();
    shared_->context.poll();
  }

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
  std::vector<std::shared_ptr<Listener<tcp>>> listeners_;
  std::shared_ptr<Listener<stream_protocol>> unix_listener_;  // null: none
  std::string unix_path_;
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

uint16_t HttpServer::port() const { return impl_->endpoints().empty() ? 0 : impl_->endpoints().front().port(); }

std::vector<std::string> HttpServer::addresses() const {
  std::vector<std::string> addresses;
  for (const tcp::endpoint& endpoint : impl_->endpoints()) addresses.push_back(to_text(endpoint));
  if (!impl_->unix_path().empty()) addresses.push_back(std::string(kUnixPrefix) + impl_->unix_path());
  return addresses;
}

bool HttpServer::loopback_only() const {
  return std::all_of(impl_->endpoints().begin(), impl_->endpoints().end(),
                     [](const tcp::endpoint& endpoint) { return endpoint.address().is_loopback(); });
}

void HttpServer::stop(int grace_ms) { impl_->stop(grace_ms); }

}  // namespace ds4
