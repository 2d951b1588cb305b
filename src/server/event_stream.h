#pragma once

// How the sinks of all dialects write a stream of server-sent events to a Responder. Used by one thread at a time.

#include <string>
#include <utility>
#include <variant>

#include "chat/events.h"
#include "server/http_message.h"
#include "server/sse.h"

namespace ds4 {

// The head of a stream that begins with these events. Proxies must pass every event on at once.
HttpResponse event_stream_head(std::string first_events);

// Writes what `encode` makes of the events: text, or nothing.
template <class Encode>
void write_events(const OutputEvents& events, Responder& responder, const Encode& encode) {
  std::string bytes;
  for (const OutputEvent& event : events) bytes += std::visit(encode, event);
  if (!bytes.empty()) responder.write(std::move(bytes));
}

}  // namespace ds4
