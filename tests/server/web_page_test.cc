#include "server/web_page.h"

#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>
#include <openssl/sha.h>

namespace ds4 {
namespace {

using testing::HasSubstr;
using testing::Not;

HttpRequest get(std::vector<HttpHeader> headers) {
  return {.method = "GET", .target = "/", .headers = std::move(headers), .body = {}};
}

std::string header_of(const HttpResponse& response, std::string_view name) {
  for (const HttpHeader& header : response.headers) {
    if (header.name == name) return header.value;
  }
  return {};
}

// As a browser computes it, of what stands between the tags.
std::string hash_between(std::string_view html, std::string_view begin, std::string_view end) {
  const size_t first = html.find(begin) + begin.size();
  const std::string text(html.substr(first, html.find(end, first) - first));
  unsigned char digest[SHA256_DIGEST_LENGTH];
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest);
  unsigned char base64[64];
  EVP_EncodeBlock(base64, digest, SHA256_DIGEST_LENGTH);
  return fmt::format("'sha256-{}'", reinterpret_cast<const char*>(base64));
}

TEST(WebPageTest, IsForClientsThatNameHtml) {
  EXPECT_TRUE(wants_web_page(get({{"Accept", "text/html,application/xhtml+xml,*/*;q=0.8"}})));
  EXPECT_TRUE(wants_web_page(get({{"accept", " */* , TEXT/HTML ; q=0.9"}})));
  EXPECT_TRUE(wants_web_page(get({{"Accept", "image/png"}, {"Accept", "text/html"}})));
  EXPECT_FALSE(wants_web_page(get({})));
  EXPECT_FALSE(wants_web_page(get({{"Accept", "*/*"}})));
  EXPECT_FALSE(wants_web_page(get({{"Accept", "text/htmlx, xtext/html,,"}})));
  EXPECT_FALSE(wants_web_page(get({{"Content-Type", "text/html"}})));
}

TEST(WebPageTest, PolicyHasTheHashesOfStyleAndScript) {
  const HttpResponse response = web_page_response(get({}));
  EXPECT_EQ(response.status, 200);
  EXPECT_EQ(response.content_type, "text/html; charset=utf-8");
  const std::string policy = header_of(response, "Content-Security-Policy");
  EXPECT_THAT(policy, HasSubstr("default-src 'none'"));
  EXPECT_THAT(policy,
              HasSubstr("script-src " + hash_between(response.body, "<script type=\"module\">", "</script>") + ";"));
  EXPECT_THAT(policy, HasSubstr("style-src " + hash_between(response.body, "<style>", "</style>") + ";"));
  EXPECT_THAT(policy, Not(HasSubstr("unsafe")));
}

TEST(WebPageTest, PageIsWholeAndNamesNoOtherSource) {
  EXPECT_TRUE(kWebPage.html.starts_with("<!doctype html>"));
  EXPECT_TRUE(kWebPage.html.ends_with("</html>\n"));
  for (const char* absent : {"@STYLE@", "@SCRIPT@", "\nimport ", "\nexport ", "<script src", "@import", "url(http"}) {
    EXPECT_EQ(kWebPage.html.find(absent), std::string_view::npos) << absent;
  }
}

TEST(WebPageTest, IsNotSentTwice) {
  const std::string etag = header_of(web_page_response(get({})), "ETag");
  EXPECT_THAT(etag, testing::MatchesRegex("\"[0-9a-f]{32}\""));
  for (const std::string& known : {etag, "\"other\", W/" + etag, std::string("*")}) {
    const HttpResponse response = web_page_response(get({{"If-None-Match", known}}));
    EXPECT_EQ(response.status, 304) << known;
    EXPECT_TRUE(response.body.empty());
    EXPECT_EQ(header_of(response, "ETag"), etag);
    EXPECT_EQ(header_of(response, "Cache-Control"), "no-cache");
  }
  EXPECT_EQ(web_page_response(get({{"If-None-Match", "\"other\""}})).status, 200);
}

}  // namespace
}  // namespace ds4
