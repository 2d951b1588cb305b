#pragma once

// For the answer targets: keeps the bytes that a client would get. One thread.

#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "server/http_message.h"

namespace ds4::test {

class KeepingResponder final : public Responder {
 public:
  void send(HttpResponse response) override { bytes = std::move(response.body); }
  void begin_stream(HttpResponse head, std::string) override { bytes = std::move(head.body); }
  void write(std::string chunk) override { bytes += chunk; }
  void end() override {}
  std::shared_ptr<std::atomic<bool>> cancelled() const override { return nullptr; }

  std::string bytes;
};

}  // namespace ds4::test
