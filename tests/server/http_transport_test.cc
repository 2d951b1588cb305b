#include "server/http_transport.h"

#include <stdlib.h>
#include <sys/stat.h>

#include <condition_variable>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio.hpp>
#include <boost/asio/ssl.hpp>

#include "server/http_client.h"
#include "server/http_server.h"
#include "server/tls_files.h"

namespace ds4 {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;
using testing::EndsWith;
using testing::HasSubstr;
using testing::StartsWith;

Result<std::unique_ptr<HttpServer>> start(HttpServerOptions options) {
  options.n_threads = 2;
  return HttpServer::start(std::move(options),
                           [](const HttpRequest& request, const std::shared_ptr<Responder>& responder) {
                             if (request.path() != "/stream") {
                               return responder->send({.body = request.method + " " + request.body});
                             }
                             responder->begin_stream({.body = "a"}, "");
                             responder->write("b");
                             responder->end();
                           });
}

class TlsTest : public testing::Test {
 protected:
  void SetUp() override { start_with({}); }

  void start_with(HttpLimits limits) {
    server_.reset();
    auto server = start({.host = "127.0.0.1",
                         .port = 0,
                         .limits = limits,
                         .tls_cert_file = files_.cert(),
                         .tls_key_file = files_.key()});
    ASSERT_TRUE(server.ok()) << server.error().message;
    server_ = server.take_value();
  }

  // Everything that the server says to these bytes until it ends the connection; `clean`: it said so before.
  std::string ask(std::string_view bytes, bool* clean = nullptr) {
    asio::io_context context;
    asio::ssl::context tls(asio::ssl::context::tls_client);
    tls.load_verify_file(files_.cert());
    tls.set_verify_mode(asio::ssl::verify_peer);
    asio::ssl::stream<asio::ip::tcp::socket> stream(context, tls);
    error_code error;
    stream.lowest_layer().connect({asio::ip::address_v4::loopback(), server_->port()}, error);
    EXPECT_FALSE(error) << error.message();
    stream.handshake(asio::ssl::stream_base::client, error);
    EXPECT_FALSE(error) << error.message();
    asio::write(stream, asio::buffer(bytes), error);
    std::string answer;
    asio::read(stream, asio::dynamic_buffer(answer), error);
    if (clean != nullptr) *clean = error == asio::error::eof;
    return answer;
  }

  test::TlsFiles files_;
  std::unique_ptr<HttpServer> server_;
};

TEST_F(TlsTest, AnswersAndSaysTheEnd) {
  bool clean = false;
  const std::string answer =
      ask("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 4\r\n\r\nbody", &clean);
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, EndsWith("POST body"));
  EXPECT_TRUE(clean);
}

TEST_F(TlsTest, StreamsAndPipelines) {
  const std::string answer =
      ask("GET /stream HTTP/1.1\r\nHost: x\r\n\r\nGET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const std::string body = "1\r\na\r\n1\r\nb\r\n0\r\n\r\n";
  EXPECT_THAT(answer, HasSubstr(body + "HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(answer, EndsWith(body));
}

TEST_F(TlsTest, CarriesLargeBodies) {
  const std::string body(3'000'000, 'x');
  const std::string answer = ask(fmt::format(
      "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{}", body.size(), body));
  EXPECT_THAT(answer, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_GT(answer.size(), body.size());
}

TEST_F(TlsTest, ClosesOnAClientThatSpeaksPlainHttp) {
  HttpClient client(server_->port());
  client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(client.read_response().status, 0);
  EXPECT_THAT(ask("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), EndsWith("GET "));
}

TEST_F(TlsTest, GivesUpOnASlowHandshake) {
  start_with({.header_timeout_ms = 50});
  HttpClient client(server_->port());
  EXPECT_TRUE(client.at_end());
}

TEST_F(TlsTest, StopsWithOpenConnections) {
  HttpClient silent(server_->port());
  server_->stop(0);
  EXPECT_TRUE(silent.is_closed());
}

TEST_F(TlsTest, RefusesFilesThatAreNoPair) {
  const test::TlsFiles other;
  const auto mixed = start({.port = 0, .tls_cert_file = files_.cert(), .tls_key_file = other.key()});
  ASSERT_FALSE(mixed.ok());
  const auto missing = start({.port = 0, .tls_cert_file = "/nonexistent", .tls_key_file = files_.key()});
  ASSERT_FALSE(missing.ok());
  EXPECT_THAT(missing.error().message, HasSubstr("/nonexistent"));
  EXPECT_FALSE(start({.port = 0, .tls_cert_file = files_.cert()}).ok());
}

class UnixSocketTest : public testing::Test {
 protected:
  UnixSocketTest() {
    std::string name = (std::filesystem::temp_directory_path() / "ds4_unix_XXXXXX").string();
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    directory_ = name;
    path_ = directory_ + "/socket";
  }
  ~UnixSocketTest() override { std::filesystem::remove_all(directory_); }

  HttpServerOptions options() const { return {.host = "unix:" + path_}; }

  std::string ask() const {
    asio::io_context context;
    asio::local::stream_protocol::socket socket(context);
    error_code error;
    socket.connect(asio::local::stream_protocol::endpoint(path_), error);
    if (error) return error.message();
    asio::write(socket, asio::buffer(std::string_view("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")),
                error);
    std::string answer;
    asio::read(socket, asio::dynamic_buffer(answer), error);
    return answer;
  }

  std::string directory_;
  std::string path_;
};

TEST_F(UnixSocketTest, IsForItsOwnerAndGoesWithTheServer) {
  auto server = start(options());
  ASSERT_TRUE(server.ok()) << server.error().message;
  EXPECT_THAT(ask(), EndsWith("GET "));
  struct stat status{};
  ASSERT_EQ(stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777U, 0600U);
  EXPECT_TRUE(server.value()->loopback_only());
  EXPECT_THAT(server.value()->addresses(), testing::ElementsAre("unix:" + path_));
  server = make_error(ErrorCode::kBusy, "gone");
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(UnixSocketTest, ReplacesAFileThatNobodyAnswersAt) {
  {
    asio::io_context context;
    asio::local::stream_protocol::acceptor left(context, asio::local::stream_protocol::endpoint(path_));
  }
  ASSERT_TRUE(std::filesystem::exists(path_));
  const auto server = start(options());
  ASSERT_TRUE(server.ok()) << server.error().message;
  EXPECT_THAT(ask(), EndsWith("GET "));
}

TEST_F(UnixSocketTest, LeavesALivingServerAndOtherFilesAlone) {
  const auto first = start(options());
  ASSERT_TRUE(first.ok());
  EXPECT_FALSE(start(options()).ok());
  EXPECT_THAT(ask(), EndsWith("GET "));

  const std::string file = directory_ + "/file";
  std::ofstream(file) << "mine";
  EXPECT_FALSE(start({.host = "unix:" + file}).ok());
  EXPECT_EQ(std::filesystem::file_size(file), 4U);
  EXPECT_FALSE(start({.host = "unix:"}).ok());
  EXPECT_FALSE(start({.host = "unix:" + std::string(200, 'x')}).ok());
}

}  // namespace
}  // namespace ds4
