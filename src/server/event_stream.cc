#include "server/event_stream.h"

#include <utility>

namespace ds4 {

HttpResponse event_stream_head(std::string first_events) {
  HttpResponse head{.content_type = std::string(kSseContentType), .body = std::move(first_events)};
  head.headers = {{"Cache-Control", "no-cache"}, {"X-Accel-Buffering", "no"}};
  return head;
}

}  // namespace ds4
