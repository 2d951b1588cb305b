#include "server/http_server.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <thread>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/http_client.h"

namespace ds4 {
namespace {

using testing::HasSubstr;

// Answers "METHOD TARGET BODY" to everything but /later, whose responder the test takes over.
class HttpServerTest : public testing::Test {
 protected:
  void start(HttpLimits limits = {}, const std::string& host = "127.0.0.1") {
    HttpServerOptions options{.host = host, .port = 0, .n_threads = 2, .limits = limits};
    auto server =
        HttpServer::start(std::move(options), [this](const HttpRequest& request, std::shared_ptr<Responder> responder) {
          if (request.path() == "/later") {
            const std::lock_guard lock(mutex_);
            later_ = std::move(responder);
            changed_.notify_all();
            return;
          }
          if (request.path() == "/dropped") return;
          responder->send(
              {.content_type = "text/plain", .body = request.method + " " + request.target + " " + request.body});
        });
    ASSERT_TRUE(server.ok()) << server.error().message;
    server_ = server.take_value();
  }

  uint16_t port() const { return server_->port(); }

  std::shared_ptr<Responder> wait_for_later() {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, std::chrono::seconds(5), [this] { return later_ != nullptr; });
    return std::move(later_);
  }

  static bool becomes_true(const std::atomic<bool>& flag) {
    for (int i = 0; i < 500 && !flag; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return flag;
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<Responder> later_;
  std::unique_ptr<HttpServer> server_;
};

// An engine goes on writing for a while after the server is gone.
TEST_F(HttpServerTest, RespondersMayOutliveTheServer) {
  start();
  HttpClient client(port());
  client.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
  std::shared_ptr<Responder> responder = wait_for_later();
  ASSERT_NE(responder, nullptr);
  const auto flag = responder->cancelled();
  responder->begin_stream({}, ": silence\n\n");
  std::atomic<bool> gone = false;
  std::thread writer([&] {
    while (!gone) responder->write("x");
    responder->write("x");
    responder->end();
  });
  server_.reset();
  gone = true;
  writer.join();
  EXPECT_TRUE(*flag);
  responder.reset();
  // Nothing that waits to be run holds the connection, which has the flag, too.
  EXPECT_EQ(flag.use_count(), 1);
}

TEST_F(HttpServerTest, AnswersRequestsOverOneConnection) {
  start();
  HttpClient client(port());
  EXPECT_EQ(client.get("/a?b=c").body, "GET /a?b=c ");
  const ClientResponse second = client.post("/d", "body");
  EXPECT_EQ(second.body, "POST /d body");
  EXPECT_EQ(second.header("Connection"), "keep-alive");
}

TEST_F(HttpServerTest, ClosesWhenTheClientAsks) {
  start();
  HttpClient client(port());
  client.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  EXPECT_EQ(client.read_response().header("Connection"), "close");
  EXPECT_TRUE(client.at_end());
}

TEST_F(HttpServerTest, AnswersHttp10AndCloses) {
  start();
  HttpClient client(port());
  client.send("GET /old HTTP/1.0\r\n\r\n");
  EXPECT_EQ(client.read_response().body, "GET /old ");
  EXPECT_TRUE(client.at_end());
}

TEST_F(HttpServerTest, ListensOnBothLoopbackAddresses) {
  start({}, "localhost");
  EXPECT_TRUE(server_->loopback_only());
  HttpClient client(port(), "127.0.0.1");
  EXPECT_EQ(client.get("/v4").status, 200);
  if (server_->addresses().size() < 2) GTEST_SKIP() << "no IPv6 here";
  HttpClient client6(port(), "::1");
  EXPECT_EQ(client6.get("/v6").status, 200);
}

TEST_F(HttpServerTest, TellsWhenItIsNotOnlyLoopback) {
  start({}, "0.0.0.0");
  EXPECT_FALSE(server_->loopback_only());
}

TEST_F(HttpServerTest, RefusesAPortInUseAndAnUnknownHost) {
  start();
  const auto handler = [](const HttpRequest&, const std::shared_ptr<Responder>&) {};
  const auto second = HttpServer::start({.host = "127.0.0.1", .port = port()}, handler);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().code, ErrorCode::kIo);
  EXPECT_THAT(second.error().message, HasSubstr(fmt::format("127.0.0.1:{}", port())));
  const auto unknown = HttpServer::start({.host = "no such host", .port = 0}, handler);
  ASSERT_FALSE(unknown.ok());
  EXPECT_EQ(unknown.error().code, ErrorCode::kInvalidArgument);
}

TEST_F(HttpServerTest, AnswersPipelinedRequestsInOrder) {
  start();
  HttpClient client(port());
  client.send("GET /1 HTTP/1.1\r\nHost: x\r\n\r\n" + post_request("/2", "two") + "GET /3 HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(client.read_response().body, "GET /1 ");
  EXPECT_EQ(client.read_response().body, "POST /2 two");
  EXPECT_EQ(client.read_response().body, "GET /3 ");
  EXPECT_EQ(client.get("/4").body, "GET /4 ");
}

TEST_F(HttpServerTest, KeepsPipelinedRequestsThatArriveWhileOneIsAnswered) {
  start();
  HttpClient client(port());
  client.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto responder = wait_for_later();
  client.send("GET /2 HTTP/1.1\r\nHost: x\r\n\r\n");
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  responder->send({.body = "first"});
  EXPECT_EQ(client.read_response().body, "first");
  EXPECT_EQ(client.read_response().body, "GET /2 ");
}

TEST_F(HttpServerTest, AnswersAClientThatOnlyStoppedSending) {
  start();
  HttpClient client(port());
  client.send("GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n");
  client.finish_sending();
  EXPECT_EQ(client.read_response().body, "GET /1 ");
  EXPECT_EQ(client.read_response().body, "GET /2 ");
  EXPECT_TRUE(client.at_end());
}

TEST_F(HttpServerTest, ReadsChunkedBodies) {
  start();
  HttpClient client(port());
  client.send("POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
  client.send("4;ext=1\r\ndefg\r\n0\r\nTrailer: x\r\n\r\n");
  EXPECT_EQ(client.read_response().body, "POST /c abcdefg");
  EXPECT_EQ(client.get("/next").status, 200);
}

TEST_F(HttpServerTest, AsksForABodyThatWaitsForPermission) {
  start();
  HttpClient client(port());
  client.send("POST /e HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  EXPECT_EQ(client.read_head().status, 100);
  client.send("ok");
  EXPECT_EQ(client.read_response().body, "POST /e ok");
}

TEST_F(HttpServerTest, RefusesBodiesThatAreTooLarge) {
  start({.max_body_bytes = 1000});
  HttpClient announced(port());
  announced.send("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n");
  EXPECT_EQ(announced.read_response().status, 413);
  EXPECT_TRUE(announced.at_end());

  HttpClient chunked(port());
  chunked.send("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
  for (int i = 0; i < 5; ++i) chunked.send("100\r\n" + std::string(256, 'x') + "\r\n");
  EXPECT_EQ(chunked.read_response().status, 413);

  HttpClient exact(port());
  EXPECT_EQ(exact.post("/", std::string(1000, 'x')).status, 200);
}

TEST_F(HttpServerTest, SendsTheRefusalAlsoToAClientThatKeepsSending) {
  start({.max_body_bytes = 1000});
  HttpClient client(port());
  client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + std::string(1000000, 'x'));
  EXPECT_EQ(client.read_response().status, 413);
}

TEST_F(HttpServerTest, RefusesHeadsThatAreTooLarge) {
  start();
  HttpClient client(port());
  client.send("GET / HTTP/1.1\r\nHost: x\r\nX: " + std::string(70'000, 'x') + "\r\n\r\n");
  EXPECT_EQ(client.read_response().status, 431);
  EXPECT_TRUE(client.at_end());
}

TEST_F(HttpServerTest, RefusesWhatItDoesNotUnderstand) {
  start();
  const auto status_of = [this](std::string_view bytes) {
    HttpClient client(port());
    client.send(bytes);
    return client.read_response().status;
  };
  EXPECT_EQ(status_of("not http\r\n\r\n"), 400);
  EXPECT_EQ(status_of("GET / HTTP/1.1\r\n\r\n"), 400);  // no Host
  EXPECT_EQ(status_of("GET / HTTP/2.0\r\nHost: x\r\n\r\n"), 505);
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n"), 400);
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"), 400);
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"), 501);
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), 400);
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx"), 415);
  EXPECT_EQ(status_of("POST / HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\nContent-Length: 1\r\n\r\nx"), 417);
}

TEST_F(HttpServerTest, RefusesAmbiguousLengths) {
  start();
  HttpClient client(port());
  client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
  EXPECT_EQ(client.read_response().status, 400);
}

TEST_F(HttpServerTest, GivesUpOnASlowHead) {
  start({.header_timeout_ms = 50});
  HttpClient client(port());
  client.send("GET / HTTP/1.1\r\nHo");
  EXPECT_EQ(client.read_response().status, 408);
  EXPECT_TRUE(client.at_end());
}

TEST_F(HttpServerTest, GivesUpOnASlowBody) {
  start({.body_timeout_ms = 50});
  HttpClient client(port());
  client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc");
  EXPECT_EQ(client.read_response().status, 408);
}

TEST_F(HttpServerTest, ClosesIdleConnectionsWithoutAWord) {
  start({.idle_timeout_ms = 50});
  HttpClient fresh(port());
  EXPECT_TRUE(fresh.at_end());
  HttpClient used(port());
  EXPECT_EQ(used.get("/").status, 200);
  EXPECT_TRUE(used.at_end());
}

TEST_F(HttpServerTest, LimitsTheNumberOfConnections) {
  start({.max_connections = 1});
  HttpClient first(port());
  EXPECT_EQ(first.get("/").status, 200);
  HttpClient second(port());
  EXPECT_EQ(second.read_response().status, 503);
}

TEST_F(HttpServerTest, StreamsChunks) {
  start();
  HttpClient client(port());
  client.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto responder = wait_for_later();
  responder->begin_stream({.content_type = "text/event-stream", .body = "data: 0\n\n"}, ": wait\n\n");
  EXPECT_EQ(client.read_head().header("Transfer-Encoding"), "chunked");
  EXPECT_EQ(client.read_event(), "data: 0");
  responder->write("data: 1\n\n");
  EXPECT_EQ(client.read_event(), "data: 1");
  responder->write("data: 2\n\n");
  responder->end();
  EXPECT_EQ(client.read_event(), "data: 2");
  EXPECT_EQ(client.read_event(), "");
  EXPECT_FALSE(*responder->cancelled());
  EXPECT_EQ(client.get("/next").status, 200);
}

TEST_F(HttpServerTest, StreamsToHttp10UntilTheConnectionCloses) {
  start();
  HttpClient client(port());
  client.send("GET /later HTTP/1.0\r\n\r\n");
  const auto responder = wait_for_later();
  responder->begin_stream({.body = "a"}, "");
  responder->write("b");
  responder->end();
  const ClientResponse response = client.read_response();
  EXPECT_EQ(response.header("Transfer-Encoding"), "");
  EXPECT_EQ(response.body, "ab");
}

TEST_F(HttpServerTest, FillsSilenceWithComments) {
  start({.keep_alive_ms = 10});
  HttpClient client(port());
  client.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto responder = wait_for_later();
  responder->begin_stream({}, ": wait\n\n");
  client.read_head();
  EXPECT_EQ(client.read_event(), ": wait");
  EXPECT_EQ(client.read_event(), ": wait");
  responder->end();
}

TEST_F(HttpServerTest, NoticesAClientThatLeavesWhileItWaits) {
  start();
  HttpClient client(port());
  client.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto responder = wait_for_later();
  const auto cancelled = responder->cancelled();
  EXPECT_FALSE(*cancelled);
  client.close();
  EXPECT_TRUE(becomes_true(*cancelled));
  responder->send({.body = "nobody reads this"});
}

TEST_F(HttpServerTest, NoticesAClientThatLeavesAStream) {
  start();
  HttpClient client(port());
  client.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto responder = wait_for_later();
  responder->begin_stream({.body = "x"}, "");
  client.read_head();
  client.close();
  EXPECT_TRUE(becomes_true(*responder->cancelled()));
  responder->write("y");
  responder->end();
}

TEST_F(HttpServerTest, CutsOffAClientThatDoesNotRead) {
  start({.max_queued_bytes = 100'000});
  HttpClient client(port());
  client.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto responder = wait_for_later();
  responder->begin_stream({}, "");
  const std::string chunk(50'000, 'x');
  for (int i = 0; i < 2000 && !*responder->cancelled(); ++i) {
    responder->write(chunk);
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  EXPECT_TRUE(*responder->cancelled());
}

TEST_F(HttpServerTest, ClosesWhenWritingMakesNoProgress) {
  start({.write_timeout_ms = 50});
  HttpClient client(port());
  client.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto responder = wait_for_later();
  std::string body;
  body.resize(50'000'000, 'x');
  responder->send({.body = std::move(body)});
  EXPECT_TRUE(becomes_true(*responder->cancelled()));
}

TEST_F(HttpServerTest, AnswersForAHandlerThatForgot) {
  start();
  HttpClient client(port());
  EXPECT_EQ(client.get("/dropped").status, 500);
  client.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
  auto responder = wait_for_later();
  responder->begin_stream({.body = "x"}, "");
  responder.reset();
  client.read_head();
  EXPECT_EQ(client.read_chunk(), "x");
  EXPECT_EQ(client.read_chunk(), std::nullopt);
}

TEST_F(HttpServerTest, SendsOnlyTheHeadToHead) {
  start();
  HttpClient client(port());
  client.send("HEAD /h HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(client.read_response(false).header("Content-Length"), "8");
  EXPECT_EQ(client.get("/next").body, "GET /next ");
}

TEST_F(HttpServerTest, StopsAfterTheRunningAnswer) {
  start();
  HttpClient idle(port());
  EXPECT_EQ(idle.get("/").status, 200);
  HttpClient client(port());
  client.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto responder = wait_for_later();
  std::thread stopping([this] { server_->stop(5'000); });
  EXPECT_TRUE(idle.at_end());
  responder->send({.body = "the last"});
  const ClientResponse response = client.read_response();
  EXPECT_EQ(response.body, "the last");
  EXPECT_TRUE(client.at_end());
  stopping.join();
}

TEST_F(HttpServerTest, CancelsAnswersThatOutlastTheGracePeriod) {
  start();
  HttpClient client(port());
  client.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto responder = wait_for_later();
  std::thread stopping([this] { server_->stop(10); });
  EXPECT_TRUE(becomes_true(*responder->cancelled()));
  responder->send({.status = 503, .body = "stopped"});
  EXPECT_EQ(client.read_response().status, 503);
  stopping.join();
}

TEST_F(HttpServerTest, OutlivesResponders) {
  start();
  HttpClient client(port());
  client.send("GET /later HTTP/1.1\r\nHost: x\r\n\r\n");
  const auto responder = wait_for_later();
  server_.reset();
  responder->begin_stream({}, "");
  responder->write("into the void");
}

TEST_F(HttpServerTest, ServesManyConnectionsAtOnce) {
  start();
  std::vector<std::unique_ptr<HttpClient>> clients;
  clients.reserve(200);
  for (int i = 0; i < 200; ++i) clients.push_back(std::make_unique<HttpClient>(port()));
  for (auto& client : clients) client->send("GET /x HTTP/1.1\r\nHost: x\r\n\r\n");
  for (auto& client : clients) EXPECT_EQ(client->read_response().body, "GET /x ");
}

}  // namespace
}  // namespace ds4
