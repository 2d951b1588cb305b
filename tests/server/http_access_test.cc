#include "server/http_access.h"

#include <stdlib.h>

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/http_client.h"

namespace ds4 {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

HttpRequest request(std::string target, std::vector<HttpHeader> headers, std::string method = "GET") {
  return {.method = std::move(method), .target = std::move(target), .headers = std::move(headers), .body = {}};
}

int status_of(const HttpAccess& access, const HttpRequest& head) {
  const HttpAdmission admission = access.admit(head);
  return admission.refusal ? admission.refusal->status : 200;
}

std::string header_of(const std::vector<HttpHeader>& headers, std::string_view name) {
  for (const HttpHeader& header : headers) {
    if (header.name == name) return header.value;
  }
  return {};
}

TEST(HttpAccessTest, WantsOneOfTheKeys) {
  const HttpAccess access({.keys = {"one", "two"}});
  EXPECT_EQ(status_of(access, request("/v1/models", {{"authorization", "Bearer one"}})), 200);
  EXPECT_EQ(status_of(access, request("/v1/models", {{"Authorization", "bearer  two "}})), 200);
  EXPECT_EQ(status_of(access, request("/v1/models", {{"X-Api-Key", "two"}})), 200);
  for (const char* wrong : {"", "on", "onee", "One", "one two"}) {
    EXPECT_EQ(status_of(access, request("/v1/models", {{"x-api-key", wrong}})), 401) << wrong;
  }
  EXPECT_EQ(status_of(access, request("/v1/models", {{"Authorization", "Basic one"}})), 401);
  EXPECT_EQ(status_of(access, request("/v1/models", {})), 401);
}

TEST(HttpAccessTest, LeavesHealthPageAndPreflightsOpen) {
  const HttpAccess access({.keys = {"one"}});
  EXPECT_EQ(status_of(access, request("/health", {})), 200);
  EXPECT_EQ(status_of(access, request("/ready?x", {}, "HEAD")), 200);
  EXPECT_EQ(status_of(access, request("/v1/chat/completions", {}, "OPTIONS")), 200);
  EXPECT_EQ(status_of(access, request("/", {})), 200);
  EXPECT_EQ(status_of(access, request("/", {}, "POST")), 401);
  for (const char* path : {"/metrics", "/props", "/healthy", "/health/x"}) {
    EXPECT_EQ(status_of(access, request(path, {})), 401) << path;
  }
}

TEST(HttpAccessTest, RefusesInTheFormOfThePath) {
  const HttpAccess access({.keys = {"one"}});
  const auto openai = access.admit(request("/v1/chat/completions", {}, "POST"));
  EXPECT_THAT(openai.refusal->body, HasSubstr(R"("code":"invalid_api_key")"));
  const auto anthropic = access.admit(request("/v1/messages?beta=true", {{"x-api-key", "secret"}}, "POST"));
  EXPECT_THAT(anthropic.refusal->body, HasSubstr(R"({"type":"error","error":{"type":"authentication_error")"));
  EXPECT_THAT(anthropic.refusal->body, testing::Not(HasSubstr("secret")));
  const auto models = access.admit(request("/v1/models", {{"anthropic-version", "2023-06-01"}}));
  EXPECT_THAT(models.refusal->body, HasSubstr("authentication_error"));
}

TEST(HttpAccessTest, AnswersToAddressesAndItsOwnNames) {
  const HttpAccess access({.checks_host = true, .allowed_hosts = {"Box.Example"}});
  for (const char* host : {"localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000", "192.168.0.7", "box.example:80"})
    EXPECT_EQ(status_of(access, request("/", {{"Host", host}})), 200) << host;
  for (const char* host : {"evil.example", "localhost.evil.example:8000", "127.0.0.1.evil.example"})
    EXPECT_EQ(status_of(access, request("/", {{"Host", host}})), 403) << host;
  EXPECT_EQ(status_of(access, request("/health", {{"Host", "evil.example"}})), 403);
  EXPECT_EQ(status_of(HttpAccess({}), request("/", {{"Host", "evil.example"}})), 200);
}

TEST(HttpAccessTest, NamesTheOriginsThatMayUseIt) {
  const HttpAccess some({.origins = {"https://a.example", "https://b.example"}});
  const auto allowed = some.admit(request("/", {{"Origin", "https://b.example"}}));
  EXPECT_EQ(header_of(allowed.headers, "Access-Control-Allow-Origin"), "https://b.example");
  EXPECT_EQ(header_of(allowed.headers, "Vary"), "Origin");
  EXPECT_NE(header_of(allowed.headers, "Access-Control-Expose-Headers"), "");
  const auto other = some.admit(request("/", {{"Origin", "https://c.example"}}));
  EXPECT_EQ(header_of(other.headers, "Access-Control-Allow-Origin"), "");
  EXPECT_EQ(header_of(other.headers, "Vary"), "Origin");

  const HttpAccess any({.any_origin = true});
  EXPECT_EQ(header_of(any.admit(request("/", {})).headers, "Access-Control-Allow-Origin"), "*");
  EXPECT_TRUE(HttpAccess({}).admit(request("/", {{"Origin", "https://a.example"}})).headers.empty());
}

// The body is not read, and a page may see why.
TEST(HttpAccessTest, RefusesBeforeTheBodyHasCome) {
  const HttpAccess access({.keys = {"one"}, .any_origin = true});
  auto server = HttpServer::start({.host = "127.0.0.1",
                                   .port = 0,
                                   .n_threads = 1,
                                   .admit = [&](const HttpRequest& head) { return access.admit(head); }},
                                  [](const HttpRequest& head, const std::shared_ptr<Responder>& responder) {
                                    responder->send({.body = head.body});
                                  });
  ASSERT_TRUE(server.ok());
  HttpClient client(server.value()->port());
  client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n");
  const ClientResponse refused = client.read_response();
  EXPECT_EQ(refused.status, 401);
  EXPECT_EQ(refused.header("Access-Control-Allow-Origin"), "*");
  EXPECT_TRUE(client.at_end());
  HttpClient head(server.value()->port());
  head.send("HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
  EXPECT_EQ(head.read_response(false).status, 401);
  EXPECT_TRUE(head.at_end());
  HttpClient friendly(server.value()->port());
  friendly.send("POST / HTTP/1.1\r\nHost: x\r\nx-api-key: one\r\nContent-Length: 2\r\n\r\nok");
  EXPECT_EQ(friendly.read_response().body, "ok");
}

TEST(HttpAccessTest, ReadsKeysFromAFile) {
  std::string name = (std::filesystem::temp_directory_path() / "ds4_keys_XXXXXX").string();
  ASSERT_NE(mkdtemp(name.data()), nullptr);
  const std::string path = name + "/keys";
  std::ofstream(path) << "# people\n  one \r\n\n#two\nthree";
  const auto keys = read_api_keys(path);
  ASSERT_TRUE(keys.ok()) << keys.error().message;
  EXPECT_THAT(keys.value(), ElementsAre("one", "three"));
  std::ofstream(path) << "# nothing\n";
  EXPECT_FALSE(read_api_keys(path).ok());
  EXPECT_FALSE(read_api_keys(name + "/absent").ok());
  std::filesystem::remove_all(name);
}

}  // namespace
}  // namespace ds4
