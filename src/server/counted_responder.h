#pragma once

// A Responder that tells the metrics when an answer has ended, with what status and after how long. It passes
// everything on. One that is dropped before its end counts as 500, which is what the client gets.

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "base/clock.h"
#include "server/http_message.h"
#include "server/metrics.h"

namespace ds4 {

class CountedResponder final : public Responder {
 public:
  // The text of `endpoint` outlives the answer.
  CountedResponder(std::shared_ptr<Responder> inner, std::string_view endpoint, std::shared_ptr<Metrics> metrics);
  ~CountedResponder() override;
  CountedResponder(const CountedResponder&) = delete;
  CountedResponder& operator=(const CountedResponder&) = delete;

  void send(HttpResponse response) override;
  void begin_stream(HttpResponse head, std::string keep_alive) override;
  void write(std::string chunk) override { inner_->write(std::move(chunk)); }
  void end() override;
  std::shared_ptr<std::atomic<bool>> cancelled() const override { return inner_->cancelled(); }
  bool server_stops() const override { return inner_->server_stops(); }

 private:
  void count(int status);

  const std::shared_ptr<Responder> inner_;
  const std::string_view endpoint_;
  const std::shared_ptr<Metrics> metrics_;
  const MonotonicClock clock_;
  const int64_t start_us_ = clock_.now_us();
  int stream_status_ = 500;
  bool counted_ = false;
};

}  // namespace ds4
