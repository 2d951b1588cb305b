#pragma once

// Server-sent events: the text form of one event of a stream. Payloads are single-line texts (JSON never holds a raw
// line end). Pure functions, any thread.

#include <string>
#include <string_view>

namespace ds4 {

inline constexpr std::string_view kSseContentType = "text/event-stream";

// "data: PAYLOAD" and an empty line. Precondition: no line end in `payload`.
std::string sse_data(std::string_view payload);
// The same with an "event: NAME" line first.
std::string sse_event(std::string_view name, std::string_view payload);
// ": TEXT" and an empty line, which clients skip: keeps connections and proxies awake.
std::string sse_comment(std::string_view text);

}  // namespace ds4
