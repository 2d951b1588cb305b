#include "server/sse.h"

#include <fmt/format.h>

#include "base/check.h"

namespace ds4 {

std::string sse_data(std::string_view payload) {
  DCHECK(payload.find_first_of("\r\n") == std::string_view::npos, "line end in an event");
  return fmt::format("data: {}\n\n", payload);
}

std::string sse_event(std::string_view name, std::string_view payload) {
  return fmt::format("event: {}\n{}", name, sse_data(payload));
}

std::string sse_comment(std::string_view text) { return fmt::format(": {}\n\n", text); }

}  // namespace ds4
