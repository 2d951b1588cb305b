#include "server/counted_responder.h"

#include <utility>

namespace ds4 {

CountedResponder::CountedResponder(std::shared_ptr<Responder> inner, std::string_view endpoint,
                                   std::shared_ptr<Metrics> metrics)
    : inner_(std::move(inner)), endpoint_(endpoint), metrics_(std::move(metrics)) {
  metrics_->request_began();
}

CountedResponder::~CountedResponder() { count(500); }

void CountedResponder::send(HttpResponse response) {
  const int status = response.status;
  inner_->send(std::move(response));
  count(status);
}

void CountedResponder::begin_stream(HttpResponse head, std::string keep_alive) {
  stream_status_ = head.status;
  inner_->begin_stream(std::move(head), std::move(keep_alive));
}

void CountedResponder::end() {
  inner_->end();
  count(stream_status_);
}

void CountedResponder::count(int status) {
  if (std::exchange(counted_, true)) return;
  metrics_->request_ended(endpoint_, status, clock_.elapsed_us(start_us_));
}

}  // namespace ds4
