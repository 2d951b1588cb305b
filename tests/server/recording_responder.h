#pragma once

// A Responder that keeps what a sink sends, for tests without sockets.

#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/http_message.h"

namespace ds4::test {

class RecordingResponder final : public Responder {
 public:
  void send(HttpResponse response) override {
    EXPECT_FALSE(has_sent || has_begun);
    has_sent = true;
    whole = std::move(response);
  }
  void begin_stream(HttpResponse head, std::string keep_alive) override {
    EXPECT_FALSE(has_sent || has_begun);
    has_begun = true;
    stream = std::move(head.body);
    whole = std::move(head);
    comment = std::move(keep_alive);
  }
  void write(std::string chunk) override {
    EXPECT_TRUE(has_begun && !has_ended);
    stream += chunk;
  }
  void end() override { has_ended = true; }
  std::shared_ptr<std::atomic<bool>> cancelled() const override { return flag; }
  bool server_stops() const override { return stops; }

  // The payloads of all "data:" lines.
  std::vector<std::string> payloads() const {
    std::vector<std::string> found;
    for (size_t at = stream.find("data: "); at != std::string::npos; at = stream.find("data: ", at)) {
      at += 6;
      found.push_back(stream.substr(at, stream.find('\n', at) - at));
    }
    return found;
  }

  std::shared_ptr<std::atomic<bool>> flag = std::make_shared<std::atomic<bool>>(false);
  bool stops = false;
  HttpResponse whole;
  std::string comment;
  std::string stream;
  bool has_sent = false;
  bool has_begun = false;
  bool has_ended = false;
};

}  // namespace ds4::test
