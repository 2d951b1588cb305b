#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/check.h"
#include "server/web_page.h"

// Whatever the headers hold, the answer is the page or 304, and only a text with "text/html" in it asks for the page.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string text(reinterpret_cast<const char*>(data), size);
  const ds4::HttpRequest request{
      .method = "GET", .target = "/", .headers = {{"Accept", text}, {"If-None-Match", text}}, .body = {}};
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  const bool wanted = ds4::wants_web_page(request);
  CHECK(!wanted || text.find("text/html") != std::string::npos, "'{}' asks for the page", text);
  const ds4::HttpResponse response = ds4::web_page_response(request);
  CHECK(response.status == 304 ? response.body.empty() : response.status == 200 && response.body == ds4::kWebPage.html,
        "status {}, {} bytes", response.status, response.body.size());
  return 0;
}
