#include "server/web_page.h"

#include <algorithm>
#include <string>

#include <fmt/format.h>

namespace ds4 {
namespace {

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool equal_ignoring_case(std::string_view a, std::string_view b) { return std::ranges::equal(a, b, {}, lower, lower); }

std::string_view trim(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

// Calls `found` with every element of the comma-separated lists that the headers of this name hold, until it returns
// true.
template <class Function>
bool any_element(const HttpRequest& request, std::string_view name, Function found) {
  for (const HttpHeader& header : request.headers) {
    if (!equal_ignoring_case(header.name, name)) continue;
    std::string_view rest = header.value;
    while (!rest.empty()) {
      const size_t comma = std::min(rest.find(','), rest.size());
      if (found(trim(rest.substr(0, comma)))) return true;
      rest.remove_prefix(std::min(comma + 1, rest.size()));
    }
  }
  return false;
}

// Styles that the script sets on elements are not markup, so the policy does not forbid them.
std::string content_security_policy() {
  return fmt::format(
      "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; "
      "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
      kWebPage.script_hash, kWebPage.style_hash);
}

}  // namespace

bool wants_web_page(const HttpRequest& request) {
  return any_element(request, "Accept", [](std::string_view element) {
    return equal_ignoring_case(trim(element.substr(0, element.find(';'))), "text/html");
  });
}

HttpResponse web_page_response(const HttpRequest& request) {
  HttpResponse response{.headers = {{"ETag", std::string(kWebPage.etag)},
                                    {"Cache-Control", "no-cache"},
                                    {"Vary", "Accept"},
                                    {"Content-Security-Policy", content_security_policy()},
                                    {"Referrer-Policy", "no-referrer"},
                                    {"X-Content-Type-Options", "nosniff"}}};
  const bool is_known = any_element(request, "If-None-Match", [](std::string_view element) {
    if (element.starts_with("W/")) element.remove_prefix(2);
    return element == kWebPage.etag || element == "*";
  });
  if (is_known) {
    response.status = 304;
  } else {
    response.content_type = "text/html; charset=utf-8";
    response.body = kWebPage.html;
  }
  return response;
}

}  // namespace ds4
