#pragma once

// The chat page that browsers get at /: one HTML text with its style and its script, made of src/server/web/ by
// cmake/embed_page.cmake. It talks to this server only, which its Content-Security-Policy enforces: nothing runs but
// the script whose hash is named there. Constant data and pure functions, any thread.

#include <string_view>

#include "server/http_message.h"

namespace ds4 {

struct WebPage {
  std::string_view html;
  std::string_view etag;         // with its quotes
  std::string_view script_hash;  // 'sha256-...', as in a policy
  std::string_view style_hash;
};

extern const WebPage kWebPage;

// True when the client names text/html among what it accepts, as browsers do.
bool wants_web_page(const HttpRequest& request);

// The page, or 304 without a body for a client that has it.
HttpResponse web_page_response(const HttpRequest& request);

}  // namespace ds4
